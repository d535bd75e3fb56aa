//! The body of `GET /health`: `application/health+json` (draft-inadarei-api-health-check) as forest-agent
//! writes it and morpheus reads it. Every key is always there, but for `reason`, `peers` and `output` of a check.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::secrets::Progress;

/// The media type of the body.
pub const CONTENT_TYPE: &str = "application/health+json";

/// How well something is; the order is from well to ill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Pass,
    /// Works, and a person should look.
    Warn,
    /// Does not work.
    Fail,
}

/// The whole report of one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthReport {
    /// `fail` where `engine:process` or `nats:server` fails; else the worst of the checks, at most `warn`.
    pub status: Status,
    /// Version of this format: `1`.
    pub version: String,
    /// Version of forest-agent.
    #[serde(rename = "releaseId")]
    pub release_id: String,
    /// The node's id, once more, under the draft's name.
    #[serde(rename = "serviceId")]
    pub service_id: String,
    /// The forest.
    pub forest_id: String,
    /// The node.
    pub node_id: String,
    /// The node's address, canonical; `null` while none is known.
    pub address: Option<String>,
    /// Seconds since this agent process began (a re-exec counts as a beginning).
    pub uptime_seconds: u64,
    /// The step that the agent is at: its name, or `ready`.
    pub step: String,
    /// The child process with the NATS server in it.
    pub engine: EngineReport,
    /// How far this node has carried out a rotation of the forest's credentials; `null` where not so far as is
    /// recorded, and beside NimsForest. Older agents leave it out.
    #[serde(default)]
    pub rotation: Option<Progress>,
    /// The checks, by key.
    pub checks: Checks,
}

/// The engine as its supervisor sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineReport {
    /// `nats-server` or `nimsforest`.
    pub kind: String,
    /// The version that its monitoring port tells; `null` while unknown.
    pub version: Option<String>,
    /// Its process id; `null` while it does not run.
    pub pid: Option<u32>,
    /// How often it was started again since the agent began to supervise it.
    pub restarts: u64,
    /// How it ended the last time.
    pub last_exit: Option<LastExit>,
    /// Its last lines, oldest first; empty for callers who are neither on this host nor peers.
    pub log_tail: Vec<String>,
}

/// The end of a process. Of one that was adopted only the time may be known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    /// Its exit code.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// RFC 3339.
    pub time: String,
}

/// All checks; each key holds exactly one object, as the draft's lists allow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checks {
    /// Does the engine run? `observedValue`: its pid.
    #[serde(rename = "engine:process")]
    pub engine_process: [Check; 1],
    /// Does its NATS answer? `observedValue`: the round trip in ms.
    #[serde(rename = "nats:server")]
    pub nats_server: [Check; 1],
    /// Is JetStream usable? `observedValue`: the size of the meta group.
    #[serde(rename = "nats:jetstream")]
    pub nats_jetstream: [Check; 1],
    /// Are the peers reachable? `observedValue`: how many are.
    #[serde(rename = "peers:reachable")]
    pub peers_reachable: [Check; 1],
    /// Does the entry stand? `observedValue`: seconds since the last good read.
    #[serde(rename = "registry:entry")]
    pub registry_entry: [Check; 1],
    /// Is the share there and answering? `observedValue`: its latency in ms.
    #[serde(rename = "share:mounted")]
    pub share_mounted: [Check; 1],
    /// Do our firewall rules stand? `observedValue`: how many.
    #[serde(rename = "firewall:rules")]
    pub firewall_rules: [Check; 1],
}

impl Checks {
    /// Every check with its key, in the order of the report.
    #[must_use]
    pub fn iter(&self) -> [(&'static str, &Check); 7] {
        [
            ("engine:process", &self.engine_process[0]),
            ("nats:server", &self.nats_server[0]),
            ("nats:jetstream", &self.nats_jetstream[0]),
            ("peers:reachable", &self.peers_reachable[0]),
            ("registry:entry", &self.registry_entry[0]),
            ("share:mounted", &self.share_mounted[0]),
            ("firewall:rules", &self.firewall_rules[0]),
        ]
    }

    /// Every check, in the same order, to be changed.
    pub fn iter_mut(&mut self) -> [&mut Check; 7] {
        [
            &mut self.engine_process[0],
            &mut self.nats_server[0],
            &mut self.nats_jetstream[0],
            &mut self.peers_reachable[0],
            &mut self.registry_entry[0],
            &mut self.share_mounted[0],
            &mut self.firewall_rules[0],
        ]
    }

    /// The status of the whole: only a dead engine or a silent NATS make a node fail.
    #[must_use]
    pub fn verdict(&self) -> Status {
        let fatal = [&self.engine_process[0], &self.nats_server[0]];
        if fatal.iter().any(|check| check.status == Status::Fail) {
            return Status::Fail;
        }
        let ill = self.iter().iter().any(|(_, check)| check.status != Status::Pass);
        if ill { Status::Warn } else { Status::Pass }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// How it went.
    pub status: Status,
    /// When it was made, RFC 3339.
    pub time: String,
    /// What was measured; `null` where there is nothing to measure.
    #[serde(rename = "observedValue")]
    pub observed_value: Value,
    /// Its unit.
    #[serde(rename = "observedUnit")]
    pub observed_unit: String,
    /// A sentence for a person; never a secret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// A stable code (see [`crate::reason::Reason`]), only where the status is not `pass`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of `peers:reachable` alone: each peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<PeerReport>>,
}

/// What goes before the names of members that the leader has lost sight of, in the words of `nats:jetstream`.
pub const NOT_CURRENT: &str = "not current: ";

/// One peer as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReport {
    /// The peer.
    pub node_id: String,
    /// Its address; `null` for callers who are neither on this host nor peers.
    pub address: Option<String>,
    /// Did TCP to its cluster port connect?
    pub tcp: bool,
    /// Does a route to it stand?
    pub route: bool,
    /// What failed, in words.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: Status) -> [Check; 1] {
        [Check {
            status,
            time: "2026-11-22T20:16:55Z".to_owned(),
            observed_value: Value::Null,
            observed_unit: "pid".to_owned(),
            output: String::new(),
            reason: None,
            peers: None,
        }]
    }

    fn checks(of: impl Fn(usize) -> Status) -> Checks {
        Checks {
            engine_process: check(of(0)),
            nats_server: check(of(1)),
            nats_jetstream: check(of(2)),
            peers_reachable: check(of(3)),
            registry_entry: check(of(4)),
            share_mounted: check(of(5)),
            firewall_rules: check(of(6)),
        }
    }

    #[test]
    fn only_engine_and_server_are_fatal() {
        assert_eq!(checks(|_| Status::Pass).verdict(), Status::Pass);
        for ill in 0..7 {
            let verdict = checks(|n| if n == ill { Status::Fail } else { Status::Pass }).verdict();
            assert_eq!(verdict, if ill < 2 { Status::Fail } else { Status::Warn }, "check {ill}");
        }
    }

    #[test]
    fn every_key_is_written_and_read_back() {
        let written = serde_json::to_value(checks(|_| Status::Warn)).unwrap();
        let keys: Vec<_> = written.as_object().unwrap().keys().map(String::as_str).collect();
        let named: Vec<_> = checks(|_| Status::Warn).iter().iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, named);
        assert_eq!(serde_json::from_value::<Checks>(written).unwrap(), checks(|_| Status::Warn));
    }
}
