//! `forest-agent register`: this node's entry, put into the registry once, or shown.

use std::process::ExitCode;
use std::sync::Arc;

use forest_core::reason::Reason;
use forest_core::registry::{Change, Document, ReadError, Registry, diff};
use serde_json::{Value, json};

use super::output::{print, print_json};
use super::{CommandResult, EXIT_CONFIG, Environment, Failure, block_on};
use crate::cli::Common;
use crate::driver::{Fact, Look, Step};
use crate::fault::{Fault, SUDO};
use crate::files::private_dir;
use crate::settings::Settings;
use crate::share::ShareDir;
use crate::share::lane::Lane;
use crate::steps::{self, DirStep, Registrar, SecretsKeeper, address};

pub(super) fn run(
    settings: &Arc<Settings>,
    common: &Common,
    environment: &Environment,
    dry_run: bool,
) -> CommandResult {
    let lane = Arc::new(Lane::new("registry-read"));
    let registrar = Registrar::new(Arc::clone(settings), environment.limits(), Arc::clone(&lane));
    let shown = block_on(async {
        let dir = open(settings, lane, dry_run).await?;
        if dry_run {
            preview(settings, &registrar, dir.as_deref()).await
        } else {
            register(settings, &registrar, dir).await
        }
    })??;
    if common.json {
        print_json(&shown.json(settings));
    } else {
        print(&shown.text(settings));
    }
    Ok(ExitCode::SUCCESS)
}

/// What is told: of a change, or of what one would be.
struct Shown {
    action: &'static str,
    entry: Value,
    diff: String,
    note: Option<String>,
    dry_run: bool,
}

impl Shown {
    fn json(&self, settings: &Settings) -> Value {
        json!({
            "registry": settings.registry,
            "forest_id": settings.forest.as_str(),
            "node_id": settings.node.as_str(),
            "action": self.action,
            "entry": self.entry,
            "diff": self.diff,
        })
    }

    fn text(&self, settings: &Settings) -> String {
        let (node, path) = (&settings.node, settings.registry.display());
        let headline = match (self.action, self.dry_run) {
            ("none", _) => format!("{path}: the entry of {node} stands as it should; nothing to do"),
            (action, true) => {
                format!("{path}: would {action} the entry of {node} (dry run, nothing was touched)")
            }
            (action, false) => format!("{path}: {} {node}", done(action)),
        };
        let note = self.note.as_ref().map(|note| format!("\n{note}")).unwrap_or_default();
        let diff = if self.diff.is_empty() { String::new() } else { format!("\n{}", self.diff.trim_end()) };
        format!("{headline}{note}\n{:#}{diff}", self.entry)
    }
}

fn done(action: &str) -> &'static str {
    match action {
        "add" => "added the entry of",
        "update" => "updated the entry of",
        _ => "replaced a stale entry by that of",
    }
}

/// The registry's directory. Without a share a missing one is made, unless nothing is to be touched: then `None`.
pub(super) async fn open(
    settings: &Settings,
    lane: Arc<Lane>,
    dry_run: bool,
) -> Result<Option<Arc<ShareDir>>, Failure> {
    let step = DirStep::new(settings, lane);
    for attempt in 0..2 {
        let looked = step.look(crate::driver::Seen::default()).await;
        let dir = looked.facts.into_iter().find_map(|fact| match fact {
            Fact::Dir(dir, _) => Some(dir),
            _ => None,
        });
        match looked.result {
            Ok(Look::Stands(_)) => return Ok(dir),
            Ok(Look::Differs(_)) if dry_run && settings.share.is_none() => return Ok(None),
            Ok(Look::Differs(_)) if attempt == 0 && settings.share.is_none() => {
                step.act(crate::driver::Seen::default()).await?;
            }
            Ok(Look::Differs(fault)) | Err(fault) => return Err(refused(fault)),
        }
    }
    Ok(None)
}

async fn register(
    settings: &Settings,
    registrar: &Registrar,
    dir: Option<Arc<ShareDir>>,
) -> Result<Shown, Failure> {
    let dir = dir.ok_or_else(|| Fault::new(Reason::RegistryMissing, "the registry's directory went away"))?;
    // For the lock that keeps this host's updaters in a queue.
    private_dir(&settings.runtime_dir)?;
    let address = address::find(settings.address)?;
    // Before the first entry: whoever sees one lives by what was founded.
    private_dir(&settings.state_dir)?;
    SecretsKeeper::new(registrar.clone()).ensure(&dir).await?;
    let claimed = registrar.register(&dir, address).await?;
    Ok(Shown {
        action: claimed.action.as_str(),
        entry: claimed.entry,
        diff: String::new(),
        note: claimed.restored,
        dry_run: false,
    })
}

async fn preview(
    settings: &Settings,
    registrar: &Registrar,
    dir: Option<&ShareDir>,
) -> Result<Shown, Failure> {
    let address = address::find(settings.address)?;
    let (before, bytes) = match dir {
        Some(dir) => current(settings, registrar.read(dir).await?.0)?,
        None => (<Registry as Document>::empty(), Vec::new()),
    };
    let (change, _) = registrar.plan(&before, address).await?;
    Ok(shown(settings, &bytes, change))
}

fn shown(settings: &Settings, bytes: &[u8], change: Change) -> Shown {
    let after = change.registry.as_ref().map(Document::render);
    let diff = after.map(|after| {
        let path = settings.registry.display().to_string();
        diff::unified(&path, &String::from_utf8_lossy(bytes), &after)
    });
    let note = bytes.is_empty().then(|| "there is no registry yet; it would be made".to_owned());
    Shown {
        action: change.action.as_str(),
        entry: change.entry,
        diff: diff.unwrap_or_default(),
        note,
        dry_run: true,
    }
}

fn current(
    settings: &Settings,
    read: Result<forest_core::registry::Snapshot<Registry>, ReadError>,
) -> Result<(Registry, Vec<u8>), Failure> {
    match read {
        Ok(snapshot) => Ok((snapshot.doc, snapshot.bytes)),
        Err(ReadError::Missing(_)) if settings.share.is_none() => {
            Ok((<Registry as Document>::empty(), Vec::new()))
        }
        Err(err) => Err(refused(steps::read_fault(settings, &err))),
    }
}

/// Who lacks the right to read is told so, and by the exit code that this is not worth a second try.
fn refused(fault: Fault) -> Failure {
    let denied = fault.advice.as_deref() == Some(SUDO);
    let failure = Failure::from(fault);
    if denied { failure.exiting(EXIT_CONFIG) } else { failure }
}
