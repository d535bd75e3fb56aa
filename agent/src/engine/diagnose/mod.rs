//! Why an engine ended, told from how it ended and from its last lines. Pure.
//!
//! Only the lines of the last run count. Of these the most telling one is quoted, never a whole log; what no rule
//! knows is said as it is: the exit, and the last line that complains.

use std::net::IpAddr;

use forest_core::health::LastExit;
use forest_core::reason::Reason;

use crate::engine::ports::Holder;
use crate::fault::Fault;
use crate::settings::EngineKind;

/// The longest quotation from a log, in characters.
const QUOTE: usize = 300;

/// Why a child could not be started at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpawnKind {
    /// Its executable is not there.
    Missing,
    /// Its executable cannot be executed.
    NotExecutable,
    /// Anything else: no processes left, no working directory.
    Other,
}

/// All that is known of an end.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// What ended.
    pub kind: EngineKind,
    /// How; `None` while it has not ended.
    pub exit: Option<&'a LastExit>,
    /// Its last lines, oldest first.
    pub tail: &'a [String],
    /// Why it was not started, with the supervisor's sentence.
    pub spawn: Option<(SpawnKind, &'a str)>,
    /// Who holds the port of [`taken_port`], if anybody was asked.
    pub holder: Option<&'a Holder>,
}

/// The fault that explains `evidence`.
#[must_use]
pub fn diagnose(evidence: &Evidence<'_>) -> Fault {
    if let Some((kind, sentence)) = evidence.spawn {
        let reason = match kind {
            SpawnKind::Missing => Reason::EngineMissing,
            SpawnKind::NotExecutable => Reason::EngineNotExecutable,
            SpawnKind::Other => Reason::EngineExited,
        };
        return Fault::new(reason, sentence);
    }
    let run = last_run(evidence.tail);
    if let Some(taken) = taken_in(run) {
        return Fault::new(Reason::EnginePortTaken, taken.sentence(evidence.holder));
    }
    known(evidence.kind, run, |_| true).map_or_else(|| unexplained(evidence, run), |(fault, _)| fault)
}

/// What a running engine complains of that its answers do not show: a full store serves on, and stores nothing.
/// With the line that says so.
#[must_use]
pub fn trouble(kind: EngineKind, tail: &[String]) -> Option<(Fault, &str)> {
    let of_the_store = |reason| matches!(reason, Reason::EngineStore | Reason::StandaloneStore);
    known(kind, last_run(tail), of_the_store)
}

/// The first rule for one of the `wanted` reasons that the run's lines match, and the latest line it matches.
fn known(kind: EngineKind, run: &[String], wanted: impl Fn(Reason) -> bool) -> Option<(Fault, &str)> {
    RULES.iter().filter(|rule| wanted(rule.reason) && rule.kind.is_none_or(|of| of == kind)).find_map(
        |rule| {
            let line = run.iter().rev().find(|line| rule.matches(line))?;
            let fault = Fault::new(rule.reason, format!("{}: {}", rule.says, quote(line)));
            Some((fault.withhold(rule.says), line.as_str()))
        },
    )
}

/// A rule: a line that begins with `start` and holds all of `parts` means `reason`. Rules stand in the order of
/// how much they tell.
struct Rule {
    kind: Option<EngineKind>,
    start: &'static str,
    parts: &'static [&'static str],
    reason: Reason,
    says: &'static str,
}

impl Rule {
    fn matches(&self, line: &str) -> bool {
        line.starts_with(self.start) && self.parts.iter().all(|part| line.contains(part))
    }
}

const fn any(parts: &'static [&'static str], reason: Reason, says: &'static str) -> Rule {
    Rule { kind: None, start: "", parts, reason, says }
}

const fn nimsforest(parts: &'static [&'static str], reason: Reason, says: &'static str) -> Rule {
    Rule { kind: Some(EngineKind::Nimsforest), ..any(parts, reason, says) }
}

const fn begins(start: &'static str, reason: Reason, says: &'static str) -> Rule {
    Rule { start, ..any(&[], reason, says) }
}

const RULES: &[Rule] = &[
    nimsforest(
        &["filtered consumer not unique on workqueue stream"],
        Reason::NimsforestWorkQueue,
        "NimsForest cannot start a second time on the same JetStream directory",
    ),
    nimsforest(
        &["consumer is already bound to a subscription"],
        Reason::NimsforestConsumerBound,
        "another node of the cluster runs NimsForest's application already",
    ),
    nimsforest(
        &["Node configuration required"],
        Reason::NimsforestNodeInfo,
        "NimsForest cannot read its node-info.json",
    ),
    nimsforest(
        &["_id is required in"],
        Reason::NimsforestNodeInfo,
        "NimsForest misses an id in its node-info.json",
    ),
    nimsforest(
        &["No IPv6 address found"],
        Reason::NimsforestNoAddress,
        "NimsForest finds no IPv6 address on this machine",
    ),
    any(&["[FTL]", "cannot assign requested address"], Reason::EngineListen, LISTEN),
    any(&["[FTL]", "bind: permission denied"], Reason::EngineListen, LISTEN),
    any(&["[FTL]", "listen tcp"], Reason::EngineListen, LISTEN),
    any(&["no space left on device"], Reason::EngineStore, "the store is full"),
    any(&["Can't start JetStream"], Reason::EngineStore, "JetStream cannot use its store"),
    any(
        &["Detected orphaned stream"],
        Reason::StandaloneStore,
        "the store was written by a standalone server",
    ),
    any(&["JetStream", "DISABLED"], Reason::EngineStore, "JetStream gave up its store"),
    nimsforest(&["failed to start within timeout"], Reason::NimsforestNoRoute, NO_ROUTE),
    nimsforest(&["Failed to create", "timeout"], Reason::NimsforestNoRoute, NO_ROUTE),
    nimsforest(&["Failed to create", "deadline exceeded"], Reason::NimsforestNoRoute, NO_ROUTE),
    begins("panic: ", Reason::EngineExited, "the engine panicked"),
    begins("fatal error: ", Reason::EngineExited, "the engine gave up"),
    begins("goroutine ", Reason::EngineExited, "the engine panicked, and its log says why above"),
    begins("nats-server: ", Reason::EngineConfigRefused, "nats-server refuses its configuration"),
];

const LISTEN: &str = "the engine cannot listen where it is told to";
const NO_ROUTE: &str = "NimsForest reached no peer at the cluster port";

/// The lines since the engine was started the last time, or all where the start has scrolled away.
fn last_run(tail: &[String]) -> &[String] {
    let last = |mark: &str| tail.iter().rposition(|line| line.contains(mark));
    // NimsForest's own start comes before that of the server inside.
    match last("Starting NimsForest").or_else(|| last("[INF] Starting nats-server")) {
        Some(start) => &tail[start..],
        None => tail,
    }
}

/// An address that the engine could not have because it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its host, where the log names one.
    pub ip: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

impl Taken {
    fn sentence(&self, holder: Option<&Holder>) -> String {
        let port = self.port;
        let place = self.ip.map_or(format!("port {port}"), |ip| format!("port {port} of {ip}"));
        match holder {
            Some(holder) => format!("{place} is taken by {holder}"),
            None => format!("{place} is taken by another program"),
        }
    }
}

/// The address that the engine's last run found taken; who holds it, [`crate::engine::ports::holder`] tells.
#[must_use]
pub fn taken_port(tail: &[String]) -> Option<Taken> {
    taken_in(last_run(tail))
}

fn taken_in(run: &[String]) -> Option<Taken> {
    run.iter().rev().find_map(|line| {
        let (before, _) = line.split_once(": bind: address already in use")?;
        let (_, address) = before.rsplit_once("listen tcp ")?;
        let (host, port) = address.rsplit_once(':')?;
        Some(Taken { ip: host.trim_matches(['[', ']']).parse().ok(), port: port.parse().ok()? })
    })
}

fn unexplained(evidence: &Evidence<'_>, run: &[String]) -> Fault {
    let name = evidence.kind.as_str();
    let ended = match evidence.exit {
        Some(LastExit { signal: Some(9), .. }) => {
            format!("{name} was killed (signal 9), perhaps by the kernel for want of memory")
        }
        Some(LastExit { signal: Some(signal), .. }) => format!("{name} ended by signal {signal}"),
        Some(LastExit { code: Some(code), .. }) => format!("{name} ended with exit code {code}"),
        Some(_) => format!("{name} ended"),
        None => format!("{name} does not run"),
    };
    let complains = |line: &&String| ["[FTL]", "[ERR]", "❌", "FATAL"].iter().any(|mark| line.contains(mark));
    let telling =
        run.iter().rev().find(complains).or_else(|| run.iter().rev().find(|line| !line.trim().is_empty()));
    let message = match telling {
        Some(line) => format!("{ended}; it said {}", quote(line)),
        None => format!("{ended}, and said nothing"),
    };
    Fault::new(Reason::EngineExited, message).withhold(ended)
}

/// A log line without its stamp, in quotation marks, cut and with control characters escaped.
fn quote(line: &str) -> String {
    let said = ["[FTL] ", "[ERR] ", "[WRN] ", "[INF] "]
        .iter()
        .find_map(|mark| line.split_once(mark))
        .map_or(line, |(_, said)| said);
    let said = said.trim().trim_start_matches("nats-server: ");
    let cut: String = said.chars().take(QUOTE).flat_map(escape).collect();
    let more = if said.chars().count() > QUOTE { "…" } else { "" };
    format!("\"{cut}{more}\"")
}

fn escape(c: char) -> impl Iterator<Item = char> {
    let (plain, escaped) = if c.is_control() { (None, Some(c.escape_default())) } else { (Some(c), None) };
    plain.into_iter().chain(escaped.into_iter().flatten())
}

#[cfg(test)]
mod tests;
