//! The calls: one small function each. What is gone already is no failure of a deletion.

use reqwest::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::access::Access;
use super::error::{ApiError, Code};
use super::transport::{Ask, Timing, Transport};
use super::wire::{
    Action, Firewall, Image, Labels, Location, NewServer, PlacementGroup, Rule, Server, ServerType, SshKey,
};
use crate::failure::Failure;

/// So many things a page, the most there are.
const PER_PAGE: &str = "50";
/// A listing with more pages does not end.
const MAX_PAGES: usize = 400;

/// The client.
pub struct Hetzner {
    pub(super) transport: Transport,
}

/// A server that is being made.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Created {
    /// The server.
    pub server: Server,
    action: Action,
    #[serde(default)]
    next_actions: Option<Vec<Action>>,
}

impl Created {
    /// What is to be waited for.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        std::iter::once(&self.action).chain(self.next_actions.iter().flatten())
    }
}

/// A selector of everything with these labels.
#[must_use]
pub fn selector(labels: &[(&str, &str)]) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

impl Hetzner {
    /// A client of the API that `access` opens; the TLS provider has to be installed.
    ///
    /// # Errors
    /// [`Failure`] where the system gives no HTTP client.
    pub fn new(access: Access, timing: Timing) -> Result<Self, Failure> {
        Ok(Self { transport: Transport::new(access, timing)? })
    }

    /// The servers with these labels; all, where none are named.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn servers(&self, selector: &str) -> Result<Vec<Server>, ApiError> {
        match selector {
            "" => self.list("servers", &[]).await,
            _ => self.list("servers", &[("label_selector", selector)]).await,
        }
    }

    /// The server with this name.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn server_named(&self, name: &str) -> Result<Option<Server>, ApiError> {
        Ok(self.list("servers", &[("name", name)]).await?.into_iter().next())
    }

    /// Makes a server.
    ///
    /// # Errors
    /// [`ApiError`]; the server may have been made where no answer came.
    pub async fn create_server(&self, new: &NewServer) -> Result<Created, ApiError> {
        self.post("/servers", json!(new)).await
    }

    /// Gives a server power.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn power_on(&self, server: u64) -> Result<Action, ApiError> {
        let answer: One = self.post(format!("/servers/{server}/actions/poweron"), json!({})).await?;
        Ok(answer.action)
    }

    /// Deletes a server; no action where it is gone already.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn delete_server(&self, server: u64) -> Result<Option<Action>, ApiError> {
        let answer: Option<One> = self.delete(format!("/servers/{server}")).await?;
        Ok(answer.map(|answer| answer.action))
    }

    /// All types of servers, with their prices.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn server_types(&self) -> Result<Vec<ServerType>, ApiError> {
        self.list("server_types", &[]).await
    }

    /// All locations.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn locations(&self) -> Result<Vec<Location>, ApiError> {
        self.list("locations", &[]).await
    }

    /// The system images of this name, one for each architecture.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn images(&self, name: &str) -> Result<Vec<Image>, ApiError> {
        self.list("images", &[("name", name), ("include_deprecated", "true")]).await
    }

    /// In which money prices are.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn currency(&self) -> Result<String, ApiError> {
        let answer = self.transport.call(&Ask::new(Method::GET, "/pricing")).await?;
        let currency = answer.pointer("/pricing/currency").and_then(Value::as_str);
        Ok(currency.unwrap_or("EUR").to_owned())
    }

    /// All public keys.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn ssh_keys(&self) -> Result<Vec<SshKey>, ApiError> {
        self.list("ssh_keys", &[]).await
    }

    /// Uploads a public key.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn create_ssh_key(
        &self,
        name: &str,
        public_key: &str,
        labels: &Labels,
    ) -> Result<SshKey, ApiError> {
        let body = json!({"name": name, "public_key": public_key, "labels": labels});
        self.post_for("/ssh_keys", body, "ssh_key").await
    }

    /// Deletes a public key.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn delete_ssh_key(&self, key: u64) -> Result<(), ApiError> {
        self.delete::<Value>(format!("/ssh_keys/{key}")).await.map(drop)
    }

    /// The firewalls with these labels.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn firewalls(&self, selector: &str) -> Result<Vec<Firewall>, ApiError> {
        self.list("firewalls", &[("label_selector", selector)]).await
    }

    /// Makes a firewall before all servers that `before` selects, those that are still to come among them.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn create_firewall(
        &self,
        name: &str,
        labels: &Labels,
        rules: &[Rule],
        before: &str,
    ) -> Result<Firewall, ApiError> {
        let body = json!({"name": name, "labels": labels, "rules": rules, "apply_to": [by_label(before)]});
        self.post_for("/firewalls", body, "firewall").await
    }

    /// Gives a firewall these rules in place of those that it has.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn set_rules(&self, firewall: u64, rules: &[Rule]) -> Result<Vec<Action>, ApiError> {
        let path = format!("/firewalls/{firewall}/actions/set_rules");
        self.post_for(path, json!({"rules": rules}), "actions").await
    }

    /// Takes a firewall away from the servers that `before` selects; what is gone already is no failure.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn detach_firewall(&self, firewall: u64, before: &str) -> Result<Vec<Action>, ApiError> {
        let path = format!("/firewalls/{firewall}/actions/remove_from_resources");
        let body = json!({"remove_from": [by_label(before)]});
        match self.post_for(path, body, "actions").await {
            Err(err) if is_gone(&err) => Ok(Vec::new()),
            other => other,
        }
    }

    /// Deletes a firewall, which has to stand before nothing.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn delete_firewall(&self, firewall: u64) -> Result<(), ApiError> {
        self.delete::<Value>(format!("/firewalls/{firewall}")).await.map(drop)
    }

    /// The placement groups with these labels.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn placement_groups(&self, selector: &str) -> Result<Vec<PlacementGroup>, ApiError> {
        self.list("placement_groups", &[("label_selector", selector)]).await
    }

    /// Makes a group whose servers stand on different hosts.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn create_placement_group(
        &self,
        name: &str,
        labels: &Labels,
    ) -> Result<PlacementGroup, ApiError> {
        let body = json!({"name": name, "labels": labels, "type": "spread"});
        self.post_for("/placement_groups", body, "placement_group").await
    }

    /// Deletes a placement group.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn delete_placement_group(&self, group: u64) -> Result<(), ApiError> {
        self.delete::<Value>(format!("/placement_groups/{group}")).await.map(drop)
    }

    /// All pages of a listing; `kind` is its path and the key of its answers.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        kind: &str,
        query: &[(&'static str, &str)],
    ) -> Result<Vec<T>, ApiError> {
        let (mut all, mut page) = (Vec::new(), 1);
        for _ in 0..MAX_PAGES {
            let mut ask = Ask::new(Method::GET, format!("/{kind}"));
            ask.query = query.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
            ask.query.extend([("page", page.to_string()), ("per_page", PER_PAGE.to_owned())]);
            let mut answer = self.transport.call(&ask).await?;
            let next = answer.pointer("/meta/pagination/next_page").and_then(Value::as_u64);
            all.extend(self.take::<Vec<T>>(&ask, &mut answer, kind)?);
            match next {
                Some(next) if next > page => page = next,
                _ => return Ok(all),
            }
        }
        let call = self.transport.shown(&Ask::new(Method::GET, format!("/{kind}")));
        Err(ApiError::Strange { call, why: "the pages do not end".to_owned() })
    }

    async fn post<T: DeserializeOwned>(&self, path: impl Into<String>, body: Value) -> Result<T, ApiError> {
        let ask = Ask { body: Some(body), ..Ask::new(Method::POST, path) };
        let answer = self.transport.call(&ask).await?;
        self.read(&ask, answer)
    }

    /// The part `key` of the answer.
    async fn post_for<T: DeserializeOwned>(
        &self,
        path: impl Into<String>,
        body: Value,
        key: &str,
    ) -> Result<T, ApiError> {
        let ask = Ask { body: Some(body), ..Ask::new(Method::POST, path) };
        let mut answer = self.transport.call(&ask).await?;
        self.take(&ask, &mut answer, key)
    }

    /// `None` where it is gone, or the answer says nothing.
    async fn delete<T: DeserializeOwned>(&self, path: String) -> Result<Option<T>, ApiError> {
        let ask = Ask::new(Method::DELETE, path);
        match self.transport.call(&ask).await {
            Ok(Value::Null) => Ok(None),
            Ok(answer) => self.read(&ask, answer).map(Some),
            Err(err) if err.is(&Code::NotFound) => Ok(None),
            Err(err) => Err(err),
        }
    }

    fn take<T: DeserializeOwned>(&self, ask: &Ask<'_>, answer: &mut Value, key: &str) -> Result<T, ApiError> {
        let part = answer.as_object_mut().and_then(|answer: &mut Map<String, Value>| answer.remove(key));
        let part = part.ok_or_else(|| ApiError::Strange {
            call: self.transport.shown(ask),
            why: format!("it has no {key}"),
        })?;
        self.read(ask, part)
    }

    fn read<T: DeserializeOwned>(&self, ask: &Ask<'_>, answer: Value) -> Result<T, ApiError> {
        serde_json::from_value(answer)
            .map_err(|err| ApiError::Strange { call: self.transport.shown(ask), why: err.to_string() })
    }
}

#[derive(Deserialize)]
struct One {
    action: Action,
}

fn by_label(selector: &str) -> Value {
    json!({"type": "label_selector", "label_selector": {"selector": selector}})
}

/// The firewall, or what it stands before, is not there.
fn is_gone(err: &ApiError) -> bool {
    match err.code() {
        Some(Code::NotFound) => true,
        Some(Code::Other(word)) => {
            matches!(word.as_str(), "firewall_resource_not_found" | "firewall_already_removed")
        }
        _ => false,
    }
}
