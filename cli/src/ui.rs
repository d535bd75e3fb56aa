//! The one printer: results to stdout, everything else to stderr; JSON where asked for, colour on terminals only.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::args::Global;
use crate::failure::{Exit, Failure};
use crate::progress::Progress;
use forest_core::reason::Reason;

/// A command's outcome.
#[derive(Debug, Clone)]
pub struct Done {
    /// What `--json` prints; null: everything was printed already.
    pub json: Value,
    /// What a person reads; may be empty.
    pub text: String,
    /// What went wrong on the way; its exit code is the process's. The result holds it where its shape has a
    /// place for it.
    pub problem: Option<Failure>,
    /// Is the result JSON whether or not it was asked for?
    pub always_json: bool,
}

impl Done {
    /// All went well.
    pub fn new(json: impl Into<Value>, text: impl Into<String>) -> Self {
        Self { json: json.into(), text: text.into(), problem: None, always_json: false }
    }

    /// The same, with a problem.
    #[must_use]
    pub fn with_problem(self, problem: Option<Failure>) -> Self {
        Self { problem, ..self }
    }
}

/// How to talk to whoever runs the program.
#[derive(Debug, Clone)]
pub struct Ui {
    json: bool,
    yes: bool,
    terminal: bool,
}

impl Ui {
    /// As the command line and the terminal say.
    #[must_use]
    pub fn new(global: &Global) -> Self {
        Self { json: global.json, yes: global.yes, terminal: io::stderr().is_terminal() }
    }

    /// Was JSON asked for?
    #[must_use]
    pub fn json(&self) -> bool {
        self.json
    }

    /// Shows what nodes are at: spinners on a terminal, lines elsewhere, nothing beside JSON.
    #[must_use]
    pub fn progress(&self) -> Progress {
        match (self.json, self.terminal) {
            (true, _) => Progress::silent(),
            (false, true) => Progress::spinners(),
            (false, false) => Progress::lines(),
        }
    }

    /// Lets a person confirm by typing `word`.
    ///
    /// # Errors
    /// [`Failure`] where nobody can be asked, or the answer is another.
    pub fn confirm(&self, what: &str, word: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if self.json || !self.terminal || !io::stdin().is_terminal() {
            let message = format!("{what}; there is no terminal to ask at: run it again with --yes");
            return Err(Failure::new(Reason::ConfirmationNeeded, message));
        }
        note(&format!("{what}\ntype {word} to go on: "), "");
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        if read.is_ok() && answer.trim() == word {
            return Ok(());
        }
        Err(Failure::new(Reason::ConfirmationNeeded, "not confirmed: nothing was done"))
    }

    /// Is there a person to ask, who did not say not to?
    #[must_use]
    pub fn may_ask(&self) -> bool {
        !self.yes && !self.json && self.terminal && io::stdin().is_terminal()
    }

    /// Asks a question that `y` says yes to. Nobody there to ask, or told to ask nothing: no.
    #[must_use]
    pub fn ask(&self, question: &str) -> bool {
        if !self.may_ask() {
            return false;
        }
        note(&format!("{question} [y/N] "), "");
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
    }

    /// Tells something beside the result, on stderr.
    pub fn tell(&self, what: &str) {
        if !self.json {
            note(what, "\n");
        }
    }

    /// Prints a line of a stream, such as a log. `false`: nobody reads any more.
    #[must_use]
    pub fn stream(&self, json: &Value, text: &str) -> bool {
        let line = if self.json { json.to_string() } else { text.to_owned() };
        print(&line, "\n").is_ok()
    }

    /// Prints a result.
    #[must_use]
    pub fn done(&self, done: &Done) -> ExitCode {
        if done.json.is_null() {
            // Printed already, line by line.
        } else if self.json || done.always_json {
            // A reader that went away has all it wanted.
            let _ = print(&format!("{:#}", done.json), "\n");
        } else {
            if !done.text.is_empty() {
                let _ = print(&done.text, "\n");
            }
            if let Some(problem) = &done.problem {
                note(&format!("error: {problem}"), "\n");
            }
        }
        let exit = done.problem.as_ref().map_or(Exit::Done, Failure::exit);
        ExitCode::from(exit as u8)
    }

    /// Prints why there is no result.
    #[must_use]
    pub fn failed(&self, failure: &Failure) -> ExitCode {
        if self.json {
            let _ = print(&format!("{:#}", json!({"error": failure.json()})), "\n");
        } else {
            note(&format!("error: {failure}"), "\n");
        }
        ExitCode::from(failure.exit() as u8)
    }
}

/// `1 node`, `2 nodes`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn print(text: &str, end: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{text}{end}")?;
    out.flush()
}

/// To stderr; where that is gone there is nobody to tell.
pub(crate) fn note(text: &str, end: &str) {
    let mut err = io::stderr().lock();
    let _ = write!(err, "{text}{end}");
    let _ = err.flush();
}
