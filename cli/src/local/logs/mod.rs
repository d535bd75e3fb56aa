//! The logs of a forest's nodes: each agent's own and those of its children, merged by time, and followed.

mod line;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use forest_core::id::{ForestId, NodeId};
use jiff::Timestamp;

use super::Local;
pub use line::{Line, since};

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// No more of a log is read at once, in bytes; of a longer one the end.
const MOST: u64 = 16 << 20;

/// What the agent's own log is called.
const AGENT: &str = "agent";

/// The logs of some nodes, and how far they were read.
pub struct Logs {
    nodes: Vec<(NodeId, super::layout::NodeDir)>,
    sources: BTreeMap<PathBuf, Source>,
}

struct Source {
    node: NodeId,
    name: String,
    offset: u64,
    /// The end of the file, if it is no whole line yet.
    rest: String,
    /// The time of the last line that had one: lines without belong to it.
    time: Option<Timestamp>,
}

impl Local {
    /// The logs of `nodes`.
    #[must_use]
    pub fn logs(&self, forest: &ForestId, nodes: Vec<NodeId>) -> Logs {
        let with_dir = |node: NodeId| {
            let dir = self.layout.node(forest, &node);
            (node, dir)
        };
        Logs { nodes: nodes.into_iter().map(with_dir).collect(), sources: BTreeMap::new() }
    }
}

impl Logs {
    /// What was written since the last look, in the order of time. A log that cannot be read is passed over.
    pub fn read(&mut self) -> Vec<Line> {
        self.discover();
        let mut lines = Vec::new();
        for (path, source) in &mut self.sources {
            if let Ok(text) = read_on(path, source) {
                source.take(&text, &mut lines);
            }
        }
        // Stable: lines of one log stay in order.
        lines.sort_by_key(|line| line.time);
        lines
    }

    /// Waits until it is worth looking again.
    pub async fn pause(&self) {
        tokio::time::sleep(LOOK).await;
    }

    fn discover(&mut self) {
        for (node, dir) in &self.nodes {
            let children =
                std::fs::read_dir(dir.child_logs()).into_iter().flatten().flatten().map(|entry| entry.path());
            let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
            for path in children.filter(is_log).chain([dir.agent_log()]) {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let source = Source { node: node.clone(), name, offset: 0, rest: String::new(), time: None };
                self.sources.entry(path).or_insert(source);
            }
        }
    }
}

impl Source {
    fn take(&mut self, text: &str, lines: &mut Vec<Line>) {
        self.rest.push_str(text);
        let Some(end) = self.rest.rfind('\n') else { return };
        let rest = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        for text in whole.lines().filter(|text| !(self.name == AGENT && is_repeated(text))) {
            self.time = line::time(text).or(self.time);
            lines.push(Line {
                node: self.node.clone(),
                source: self.name.clone(),
                time: self.time,
                text: line::printable(text),
            });
        }
    }
}

/// Is it a line of a child's log, which the agent writes into its own too?
fn is_repeated(line: &str) -> bool {
    let child = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
    let mark = line.trim_end().strip_suffix('"').and_then(|line| line.rsplit_once(" child=\""));
    mark.is_some_and(|(_, name)| child(name))
}

/// What stands behind the last place. A log that has become shorter was cut: it is read from its start.
fn read_on(path: &Path, source: &mut Source) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    if length < source.offset {
        source.offset = 0;
        source.rest.clear();
    }
    source.offset = source.offset.max(length.saturating_sub(MOST));
    file.seek(SeekFrom::Start(source.offset))?;
    let mut bytes = Vec::new();
    let read = file.take(length - source.offset).read_to_end(&mut bytes)?;
    source.offset += read as u64;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::layout::Layout;
    use super::*;

    #[test]
    fn logs_are_merged_followed_and_read_anew_once_cut() {
        let dir = tempfile::tempdir().unwrap();
        let node: NodeId = "grove-node-1".parse().unwrap();
        let place = Layout::new(dir.path().to_owned()).node(&"grove".parse().unwrap(), &node);
        std::fs::create_dir_all(place.child_logs()).unwrap();
        let engine = place.child_logs().join("engine.log");
        std::fs::write(place.agent_log(), "2026-11-22T20:00:02Z b\n  of b\n2026-11-22T20:00:02Z [1] a child=\"engine\"\n2026-11-22T20:00:04Z d").unwrap();
        std::fs::write(&engine, "2026-11-22T20:00:01Z a\n2026-11-22T20:00:03Z c\n").unwrap();
        std::fs::write(place.child_logs().join("engine.position"), "{}").unwrap();
        let mut logs = Logs { nodes: vec![(node, place.clone())], sources: BTreeMap::new() };
        let mut last =
            || logs.read().iter().map(|line| line.text[line.text.len() - 1..].to_owned()).collect::<Vec<_>>();
        assert_eq!(last(), ["a", "b", "b", "c"]);
        std::fs::write(&engine, "2026-11-22T20:00:05Z e\n").unwrap();
        let mut file = File::options().append(true).open(place.agent_log()).unwrap();
        io::Write::write_all(&mut file, b"\n").unwrap();
        assert_eq!(last(), ["d", "e"]);
        assert_eq!(last(), [""; 0]);
    }
}
