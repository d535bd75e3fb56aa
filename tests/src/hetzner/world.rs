//! The project's state: everything there is, by kind and number, as the JSON that the API shows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::catalogue;
use super::faults::{Fault, Rule};

/// A refusal: the status, the API's code, a sentence.
pub(super) type Refusal = (u16, &'static str, String);

/// A request that came.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its path, after the version.
    pub path: String,
    /// Its query.
    pub query: String,
    /// Its body.
    pub body: Value,
}

/// The project.
pub struct World {
    tables: BTreeMap<&'static str, BTreeMap<u64, Value>>,
    /// Actions that run: the request with which each ends.
    due: BTreeMap<u64, u64>,
    /// Servers whose machines are just being made: no action on them ends before.
    pub(super) coming: BTreeSet<u64>,
    next_id: u64,
    /// How many requests came.
    pub requests: u64,
    /// All of them.
    pub log: Vec<Seen>,
    /// What goes wrong.
    pub rules: Vec<Rule>,
    /// An action ends so many requests after it was begun.
    pub action_takes: u64,
    /// No page is longer.
    pub page_cap: usize,
    /// No project has more servers.
    pub server_limit: usize,
    /// Requests an hour, and what is left of them; they do not come back.
    pub budget: (u64, u64),
    /// How many machines of a type are left at a location; all others are without end.
    pub stock: BTreeMap<(String, String), usize>,
    /// Actions with these commands end badly, each once: command and code.
    pub failing_actions: Vec<(&'static str, &'static str)>,
}

impl World {
    pub(super) fn new() -> Self {
        let mut tables: BTreeMap<&'static str, BTreeMap<u64, Value>> = BTreeMap::new();
        let offers = [
            ("locations", catalogue::locations()),
            ("server_types", catalogue::server_types()),
            ("images", catalogue::images()),
        ];
        for (kind, things) in offers {
            tables.insert(kind, things.into_iter().map(|thing| (id(&thing), thing)).collect());
        }
        Self {
            tables,
            due: BTreeMap::new(),
            coming: BTreeSet::new(),
            next_id: 1,
            requests: 0,
            log: Vec::new(),
            rules: Vec::new(),
            action_takes: 2,
            page_cap: 50,
            server_limit: 100,
            budget: (3600, 3600),
            stock: BTreeMap::new(),
            failing_actions: Vec::new(),
        }
    }

    /// Everything of a kind: `servers`, `firewalls`, `placement_groups`, `ssh_keys`, …
    #[must_use]
    pub fn all(&self, kind: &str) -> Vec<Value> {
        self.tables.get(kind).into_iter().flat_map(|table| table.values().cloned()).collect()
    }

    /// The names of everything of a kind.
    #[must_use]
    pub fn names(&self, kind: &str) -> BTreeSet<String> {
        self.all(kind).iter().filter_map(|thing| thing["name"].as_str().map(str::to_owned)).collect()
    }

    /// So many requests of this kind came.
    #[must_use]
    pub fn count(&self, method: &str, path: &str) -> usize {
        self.log.iter().filter(|seen| seen.method == method && seen.path == path).count()
    }

    /// Nothing of these types is to be had but at `location`.
    pub fn sell_out_but(&mut self, location: &str) {
        for (place, ..) in catalogue::LOCATIONS.iter().filter(|(place, ..)| *place != location) {
            for kind in self.names("server_types") {
                self.stock.insert((kind, (*place).to_owned()), 0);
            }
        }
    }

    pub(super) fn table(&mut self, kind: &'static str) -> &mut BTreeMap<u64, Value> {
        self.tables.entry(kind).or_default()
    }

    /// A server is no more, and in no placement group.
    pub(super) fn forget_server(&mut self, id: u64) {
        self.table("servers").remove(&id);
        for group in self.table("placement_groups").values_mut() {
            if let Value::Array(servers) = &mut group["servers"] {
                servers.retain(|server| *server != id);
            }
        }
    }

    pub(super) fn get(&self, kind: &str, id: u64) -> Result<&Value, Refusal> {
        let found = self.tables.get(kind).and_then(|table| table.get(&id));
        found.ok_or_else(|| (404, "not_found", format!("{kind} with ID '{id}' not found")))
    }

    pub(super) fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id + 4_000_000_000
    }

    /// A name is had once.
    pub(super) fn unique(&self, kind: &str, name: &str) -> Result<(), Refusal> {
        match self.names(kind).contains(name) {
            true => Err((409, "uniqueness_error", format!("{kind} name is already used"))),
            false => Ok(()),
        }
    }

    /// A request came: time goes on, and actions end. The fault that hits it.
    pub(super) fn tick(&mut self, seen: Seen) -> Option<Fault> {
        self.requests += 1;
        let is_over = |(action, due): &(&u64, &u64)| {
            let about =
                self.get("actions", **action).ok().and_then(|action| action["resources"][0]["id"].as_u64());
            **due <= self.requests && about.is_none_or(|about| !self.coming.contains(&about))
        };
        let over: Vec<u64> = self.due.iter().filter(is_over).map(|(id, _)| *id).collect();
        for action in over {
            self.end(action);
        }
        let fault = self.rules.iter_mut().find_map(|rule| {
            let hit = rule.hits(&seen.method, &seen.path);
            hit.then(|| rule.fault.clone())
        });
        self.log.push(seen);
        fault
    }

    /// Takes one request off the budget, if there is one.
    pub(super) fn spend(&mut self) -> bool {
        let had = self.budget.1 > 0;
        self.budget.1 = self.budget.1.saturating_sub(1);
        had
    }

    /// Begins an action; as the API shows it.
    pub(super) fn begin(&mut self, command: &str, kind: &str, resource: u64) -> Value {
        let id = self.fresh();
        let action = json!({"id": id, "command": command, "status": "running", "progress": 0,
            "started": "2026-11-22T20:16:55+00:00", "finished": null, "error": null,
            "resources": [{"id": resource, "type": kind}]});
        self.due.insert(id, self.requests + self.action_takes);
        self.table("actions").insert(id, action.clone());
        action
    }

    /// Is an action at work on it?
    pub(super) fn is_locked(&self, resource: u64) -> bool {
        let about =
            |action: &u64| self.get("actions", *action).is_ok_and(|a| a["resources"][0]["id"] == resource);
        self.due.keys().any(about)
    }

    fn end(&mut self, action: u64) {
        self.due.remove(&action);
        let Some(shown) = self.table("actions").get(&action).cloned() else { return };
        let command = shown["command"].as_str().unwrap_or_default().to_owned();
        let server = shown["resources"][0]["id"].as_u64().unwrap_or_default();
        let failing = self.failing_actions.iter().position(|(name, _)| *name == command);
        let failure = failing.map(|at| self.failing_actions.remove(at).1);
        let mut change =
            json!({"status": "success", "progress": 100, "finished": "2026-11-22T20:17:00+00:00"});
        if let Some(code) = failure {
            change["status"] = "error".into();
            change["error"] = json!({"code": code, "message": format!("{command} failed")});
        }
        self.edit("actions", action, change);
        let was = self.get("servers", server).map(|server| server["status"].clone()).unwrap_or_default();
        let status = match (command.as_str(), failure) {
            // What could not be made is of no use, whatever is done to it.
            ("create_server", Some(_)) => "unknown",
            ("create_server", None) => "starting",
            ("start_server", None) if was != "unknown" => "running",
            _ => return,
        };
        self.edit("servers", server, json!({"status": status}));
    }

    /// Changes these fields, if it is there.
    pub(super) fn edit(&mut self, kind: &'static str, id: u64, change: Value) {
        if let (Some(Value::Object(thing)), Value::Object(change)) = (self.table(kind).get_mut(&id), change) {
            thing.extend(change);
        }
    }

    /// The things of a kind that the query asks for.
    pub(super) fn select(&self, kind: &str, query: &[(String, String)]) -> Vec<Value> {
        let asked =
            |key: &str| query.iter().filter(|(k, _)| k == key).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
        let (names, ids, selectors) = (asked("name"), asked("id"), asked("label_selector"));
        let wanted = |thing: &Value| {
            let named = |name: &&str| thing["name"].as_str() == Some(name);
            (names.is_empty() || names.iter().any(named))
                && (ids.is_empty() || ids.contains(&id(thing).to_string().as_str()))
                && selectors.iter().all(|selector| matches(selector, &thing["labels"]))
        };
        self.all(kind).into_iter().filter(wanted).collect()
    }
}

/// Do the labels have what `a=b,c==d,e` asks for?
pub(super) fn matches(selector: &str, labels: &Value) -> bool {
    let empty = Map::new();
    let labels = labels.as_object().unwrap_or(&empty);
    selector.split(',').filter(|term| !term.is_empty()).all(|term| match term.split_once('=') {
        Some((key, value)) => {
            labels.get(key.trim()).and_then(Value::as_str) == Some(value.trim_start_matches('=').trim())
        }
        None => labels.contains_key(term.trim()),
    })
}

pub(super) fn id(thing: &Value) -> u64 {
    thing["id"].as_u64().unwrap_or_default()
}
