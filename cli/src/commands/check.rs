//! `morpheus check`: what is wrong with the set-up of this laptop for forests in the cloud, and the fix. Nothing is
//! changed but one file on the share, which is gone again at once.

use std::path::{Path, PathBuf};

use forest_core::reason::Reason;
use serde::Serialize;
use serde_json::json;

use super::table::table;
use crate::args::Part;
use crate::cloud::key;
use crate::cloud::labels::MANAGED;
use crate::cloud::offers::{Catalogue, offers};
use crate::cloud::record;
use crate::cloud::site::{CONNECTIONS, Site, has_ipv6};
use crate::cloud::ssh;
use crate::config::{Config, Machine, Provider, find, machine, registry};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::hetzner::calls::selector;
use crate::ui::{Done, counted};

/// One thing that was looked into.
#[derive(Debug, Serialize)]
struct Item {
    part: &'static str,
    name: &'static str,
    status: &'static str,
    detail: String,
    reason: Option<&'static str>,
}

/// All that was looked into.
struct Checks<'a> {
    items: Vec<Item>,
    named: Option<&'a Path>,
    env: &'a Environment,
}

pub(super) async fn run(
    part: Option<Part>,
    named: Option<&Path>,
    env: &Environment,
) -> Result<Done, Failure> {
    let mut checks = Checks { items: Vec::new(), named, env };
    let wants = |one| part.is_none_or(|part| part == one);
    if wants(Part::Config) {
        checks.config();
    }
    if wants(Part::Network) {
        checks.network().await;
    }
    if wants(Part::Ssh) {
        checks.ssh().await;
    }
    if wants(Part::Storage) {
        checks.storage();
    }
    Ok(checks.done())
}

impl Checks<'_> {
    fn note(&mut self, part: &'static str, name: &'static str, found: Result<String, Failure>) {
        self.items.push(match found {
            Ok(detail) => Item { part, name, status: "pass", detail, reason: None },
            Err(err) => {
                Item { part, name, status: "fail", detail: err.message, reason: Some(err.reason.code()) }
            }
        });
    }

    fn warn(&mut self, part: &'static str, name: &'static str, detail: String) {
        self.items.push(Item { part, name, status: "warn", detail, reason: None });
    }

    fn path(&self) -> Result<PathBuf, Failure> {
        let found = find(self.named, self.env);
        found.path.ok_or_else(|| {
            let searched: Vec<String> =
                found.searched.iter().map(|path| path.display().to_string()).collect();
            let message =
                format!("no configuration: looked for {}; morpheus init writes one", searched.join(", "));
            Failure::new(Reason::ConfigUnreadable, message)
        })
    }

    /// The file, and what stands in it.
    fn config(&mut self) {
        let path = match self.path() {
            Ok(path) => path,
            Err(err) => return self.note("config", "file", Err(err)),
        };
        let config = Config::load(&path, self.env).map_err(Failure::from);
        let shown = path.display().to_string();
        let provider = config.as_ref().ok().and_then(|config| config.provider);
        self.note("config", "file", config.map(|_| shown));
        match provider {
            Some(Provider::Hetzner) => {}
            _ => self.warn(
                "config",
                "machine.provider",
                "is not hetzner: forests are planted on this machine unless the command says cloud"
                    .to_owned(),
            ),
        }
        self.private(&path);
        let machine = machine(&path, self.env).map_err(Failure::from);
        self.note("config", "machine", machine.map(|machine| about(&machine)));
        let storage = registry::storage(&path, self.env).map_err(Failure::from).and_then(|storage| {
            let (place, _, share) = storage.ok_or_else(|| {
                let message = "registry.type is not storagebox: forests in the cloud need a share which laptop and \
                               nodes both reach";
                Failure::new(Reason::ConfigInvalid, message)
            })?;
            Ok(format!("laptop: {}, nodes: {}", place.dir(), share.source))
        });
        self.note("config", "registry", storage);
    }

    /// A file with a secret in it is nobody else's.
    fn private(&mut self, path: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        let open = path.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0);
        if open {
            let path = path.display();
            self.warn(
                "config",
                "permissions",
                format!("others can read {path}: if a secret stands there, chmod 600 {path}"),
            );
        }
    }

    /// The way to the nodes, and to the provider.
    async fn network(&mut self) {
        let ipv4 = self
            .path()
            .ok()
            .and_then(|path| machine(&path, self.env).ok())
            .is_some_and(|machine| machine.ipv4);
        match (has_ipv6(), ipv4) {
            (true, _) => {
                let detail = "this machine has a way into the IPv6 internet";
                self.note("network", "ipv6", Ok(detail.to_owned()));
            }
            (false, true) => {
                self.note("network", "ipv6", Ok("none here; nodes get an IPv4 as well".to_owned()));
            }
            (false, false) => {
                let message = format!("none here, and nodes have nothing else: {}", Reason::NoIpv6.remedy());
                self.note("network", "ipv6", Err(Failure::new(Reason::NoIpv6, message)));
            }
        }
        let found = match Site::open(self.named, self.env) {
            Ok(site) => provider(&site).await,
            Err(err) => Err(err),
        };
        self.note("network", "hetzner", found);
    }

    /// The program, and the key for new machines.
    async fn ssh(&mut self) {
        let program = ssh::program(self.env).map(|path| path.display().to_string());
        self.note("ssh", "program", program);
        let machine = self.path().ok().and_then(|path| machine(&path, self.env).ok()).unwrap_or_default();
        let key = key::find(&machine, self.env).and_then(|key| {
            let missing = || {
                let message = format!("no public key is to be found: {}", Reason::SshNoKey.remedy());
                Failure::new(Reason::SshNoKey, message)
            };
            key.ok_or_else(missing)
        });
        self.note("ssh", "key", key.as_ref().map(|key| key.name.clone()).map_err(Clone::clone));
        if machine.key_path.is_some() && ssh::private_key(&machine).is_none() {
            let detail =
                "the private half does not lie beside it: ssh has to find it by itself (an ssh agent)";
            self.warn("ssh", "private key", detail.to_owned());
        }
        let (Ok(key), Ok(site)) = (key, Site::open(self.named, self.env)) else { return };
        let Ok(api) = site.api() else { return };
        let there = api.ssh_keys().await.map_err(Failure::from).map(|keys| match key.among(&keys) {
            Some(there) => format!("the project has it as {}", there.name),
            None => "the project does not have it yet: plant uploads it".to_owned(),
        });
        self.note("ssh", "project", there);
    }

    /// Both doors' directory, as far as it can be seen from here.
    fn storage(&mut self) {
        let site = match Site::open(self.named, self.env) {
            Ok(site) => site,
            Err(err) => return self.note("storage", "registry", Err(err)),
        };
        match site.has_directory() {
            Ok(true) => {
                self.note("storage", "directory", Ok(site.shelf.url("").to_string()));
                let tried = site.try_writing();
                self.note(
                    "storage",
                    "writing",
                    tried.map(|honours| match honours {
                        true => {
                            "files can be written, and changes of others are noticed (If-Match)".to_owned()
                        }
                        false => {
                            "files can be written; the server ignores If-Match, so the lease alone excludes"
                                .to_owned()
                        }
                    }),
                );
            }
            Ok(false) => {
                let detail = format!("{} is not there yet: plant makes it", site.shelf.url(""));
                self.warn("storage", "directory", detail);
            }
            Err(err) => return self.note("storage", "directory", Err(err)),
        }
        let registry = site.registry();
        if let Ok(registry) = &registry {
            let nodes = record::connections(registry);
            let detail =
                format!("{} of about {CONNECTIONS} connections, and this laptop's", counted(nodes, "node"));
            match nodes + 1 > CONNECTIONS {
                true => self.warn(
                    "storage",
                    "connections",
                    format!("{detail}: more than a StorageBox is known to take"),
                ),
                false => self.note("storage", "connections", Ok(detail)),
            }
        }
        self.note(
            "storage",
            "registry",
            registry.map(|registry| counted(registry.forest_names().len(), "forest")),
        );
    }

    fn done(self) -> Done {
        let failed = self.items.iter().find(|item| item.status == "fail");
        let warned = self.items.iter().any(|item| item.status == "warn");
        let status = if failed.is_some() {
            "fail"
        } else if warned {
            "warn"
        } else {
            "pass"
        };
        let problem = failed.map(|item| {
            let count = self.items.iter().filter(|item| item.status == "fail").count();
            let first = format!("{} {}", item.part, item.name);
            Failure::new(
                Reason::CheckFailed,
                format!("{} to put right, the first: {first}", counted(count, "thing")),
            )
        });
        let rows = self.items.iter().map(|item| {
            vec![item.part.to_owned(), item.name.to_owned(), item.status.to_owned(), item.detail.clone()]
        });
        let text = table(&["part", "what", "status", ""], rows);
        Done::new(json!({"status": status, "checks": self.items}), text).with_problem(problem)
    }
}

fn about(machine: &Machine) -> String {
    let kind = machine.server_type.as_deref().unwrap_or("the cheapest type");
    let ipv4 = if machine.ipv4 { ", with IPv4" } else { "" };
    format!("{kind} in {}, {}{ipv4}", machine.location, machine.image)
}

/// Is the token good, and are the wished machines to be had?
async fn provider(site: &Site) -> Result<String, Failure> {
    let api = site.api()?;
    let ours = api.servers(&selector(&[MANAGED])).await?.len();
    let catalogue = Catalogue::fetch(api, &site.machine.image).await?;
    let offers = offers(&site.machine, &catalogue, jiff::Timestamp::now())?;
    let (best, currency) = (&offers[0], &catalogue.currency);
    Ok(format!(
        "the token is good; a {} in {} is {} {currency} an hour; {} of morpheus's in the project",
        best.server_type,
        best.location,
        best.hourly.net,
        counted(ours, "server")
    ))
}
