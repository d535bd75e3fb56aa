//! Why the engine does not run or is not well, and whether the reason is still there. Looks into /proc and at the
//! disk, so it is run off the async threads; changes nothing.

use std::path::Path;

use forest_core::reason::Reason;

use crate::child::{ChildPhase, ChildStatus, SpawnErrorKind};
use crate::engine::diagnose::{Evidence, SpawnKind, diagnose as explain, taken_port};
use crate::engine::ports;
use crate::fault::Fault;
use crate::settings::EngineKind;

/// Why the engine does not run, by the way it ended and its last words; `None` where it never did.
pub(super) fn diagnose(kind: EngineKind, status: &ChildStatus) -> Option<Fault> {
    let waits = matches!(status.phase, ChildPhase::Backoff { .. } | ChildPhase::Starting);
    if !waits || (status.last_exit.is_none() && status.spawn_error.is_none()) {
        return None;
    }
    let holder = taken_port(&status.log_tail).and_then(|taken| ports::holder(taken.ip, taken.port));
    let spawn = status.spawn_error.as_ref().map(|err| {
        let kind = match err.kind {
            SpawnErrorKind::Missing => SpawnKind::Missing,
            SpawnErrorKind::NotExecutable => SpawnKind::NotExecutable,
            _ => SpawnKind::Other,
        };
        (kind, err.message.as_str())
    });
    let exit = status.last_exit.as_ref();
    let fault = explain(&Evidence { kind, exit, tail: &status.log_tail, spawn, holder: holder.as_ref() });
    if status.crash_loop && fault.reason == Reason::EngineExited {
        let message = format!("it ends again and again, and is tried on slowly; {}", fault.message);
        let public = fault.public.unwrap_or(fault.message);
        let public = format!("it ends again and again, and is tried on slowly; {public}");
        return Some(Fault::new(Reason::EngineCrashLoop, message).withhold(public));
    }
    Some(fault)
}

/// The port that kept the engine from starting is free by now.
pub(super) fn port_is_free(tail: &[String]) -> bool {
    taken_port(tail).is_some_and(|taken| ports::holder(taken.ip, taken.port).is_none())
}

/// Less than this free, and JetStream will be at its end with the next writes.
const NEARLY_FULL: u64 = 32 << 20;

/// Is the file system of JetStream's directory all but full?
pub(super) fn is_full(data_dir: &Path) -> bool {
    rustix::fs::statvfs(data_dir).is_ok_and(|stat| stat.f_bavail.saturating_mul(stat.f_frsize) < NEARLY_FULL)
}
