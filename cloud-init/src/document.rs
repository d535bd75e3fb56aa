//! The cloud-config itself: files with the values, and commands that are the same for every machine.

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_saphyr::{DoubleQuoted, FlowSeq, LitString};

use crate::plan::{RenderError, UserData};
use crate::{agent_yaml, curl};

const AGENT_YAML: &str = "/etc/morpheus/agent.yaml";
/// Gone with the next boot: nobody needs them after the first.
const CURL_CONFIG: &str = "/run/forest-plant/agent.curl";
const CHECKSUM: &str = "/run/forest-plant/agent.sha256";
/// Beside its final place, because it is moved there. /run may be mounted noexec and is small.
const FETCHED: &str = "/usr/local/bin/forest-agent.new";
const AGENT: &str = "/usr/local/bin/forest-agent";
const HEAD: &str =
    "#cloud-config\n# Puts forest-agent on this machine and starts it; the agent does the rest.\n";

/// What cloud-init runs, in order, as one script of `sh`; the first line lets the first failure end it.
const COMMANDS: [&[&str]; 7] = [
    &["set", "-e"],
    &[
        "curl",
        "--config",
        CURL_CONFIG,
        "--output",
        FETCHED,
        "--proto",
        "=https",
        "--globoff",
        "--fail",
        "--silent",
        "--retry",
        "5",
        "--connect-timeout",
        "10",
        "--max-time",
        "600",
    ],
    &["sha256sum", "--check", CHECKSUM],
    &["chmod", "0755", FETCHED],
    &["mv", FETCHED, AGENT],
    &[AGENT, "install"],
    // The console and cloud-init's log end with how the node is.
    &[AGENT, "status", "--wait", "60s"],
];

#[derive(Serialize)]
struct CloudConfig {
    write_files: [File; 4],
    runcmd: Vec<FlowSeq<&'static [&'static str]>>,
}

#[derive(Serialize)]
struct File {
    path: &'static str,
    permissions: DoubleQuoted<&'static str>,
    content: Content,
}

/// Never a plain scalar: cloud-init's YAML is 1.1, which takes `yes` and `2026-11-22` for something else.
#[derive(Serialize)]
#[serde(untagged)]
enum Content {
    Lines(LitString),
    Word(DoubleQuoted<String>),
}

/// The user-data of `plan`.
pub(crate) fn render(plan: &UserData) -> Result<SecretString, RenderError> {
    let file = |path, content| File { path, permissions: DoubleQuoted("0600"), content };
    let lines = |path, text| file(path, Content::Lines(LitString(text)));
    let password = plan.share.password.expose_secret().to_owned();
    let config = CloudConfig {
        write_files: [
            lines(AGENT_YAML, agent_yaml::render(plan)?),
            file(agent_yaml::PASSWORD, Content::Word(DoubleQuoted(password))),
            lines(CURL_CONFIG, curl::config(plan)),
            lines(CHECKSUM, format!("{}  {FETCHED}\n", plan.agent.download.sha256)),
        ],
        runcmd: COMMANDS.map(FlowSeq).into(),
    };
    Ok(SecretString::from(format!("{HEAD}{}", yaml(&config)?)))
}

/// Texts in the plainest style that keeps them; never folded, because the agent takes no scalar over two lines.
pub(crate) fn yaml(value: &impl Serialize) -> Result<String, RenderError> {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX, min_fold_chars: usize::MAX };
    Ok(serde_saphyr::to_string_with_options(value, options)?)
}
