//! `morpheus init` and `morpheus config`

use std::io::{BufRead, IsTerminal, stdin};
use std::path::{Path, PathBuf};

use forest_core::reason::Reason;
use forest_core::suggest::nearest;
use forest_core::yaml::raw::{self, Node};
use forest_core::yaml::{self, ConfigError};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::json;

use super::table::table;
use crate::args;
use crate::config::{self, Config, VOCABULARY, edit, find, is_secret};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::files;
use crate::ui::{Done, note};

/// Writes the template; a file that is there already is left alone.
pub(super) fn init(named: Option<&Path>, env: &Environment) -> Result<Done, Failure> {
    let found = find(named, env);
    if let Some(path) = found.path.as_ref().filter(|path| path.exists()) {
        let message = format!("{} is there already: look into it with morpheus config list", path.display());
        return Err(Failure::new(Reason::NameTaken, message));
    }
    let path = found.fresh;
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        files::make_dir(dir)?;
    }
    files::replace(&absolute(&path)?, config::TEMPLATE)?;
    let text = format!("wrote {}; next: morpheus plant", path.display());
    Ok(Done::new(json!({"path": path}), text))
}

pub(super) fn run(args: &args::Config, named: Option<&Path>, env: &Environment) -> Result<Done, Failure> {
    let path = in_use(named, env)?;
    match args {
        args::Config::Path => Ok(Done::new(json!({"path": path}), path.display().to_string())),
        args::Config::Get { key } => get(&path, key),
        args::Config::Set { key, value } => set(&path, key, value.as_deref(), env),
        args::Config::List => list(&path, env),
    }
}

fn in_use(named: Option<&Path>, env: &Environment) -> Result<PathBuf, Failure> {
    let found = find(named, env);
    found.path.ok_or_else(|| {
        let searched: Vec<String> = found.searched.iter().map(|path| path.display().to_string()).collect();
        let message =
            format!("no configuration: looked for {}; morpheus init writes one", searched.join(", "));
        Failure::new(Reason::ConfigUnreadable, message)
    })
}

fn get(path: &Path, key: &str) -> Result<Done, Failure> {
    known(key)?;
    let Some(shown) = config::value(&tree(path, &yaml::load(path)?)?, key) else {
        let message = format!("{}: {key} is not set; morpheus config set {key}", path.display());
        return Err(Failure::new(Reason::ConfigInvalid, message));
    };
    Ok(Done::new(json!({"key": key, "value": shown.text, "secret": is_secret(key)}), shown.text))
}

fn list(path: &Path, env: &Environment) -> Result<Done, Failure> {
    let text = yaml::load(path)?;
    Config::parse(&text, path, env)?;
    let values = config::values(&tree(path, &text)?);
    let json: Vec<_> = values
        .iter()
        .map(|shown| json!({"key": shown.name, "value": shown.text, "secret": is_secret(&shown.name)}))
        .collect();
    let rows = values.into_iter().map(|shown| vec![shown.name, shown.text]);
    Ok(Done::new(json!({"path": path, "values": json}), table(&["key", "value"], rows)))
}

fn set(path: &Path, key: &str, value: Option<&str>, env: &Environment) -> Result<Done, Failure> {
    known(key)?;
    let given = match value {
        Some(value) if is_secret(key) && !value.starts_with("${") => {
            let message = format!(
                "a secret on the command line can be read by others: leave the value out to be asked for it, \
                 or name a variable: morpheus config set {key} '${{NAME}}'"
            );
            return Err(Failure::new(Reason::Usage, message));
        }
        Some(value) => value.to_owned(),
        None => ask(key)?,
    };
    let old = yaml::load(path)?;
    Config::parse(&old, path, env)?;
    let Some(new) = edit::set(&old, key, &given) else {
        let message =
            format!("{}: {key} cannot be set in a file written like this: edit it by hand", path.display());
        return Err(Failure::new(Reason::ConfigInvalid, message));
    };
    Config::parse(&new, path, env)?;
    files::replace(&absolute(path)?, &new)?;
    Ok(Done::new(json!({"path": path, "key": key}), format!("{key} is set in {}", path.display())))
}

fn known(key: &str) -> Result<(), Failure> {
    let names: Vec<String> = VOCABULARY.names().collect();
    if names.iter().any(|name| name == key) {
        return Ok(());
    }
    let near = nearest(key, names.iter().map(String::as_str)).map(|near| format!("; did you mean `{near}`?"));
    let message =
        format!("no key `{}`{}; known: {}", key.escape_default(), near.unwrap_or_default(), names.join(", "));
    Err(Failure::new(Reason::Usage, message))
}

fn tree(path: &Path, text: &str) -> Result<Node, Failure> {
    raw::read(text).map_err(|problem| ConfigError::invalid(path, problem).into())
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|err| Failure::state("find", path, &err))
}

/// One line of standard input; on a terminal a secret is not shown while it is typed.
fn ask(key: &str) -> Result<String, Failure> {
    let hidden = (is_secret(key) && stdin().is_terminal()).then(|| tcgetattr(stdin()).ok()).flatten();
    if stdin().is_terminal() {
        note(&format!("{key}: "), "");
    }
    if let Some(shown) = &hidden {
        let mut silent = shown.clone();
        silent.local_modes -= LocalModes::ECHO;
        tcsetattr(stdin(), OptionalActions::Flush, &silent).map_err(|err| unread(key, &err.into()))?;
    }
    let mut line = String::new();
    let read = stdin().lock().read_line(&mut line);
    if let Some(shown) = &hidden {
        // What was typed was read; a terminal that cannot be put back is the shell's to mend.
        let _ = tcsetattr(stdin(), OptionalActions::Flush, shown);
        note("", "\n");
    }
    read.map_err(|err| unread(key, &err))?;
    match line.trim_end_matches(['\r', '\n']) {
        "" => Err(Failure::new(
            Reason::Usage,
            format!("no value for {key}: give one, or write it to standard input"),
        )),
        value => Ok(value.to_owned()),
    }
}

fn unread(key: &str, err: &std::io::Error) -> Failure {
    Failure::new(Reason::Usage, format!("cannot read a value for {key} from standard input: {err}"))
}
