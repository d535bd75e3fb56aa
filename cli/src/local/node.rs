//! A node's directory and the settings of its agent.

use std::fmt::Write as _;

use forest_core::id::ForestId;
use serde_json::Value;

use super::layout::{Layout, NodeDir};
use super::record::{Member, Plan, Programs};
use crate::config::EngineKind;
use crate::failure::Failure;
use crate::files;

/// Makes the directories of `member` and writes its agent's settings. Done again, it changes nothing else.
///
/// # Errors
/// [`Failure`] where something cannot be made or written.
pub fn prepare(layout: &Layout, forest: &ForestId, plan: &Plan, member: &Member) -> Result<(), Failure> {
    let dir = layout.node(forest, &member.id);
    files::make_dir(dir.path())?;
    files::replace(&dir.config(), &settings(layout, forest, &plan.programs, member))
}

/// The text of agent.yaml: standard ports on the node's own address, no firewall, everything in its directory.
#[must_use]
pub fn settings(layout: &Layout, forest: &ForestId, programs: &Programs, member: &Member) -> String {
    let dir = layout.node(forest, &member.id);
    let ip = member.ip;
    let mut text = String::from("# Written by morpheus; the next plant, grow or repair writes it again.\n");
    let mut line = |key: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key}: {value}");
    };
    line("forest_id", quoted(forest.as_str()));
    line("node_id", quoted(member.id.as_str()));
    line("address", quoted(ip.to_string()));
    line("registry", path(&layout.registry()));
    line("poll_interval", "1s".to_owned());
    line("engine", engine(programs, &dir));
    let listen = |port: u16| quoted(format!("{ip}:{port}"));
    line(
        "listen",
        format!(
            "{{ client: {}, cluster: {}, monitor: {}, health: {} }}",
            listen(4222),
            listen(6222),
            listen(8222),
            listen(8223)
        ),
    );
    line("firewall", "{ manage: false }".to_owned());
    line("state_dir", path(&dir.state()));
    line("runtime_dir", path(&dir.runtime()));
    line("node_info", path(&dir.node_info()));
    text
}

fn engine(programs: &Programs, dir: &NodeDir) -> String {
    let kind = match programs.engine {
        EngineKind::NatsServer => "nats-server",
        EngineKind::Nimsforest => "nimsforest",
    };
    let binary = match &programs.binary {
        Some(binary) => path(binary),
        None => path(&dir.path().join("bin").join(kind)),
    };
    let download = programs.download.as_ref().map_or_else(String::new, |download| {
        format!(
            ", download: {{ url: {}, sha256: {} }}",
            quoted(download.url.as_str()),
            quoted(download.sha256.as_str())
        )
    });
    format!("{{ kind: {kind}, binary: {binary}{download}, data_dir: {} }}", path(&dir.data()))
}

/// A double-quoted scalar, which YAML shares with JSON.
fn quoted(text: impl Into<Value>) -> String {
    text.into().to_string()
}

fn path(path: &std::path::Path) -> String {
    quoted(path.to_string_lossy().as_ref())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use forest_core::yaml::raw;

    use super::*;

    #[test]
    fn settings_are_yaml_whatever_the_paths_hold() {
        let programs = Programs {
            agent: "/a".into(),
            engine: EngineKind::NatsServer,
            binary: Some("/opt/a \"b\" #c: {d}".into()),
            download: None,
        };
        let member = Member { id: "grove-node-1".parse().unwrap(), ip: [127, 3, 2, 1].into() };
        let layout = Layout::new(PathBuf::from("/home/me: \\x/state"));
        let text = settings(&layout, &"grove".parse().unwrap(), &programs, &member);
        let raw::Kind::Map(entries) = raw::read(&text).unwrap().kind else { panic!("{text}") };
        let find = |entries: &[(raw::Key, raw::Node)], name: &str| match &entries
            .iter()
            .find(|(key, _)| key.name == name)
            .unwrap()
            .1
            .kind
        {
            raw::Kind::Text(text) => text.clone(),
            _ => String::new(),
        };
        assert_eq!(find(&entries, "registry"), "/home/me: \\x/state/registry.json");
        let raw::Kind::Map(engine) = &entries.iter().find(|(key, _)| key.name == "engine").unwrap().1.kind
        else {
            panic!()
        };
        assert_eq!(find(engine, "binary"), "/opt/a \"b\" #c: {d}");
    }
}
