//! The one place that prints: results to stdout, diagnostics to stderr. A reader that went away (`| head`) is no
//! error.

use std::io::{IsTerminal, Write};

use serde_json::Value;

/// A result, as text; a newline is added.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// A result, as JSON on several lines.
pub(super) fn print_json(value: &Value) {
    print(&format!("{value:#}"));
}

/// A diagnostic.
pub(super) fn explain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "forest-agent: {text}");
}

/// Does a person look at stdout?
pub(super) fn on_terminal() -> bool {
    std::io::stdout().is_terminal()
}
