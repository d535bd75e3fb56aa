//! The file that tells curl what to fetch. It keeps the password out of the argument list, which every process of
//! a machine can read.

use secrecy::ExposeSecret;

use crate::plan::UserData;

/// What curl says on stderr where it fails, and only there: the URL, which its own message leaves out.
const COMPLAINT: &str = r"%{onerror}%{stderr}forest-agent was not fetched from %{url_effective}: %{errormsg} (401: wrong user or password, 404: no such file)\n";

/// The text of curl's config file.
pub(crate) fn config(plan: &UserData) -> String {
    let mut text = format!("url = {}\n", quoted(plan.agent.download.url.as_str()));
    if plan.agent.login {
        let login = format!("{}:{}", plan.share.username, plan.share.password.expose_secret());
        text.push_str(&format!("user = {}\n", quoted(&login)));
    }
    text.push_str(&format!("write-out = \"{COMPLAINT}\"\n"));
    text
}

/// In curl's quotes only a backslash and a quote are special, and a line must not end.
fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for c in value.chars() {
        match c {
            '\\' => text.push_str(r"\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str(r"\n"),
            '\r' => text.push_str(r"\r"),
            '\t' => text.push_str(r"\t"),
            '\u{b}' => text.push_str(r"\v"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}
