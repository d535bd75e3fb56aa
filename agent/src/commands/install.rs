//! `forest-agent install`: writes the embedded unit, enables and starts it. What the cloud-init calls, and the
//! only thing that it has to.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, anyhow, bail};
use serde_json::json;

use super::output::{print, print_json};
use super::{CommandResult, Environment, Failure};
use crate::cli::Common;

/// The unit as it stands in the repository.
const UNIT: &str = include_str!("../../../systemd/forest-agent.service");
const UNIT_NAME: &str = "forest-agent.service";
const UNIT_PATH: &str = "/etc/systemd/system/forest-agent.service";
/// The paths which the embedded unit has, replaced where this machine's differ.
const UNIT_EXECUTABLE: &str = "/usr/local/bin/forest-agent";
const DEFAULT_CONFIG: &str = "/etc/morpheus/agent.yaml";
/// Exists exactly where systemd is the init system (sd_booted(3)).
const SYSTEMD_RUNS: &str = "/run/systemd/system";

pub(super) fn run(common: &Common, environment: &Environment) -> CommandResult {
    if !Path::new(SYSTEMD_RUNS).is_dir() {
        let message = "this machine is not run by systemd (no /run/systemd/system), so there is no unit to install; \
                       run `forest-agent run` under the supervisor that you have";
        return Err(Failure::new("no_systemd", anyhow!(message)));
    }
    let changed = install(common, environment).map_err(|err| Failure::new("install_failed", err))?;
    if common.json {
        print_json(&json!({"unit": UNIT_PATH, "action": if changed { "written" } else { "none" }}));
    } else {
        let what = if changed {
            "written, enabled and started (an agent that ran already takes a changed unit up at its next restart)"
        } else {
            "stands as it should, enabled and started"
        };
        print(&format!("{UNIT_PATH}: {what}; see `systemctl status forest-agent`"));
    }
    Ok(ExitCode::SUCCESS)
}

fn install(common: &Common, environment: &Environment) -> anyhow::Result<bool> {
    let executable = environment.executable.as_deref().context("cannot tell the path of this executable")?;
    let config = std::path::absolute(&common.config)
        .with_context(|| format!("cannot make {} absolute", common.config.display()))?;
    let unit = unit(executable, &config)?;
    let changed = std::fs::read_to_string(UNIT_PATH).ok().as_deref() != Some(unit.as_str());
    if changed {
        crate::files::put(Path::new(UNIT_PATH), unit.as_bytes(), 0o644)?;
        systemctl(&["daemon-reload"])?;
    }
    systemctl(&["enable", "--quiet", UNIT_NAME])?;
    // This executable, its settings and the link that starts it have just been written, by programs that sync
    // nothing: from here on a power cut finds them on the disk.
    rustix::fs::sync();
    // `start` leaves a running agent alone: whether and when to restart it is for a person to say.
    systemctl(&["start", UNIT_NAME])?;
    Ok(changed)
}

/// The unit for this executable and this agent.yaml.
fn unit(executable: &Path, config: &Path) -> anyhow::Result<String> {
    let executable = plain(executable)?;
    let config = plain(config)?;
    let mut command = format!("{executable} run");
    if config != DEFAULT_CONFIG {
        command.push_str(&format!(" --config {config}"));
    }
    Ok(UNIT.replace(&format!("{UNIT_EXECUTABLE} run"), &command))
}

/// A path that a unit file takes without quoting; systemd's own rules for anything else are not worth the risk.
fn plain(path: &Path) -> anyhow::Result<&str> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !text.chars().all(plain) {
        bail!("{text} holds characters which a unit file does not take; move it to a plain path");
    }
    Ok(text)
}

fn systemctl(args: &[&str]) -> anyhow::Result<()> {
    let asked = format!("systemctl {}", args.join(" "));
    let output =
        Command::new("systemctl").args(args).output().with_context(|| format!("failed to run `{asked}`"))?;
    if !output.status.success() {
        bail!("`{asked}` failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_names_this_executable_and_config() {
        let same = unit(Path::new(UNIT_EXECUTABLE), Path::new(DEFAULT_CONFIG)).unwrap();
        assert_eq!(same, UNIT);
        let other = unit(Path::new("/opt/fa/forest-agent"), Path::new("/srv/a.yaml")).unwrap();
        assert!(other.contains("\nExecStart=/opt/fa/forest-agent run --config /srv/a.yaml\n"));
    }

    #[test]
    fn odd_paths_are_refused() {
        let err = unit(Path::new("/opt/my agent"), Path::new(DEFAULT_CONFIG)).unwrap_err();
        assert!(err.to_string().contains("/opt/my agent"));
    }
}
