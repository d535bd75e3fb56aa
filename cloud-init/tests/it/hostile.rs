//! Whatever the values are, they arrive as they are, in files alone.

use proptest::prelude::*;
use secrecy::SecretString;
use serde::Deserialize;

use super::{example, rendered};

/// The user-data as cloud-init takes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CloudConfig {
    write_files: Vec<File>,
    runcmd: Vec<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    path: String,
    permissions: String,
    content: String,
}

impl CloudConfig {
    fn of(text: &str) -> Self {
        serde_saphyr::from_str(text).unwrap_or_else(|err| panic!("{err}:\n{text}"))
    }

    fn file(&self, path: &str) -> &str {
        let file = self.write_files.iter().find(|file| file.path == path).expect(path);
        assert_eq!(file.permissions, "0600", "{path}");
        &file.content
    }
}

#[derive(Deserialize)]
struct AgentYaml {
    share: Share,
}

#[derive(Deserialize)]
struct Share {
    source: String,
    username: String,
}

/// Texts that a shell, YAML or curl would read otherwise, and anything else.
fn nasty() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "'",
        "\"",
        "\\",
        "#",
        " #",
        ": ",
        "- ",
        "$(reboot)",
        "`id`",
        "${X}",
        "{{ x }}",
        "%{url}",
        "&a",
        "*a",
        "!t",
        "|",
        ">",
        "[",
        "]",
        "{",
        "}",
        ",",
        "\t",
        " ",
        "é",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{7f}",
        "\u{1}",
        "💥",
        "yes",
        "~",
        "0600",
        "1e3",
        "---",
        "...",
        "%YAML",
        "@",
        "=",
        "\u{fffe}",
        "\u{a0}",
    ]);
    prop_oneof![
        prop::collection::vec(pieces, 1..12).prop_map(|parts| parts.concat()),
        any::<String>(),
        r"[ -~]{1,40}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn they_arrive_as_they_are(password in nasty(), username in nasty(), below in nasty()) {
        let mut plan = example();
        plan.share.password = SecretString::from(password.clone());
        plan.share.username = username.clone();
        plan.share.source = format!("//box.example/backup/x{below}");
        // What is refused by name is another test's.
        prop_assume!(plan.render().is_ok());
        let config = CloudConfig::of(&rendered(&plan));
        prop_assert_eq!(config.file("/etc/morpheus/storagebox.password"), &password);
        let agent: AgentYaml = serde_saphyr::from_str(config.file("/etc/morpheus/agent.yaml")).unwrap();
        prop_assert_eq!(agent.share.source, plan.share.source);
        prop_assert_eq!(agent.share.username, username);
        prop_assert_eq!(config.runcmd, CloudConfig::of(&rendered(&example())).runcmd);
    }
}
