//! What the user-data says to the agent is what the agent reads.

use std::path::Path;

use forest_agent::settings::Settings;
use forest_cloud_init::{Download, Engine, EngineKind, Fetch, Share, UserData};
use secrecy::{ExposeSecret, SecretString};

const DIGEST: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

fn download(url: &str) -> Download {
    Download { url: url.parse().unwrap(), sha256: DIGEST.parse().unwrap() }
}

/// agent.yaml as cloud-init takes it out of the rendered user-data: the block after its `content: |`.
fn settings(username: &str) -> Settings {
    let plan = UserData {
        forest: "grove".parse().unwrap(),
        node: "grove-node-1".parse().unwrap(),
        share: Share {
            source: "//u12345.your-storagebox.de/backup/morpheus".into(),
            username: username.into(),
            password: SecretString::from("correct horse"),
        },
        agent: Fetch { download: download("https://box.test/forest-agent"), login: true },
        engine: Engine {
            kind: EngineKind::Nimsforest,
            download: Some(download("file:///mnt/forest/bin/forest")),
        },
        witness: Some(download("file:///mnt/forest/bin/nats-server")),
    };
    let text = plan.render().unwrap();
    let lines = text.expose_secret().lines().skip_while(|line| *line != "- path: /etc/morpheus/agent.yaml");
    let block = lines.skip(3).map_while(|line| line.strip_prefix("    "));
    let yaml: String = block.map(|line| format!("{line}\n")).collect();
    Settings::parse(&yaml, Path::new("agent.yaml")).unwrap_or_else(|err| panic!("{err}:\n{yaml}"))
}

#[test]
fn the_agent_understands_all_of_it() {
    let settings = settings("u12345");
    let share = settings.share.unwrap();
    assert_eq!((share.host.as_str(), share.path.as_str()), ("u12345.your-storagebox.de", "backup/morpheus"));
    assert_eq!(share.password_file, Path::new("/etc/morpheus/storagebox.password"));
    assert_eq!(settings.engine.kind.as_str(), "nimsforest");
    assert_eq!(settings.engine.download.unwrap().url.as_str(), "file:///mnt/forest/bin/forest");
    assert_eq!(settings.witness.download.unwrap().url.as_str(), "file:///mnt/forest/bin/nats-server");
    assert_eq!(settings.registry, Path::new("/mnt/forest/registry.json"));
}

#[test]
fn the_agent_reads_odd_names_as_they_are() {
    for name in [
        "007", "yes", "~", "null", "1e3", "a b", "#a", "- a", "\"", "'", "\\", "$(x)", "{a}", "é",
        "\u{2028}", " a ",
    ] {
        assert_eq!(settings(name).share.unwrap().username, name);
    }
}
