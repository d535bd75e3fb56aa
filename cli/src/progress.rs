//! What each node is at, while it is waited for: on stderr, as spinners on a terminal, as lines elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::ui::note;

/// One line a node.
pub struct Progress {
    kind: Kind,
    said: BTreeMap<String, String>,
}

enum Kind {
    Silent,
    Lines,
    Spinners(MultiProgress, BTreeMap<String, ProgressBar>),
}

impl Progress {
    /// Says nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self::of(Kind::Silent)
    }

    pub(crate) fn lines() -> Self {
        Self::of(Kind::Lines)
    }

    pub(crate) fn spinners() -> Self {
        Self::of(Kind::Spinners(MultiProgress::new(), BTreeMap::new()))
    }

    fn of(kind: Kind) -> Self {
        Self { kind, said: BTreeMap::new() }
    }

    /// Says what `node` is at; what was said already is not said again.
    pub fn at(&mut self, node: &str, what: &str) {
        if self.said.get(node).is_some_and(|said| said == what) {
            return;
        }
        self.said.insert(node.to_owned(), what.to_owned());
        match &mut self.kind {
            Kind::Silent => {}
            Kind::Lines => note(&format!("{node}  {what}"), "\n"),
            Kind::Spinners(all, bars) => bars
                .entry(node.to_owned())
                .or_insert_with(|| all.add(spinner(node)))
                .set_message(what.to_owned()),
        }
    }

    /// Says how much of something has gone by, in bytes; a `total` of 0 is not known.
    pub fn part(&mut self, what: &str, done: u64, total: u64) {
        match &mut self.kind {
            Kind::Silent => {}
            Kind::Lines => {
                // Every fifth is enough where nothing moves.
                let fifths = (done * 5).checked_div(total).unwrap_or_default() * 20;
                self.at(what, &format!("{fifths} % of {}", size(total.max(done))));
            }
            Kind::Spinners(all, bars) => {
                let bar = bars.entry(what.to_owned()).or_insert_with(|| all.add(bytes_bar(what)));
                bar.set_length(total.max(done));
                bar.set_position(done);
            }
        }
    }

    /// Says how it ended for `node`: on a terminal a line takes the spinner's place.
    pub fn end(&mut self, node: &str, what: &str) {
        let Kind::Spinners(all, bars) = &mut self.kind else {
            return self.at(node, what);
        };
        if let Some(bar) = bars.remove(node) {
            bar.finish_and_clear();
            all.remove(&bar);
        }
        all.suspend(|| note(&format!("{node}  {what}"), "\n"));
    }
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        _ => format!("{} MB", bytes.div_ceil(1_000_000)),
    }
}

fn bytes_bar(what: &str) -> ProgressBar {
    let bar = ProgressBar::new(0).with_prefix(what.to_owned());
    if let Ok(style) =
        ProgressStyle::with_template("{prefix}  {bar:30.green} {bytes} of {total_bytes}, {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

fn spinner(node: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_prefix(node.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner:.green} {prefix}  {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
