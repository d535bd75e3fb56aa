//! How the seven checks stand, from what the driver knows. Pure: no clock, no file, no network.

use std::time::Instant;

use forest_core::health::{NOT_CURRENT, Status};
use forest_core::reason::Reason;
use forest_core::secrets::Duty;

use crate::child::{ChildPhase, ChildStatus};
use crate::driver::machine::{Machine, Standing};
use crate::driver::seen::Seen;
use crate::driver::step::StepName;
use crate::engine::verdict::{Verdict, jetstream_check, nats_check};
use crate::fault::Fault;
use crate::health::{Finding, Findings, Observed};
use crate::probe::Observation;
use crate::removal;
use crate::settings::Settings;

/// Everything that the checks are made of.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// How the steps stand.
    pub machine: &'a Machine,
    /// What was learned.
    pub seen: &'a Seen,
    /// The engine's process.
    pub engine: &'a ChildStatus,
    /// The witness's process.
    pub witness: &'a ChildStatus,
    /// Why the engine is not well, by its last words; made outside, because it may look at who holds a port.
    pub diagnosis: Option<&'a Fault>,
    /// What the running engine complains of.
    pub complaint: Option<&'a Fault>,
    /// What the prober saw last: of the engine, only of the one that runs now.
    pub observation: Option<&'a Observation>,
    /// Now.
    pub now: Instant,
}

/// All checks.
#[must_use]
pub fn findings(sources: &Sources<'_>) -> Findings {
    Findings {
        engine_process: engine_process(sources),
        nats_server: nats(sources, nats_check),
        nats_jetstream: jetstream(sources),
        peers_reachable: peers(sources),
        registry_entry: registry(sources),
        share_mounted: share(sources),
        firewall_rules: firewall(sources),
    }
}

fn engine_process(sources: &Sources<'_>) -> Finding {
    let status = sources.engine;
    let pid = status.pid().map_or(Observed::Nothing, |pid| Observed::Count(pid.into()));
    if let Some(fault) = ill_process(sources) {
        let severity = if status.pid().is_some() { Status::Warn } else { Status::Fail };
        return Finding::of(severity, &fault, pid, sources.now);
    }
    match status.pid() {
        Some(pid) => {
            let how =
                if status.adopted { "went on when the agent began" } else { "was started by this agent" };
            let kind = sources.settings.engine.kind.as_str();
            Finding::pass(
                Observed::Count(pid.into()),
                format!("{kind} runs as pid {pid}; it {how}"),
                sources.now,
            )
        }
        None if sources.machine.record(StepName::Engine).is_none_or(|record| record.seen.is_none()) => {
            Finding::starting()
        }
        None => {
            let fault = Fault::new(Reason::EngineStarting, "the engine does not run yet");
            Finding::of(Status::Fail, &fault, Observed::Nothing, sources.now).under_way()
        }
    }
}

/// What is wrong with the engine's process, the nearest cause first.
fn ill_process(sources: &Sources<'_>) -> Option<Fault> {
    let status = sources.engine;
    if status.ignores_term && matches!(status.phase, ChildPhase::Stopping { .. }) {
        let message = "the engine was asked to end and goes on";
        return Some(Fault::new(Reason::EngineIgnoresTerm, message));
    }
    if status.pid().is_some() {
        if status.log_flood {
            let message = "the engine writes more into its log than anybody can read; the oldest is dropped";
            return Some(Fault::new(Reason::EngineLogFlood, message));
        }
        // The engine goes on; what it was started from may not stand any more.
        let steps =
            [StepName::Address, StepName::NodeInfo, StepName::DataDir, StepName::Binaries, StepName::Engine];
        let of_steps = || steps.into_iter().find_map(|step| failed(sources, step));
        return sources.complaint.cloned().or_else(of_steps);
    }
    if let Some(since) = &sources.seen.removed {
        return Some(removal::fault(sources.settings, since));
    }
    if let ChildPhase::Stopping { reason, .. } = &status.phase {
        return Some(Fault::new(Reason::EngineStopped, format!("the engine is being stopped: {reason}")));
    }
    let of_step = |step| fault_of(sources, step);
    of_step(StepName::DataDir)
        .or_else(|| of_step(StepName::Binaries))
        .or_else(|| sources.diagnosis.cloned())
        .or_else(|| of_step(StepName::Engine))
        .or_else(|| failed(sources, StepName::NodeInfo))
        .or_else(|| of_step(StepName::Address))
}

/// The fault of a step that was looked at and does not stand.
fn fault_of(sources: &Sources<'_>, step: StepName) -> Option<Fault> {
    match &sources.machine.record(step)?.standing {
        Standing::Differs(fault) | Standing::Due(fault) => Some(fault.clone()),
        _ => None,
    }
}

/// The same where the agent is not just about to put it right.
fn failed(sources: &Sources<'_>, step: StepName) -> Option<Fault> {
    match &sources.machine.record(step)?.standing {
        Standing::Differs(fault) => Some(fault.clone()),
        _ => None,
    }
}

/// JetStream, and what else the cluster says of itself.
fn jetstream(sources: &Sources<'_>) -> Finding {
    if sources.engine.pid().is_some() && sources.observation.is_some_and(|seen| seen.engine.is_none()) {
        let fault = Fault::new(Reason::EngineStarting, "the engine has started and was not asked yet");
        return Finding::of(Status::Warn, &fault, Observed::Nothing, sources.now).under_way();
    }
    let found = nats(sources, jetstream_check).at_most_warn_unless_starting();
    let fault = match found.reason {
        // Without a leader, what keeps the witness from running is the nearer cause.
        Some(Reason::JetstreamNoLeader) => witness_ill(sources)
            .filter(|fault| fault.reason != Reason::WitnessDown)
            .or_else(|| quorum_lost(sources)),
        None => leaving(sources)
            .or_else(|| fault_of(sources, StepName::TakeOver))
            .or_else(|| suspects(sources))
            .or_else(|| witness_ill(sources)),
        Some(_) => None,
    };
    // An old follower may count members that are no more; the leader knows.
    let group = sources.seen.view.group.as_ref().filter(|_| found.status != Status::Fail);
    let members = group.and_then(|group| u64::try_from(group.members.len()).ok());
    let observed = members.map_or(found.observed, Observed::Count);
    match fault {
        Some(fault) => Finding::of(Status::Warn, &fault, observed, found.at.unwrap_or(sources.now)),
        None => Finding { observed, ..found },
    }
}

/// Somebody leaves, and this node has a part in it.
fn leaving(sources: &Sources<'_>) -> Option<Fault> {
    fault_of(sources, StepName::Leave)
}

/// Without a leader: are too few members reachable for one?
fn quorum_lost(sources: &Sources<'_>) -> Option<Fault> {
    let (view, observation) = (&sources.seen.view, sources.observation?);
    let reachable: Vec<&str> =
        observation.peers.iter().filter(|peer| peer.tcp).map(|peer| peer.node.as_str()).collect();
    let me = sources.settings.node.as_str();
    let witness = match duty(sources) {
        Some(duty) if duty.node == me => sources.witness.pid().is_some(),
        Some(duty) => reachable.contains(&duty.node.as_str()),
        None => false,
    };
    let here = u64::try_from(1 + reachable.len() + usize::from(witness)).unwrap_or(u64::MAX);
    (view.size > 0 && here * 2 <= view.size).then(|| {
        let message =
            format!("{here} of the meta group's {} members can be reached, too few for a leader", view.size);
        Fault::new(Reason::QuorumLost, message)
    })
}

/// Members that the leader has lost sight of: the first honest sign of a death.
fn suspects(sources: &Sources<'_>) -> Option<Fault> {
    let group = sources.seen.view.group.as_ref()?;
    let behind: Vec<_> =
        group.members.iter().filter(|member| !member.current).map(|member| member.name.as_str()).collect();
    (!behind.is_empty()).then(|| {
        let message = format!(
            "the meta leader {} says that these are {NOT_CURRENT}{}",
            group.leader,
            behind.join(", ")
        );
        Fault::new(Reason::MemberNotCurrent, message)
    })
}

/// The witness that this node keeps, where it does not run.
fn witness_ill(sources: &Sources<'_>) -> Option<Fault> {
    let duty = duty(sources).filter(|duty| duty.node == sources.settings.node.as_str())?;
    let of_step = fault_of(sources, StepName::Witness);
    if sources.witness.pid().is_some() {
        return of_step.filter(|fault| fault.reason == Reason::StreamOnWitness);
    }
    let wanted = sources.machine.stands(StepName::Witness);
    let down = || {
        let exit = sources.witness.last_exit.as_ref();
        let how = exit.map_or(String::new(), |exit| format!(", it ended at {}", exit.time));
        Fault::new(Reason::WitnessDown, format!("the witness {} does not run{how}", duty.name))
    };
    of_step.filter(|fault| fault.reason != Reason::WitnessDown).or_else(|| wanted.then(down))
}

fn duty<'a>(sources: &Sources<'a>) -> Option<&'a Duty> {
    sources.seen.secrets.as_ref()?.secrets.record()?.witness.as_ref()
}

fn nats(sources: &Sources<'_>, judge: fn(&crate::engine::probe::EngineObservation) -> Verdict) -> Finding {
    let observed = sources.observation.and_then(|seen| Some((seen.engine.as_ref()?, seen.at)));
    match observed {
        Some((engine, at)) => {
            let verdict = judge(engine);
            let value = measured(&verdict);
            match verdict.reason {
                None => Finding::pass(value, verdict.text, at),
                Some(reason) => Finding::of(verdict.status, &Fault::new(reason, verdict.text), value, at),
            }
        }
        None if sources.engine.pid().is_none() => {
            let fault = Fault::new(Reason::NatsUnreachable, "the engine does not run");
            Finding::of(Status::Fail, &fault, Observed::Nothing, sources.now)
        }
        None => Finding::starting(),
    }
}

fn measured(verdict: &Verdict) -> Observed {
    match (verdict.value.as_u64(), verdict.value.as_f64()) {
        (Some(count), _) => Observed::Count(count),
        (None, Some(ms)) => Observed::Millis(ms),
        (None, None) => Observed::Nothing,
    }
}

fn peers(sources: &Sources<'_>) -> Finding {
    let Some(observation) = sources.observation else {
        return Finding::starting();
    };
    let peers = &observation.peers;
    let reachable = peers.iter().filter(|peer| peer.tcp).count();
    let observed = Observed::Count(u64::try_from(reachable).unwrap_or(u64::MAX));
    let list = |wanted: fn(&crate::health::Peer) -> bool| {
        let names: Vec<_> = peers.iter().filter(|peer| wanted(peer)).map(|peer| peer.node.as_str()).collect();
        names.join(", ")
    };
    let silent = list(|peer| !peer.tcp);
    let routeless = list(|peer| peer.tcp && !peer.route);
    let finding = if !silent.is_empty() {
        let fault = Fault::new(Reason::PeerUnreachable, format!("cannot be reached: {silent}"));
        Finding::of(Status::Warn, &fault, observed, observation.at)
    } else if !routeless.is_empty() {
        let fault = Fault::new(Reason::PeerNoRoute, format!("no route stands to {routeless}"));
        Finding::of(Status::Warn, &fault, observed, observation.at)
    } else if peers.is_empty() {
        Finding::pass(observed, "no other nodes in this forest", observation.at)
    } else {
        let text = match peers.len() {
            1 => "the one peer is reachable".to_owned(),
            count => format!("all {count} peers are reachable"),
        };
        Finding::pass(observed, text, observation.at)
    };
    Finding { peers: Some(peers.clone()), ..finding }
}

fn registry(sources: &Sources<'_>) -> Finding {
    let read = sources.seen.registry.as_ref().and_then(|read| read.at);
    let observed = read.map_or(Observed::Nothing, Observed::Since);
    let Some(record) = sources.machine.record(StepName::Registry) else {
        return Finding::starting();
    };
    let at = record.seen.unwrap_or(sources.now);
    match &record.standing {
        Standing::Unknown => Finding::starting(),
        Standing::Stands(_) if !sources.seen.corrupt_copies.is_empty() => {
            let copies = sources.seen.corrupt_copies.join(", ");
            let message =
                format!("the registry was found corrupt and put right; what stood there is in {copies}");
            Finding::of(Status::Warn, &Fault::new(Reason::RegistryQuarantined, message), observed, at)
        }
        Standing::Stands(detail) => match fault_of(sources, StepName::Secrets) {
            Some(fault) => Finding::of(Status::Warn, &fault, observed, at),
            None => Finding::pass(observed, detail.clone(), at),
        },
        Standing::Due(fault) => Finding::of(Status::Warn, fault, observed, at).under_way(),
        Standing::Differs(fault) => Finding::of(Status::Warn, fault, observed, at),
        Standing::Held(holder) => match held_by(sources, *holder) {
            Some(fault) => Finding::of(Status::Warn, &fault, observed, at),
            None => Finding::starting(),
        },
    }
}

/// The fault of the step that holds another one back; `None` while it has not been looked at.
fn held_by(sources: &Sources<'_>, holder: StepName) -> Option<Fault> {
    match &sources.machine.record(holder)?.standing {
        Standing::Differs(fault) | Standing::Due(fault) => {
            let message = format!("held back by the step {}: {}", holder.as_str(), fault.message);
            Some(Fault { message, public: None, ..fault.clone() })
        }
        _ => None,
    }
}

fn share(sources: &Sources<'_>) -> Finding {
    let Some(record) = sources.machine.record(StepName::Share) else {
        return Finding::starting();
    };
    let latency =
        sources.seen.share_latency.map_or(Observed::Nothing, |t| Observed::Millis(t.as_secs_f64() * 1e3));
    let at = record.seen.unwrap_or(sources.now);
    if sources.settings.share.is_none() {
        // A plain directory is the registry's own affair: there is no share that could fail.
        return Finding::pass(Observed::Nothing, "no share configured", sources.now);
    }
    match &record.standing {
        Standing::Unknown | Standing::Held(_) => Finding::starting(),
        Standing::Stands(detail) => Finding::pass(latency, detail.clone(), at),
        Standing::Due(fault) => Finding::of(Status::Warn, fault, Observed::Nothing, at).under_way(),
        Standing::Differs(fault) => Finding::of(Status::Warn, fault, Observed::Nothing, at),
    }
}

fn firewall(sources: &Sources<'_>) -> Finding {
    let Some(record) = sources.machine.record(StepName::Firewall) else {
        return Finding::starting();
    };
    let at = record.seen.unwrap_or(sources.now);
    let rules = sources.seen.firewall_rules.map_or(Observed::Nothing, Observed::Count);
    match &record.standing {
        Standing::Unknown | Standing::Held(_) => Finding::starting(),
        Standing::Stands(detail) => Finding::pass(rules, detail.clone(), at),
        Standing::Due(fault) => Finding::of(Status::Warn, fault, rules, at).under_way(),
        Standing::Differs(fault) => Finding::of(Status::Warn, fault, rules, at),
    }
}

impl Finding {
    /// Only two checks may fail; before the first look all do.
    fn at_most_warn_unless_starting(self) -> Self {
        if self.reason == Some(Reason::Starting) { self } else { self.at_most_warn() }
    }
}
