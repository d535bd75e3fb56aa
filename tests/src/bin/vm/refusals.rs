//! What can be wrong before a node ever was well: each is named in words on the console, and, where the agent got
//! that far, in /health and by `check`; put right, the node becomes healthy by itself.

use anyhow::{Context, ensure};
use forest_cloud_init::UserData;
use forest_tests::vm::Guest;
use forest_tests::vm::storage_box::PASSWORD;
use secrecy::SecretString;
use serde_json::Value;

use crate::stage::{Stage, saw};

/// Something wrong, and how it shows.
struct Refusal {
    name: &'static str,
    /// What the node is told wrongly.
    plan: fn(&mut UserData),
    /// Is the firewall the agent's, as it is by default?
    firewall: bool,
    /// What is wrong with the machine: a cloud-config beside the user-data.
    image: &'static str,
    /// What is wrong with the StorageBox, while this node is planted.
    fault: fn(&Stage, &Guest) -> anyhow::Result<()>,
    /// Words that are on the console afterwards.
    said: &'static [&'static str],
    /// What the agent says, if it got that far.
    agent: Option<Agent>,
}

/// What an agent says of it.
struct Agent {
    /// The check of /health that names it.
    check: &'static str,
    /// Its reason there, and in `forest-agent check`.
    reason: &'static str,
    /// Puts it right.
    mend: fn(&Stage, &Guest) -> anyhow::Result<()>,
}

/// Those of one round are switched on together: none of them touches what another one needs.
const ROUNDS: &[&[Refusal]] = &[
    &[
        Refusal {
            name: "no such share",
            plan: |plan| plan.share.source = "//box.test/nothing/morpheus".into(),
            firewall: false,
            image: "",
            fault: nothing,
            said: &["share_not_found", "//box.test/nothing/morpheus", "no such share"],
            agent: Some(Agent {
                check: "share:mounted",
                reason: "share_not_found",
                mend: |_, guest| {
                    guest.sh("sed -i 's#/nothing/#/backup/#' /etc/morpheus/agent.yaml")?;
                    guest.sh("systemctl reload forest-agent").map(drop)
                },
            }),
        },
        Refusal {
            name: "the share's name is not resolved",
            plan: |plan| plan.share.source = "//nowhere.test/backup/morpheus".into(),
            firewall: false,
            image: "",
            fault: nothing,
            said: &["share_name_not_resolved", "nowhere.test"],
            agent: Some(Agent {
                check: "share:mounted",
                reason: "share_name_not_resolved",
                mend: |_, guest| guest.sh("echo fd77::1 nowhere.test >>/etc/hosts").map(drop),
            }),
        },
        Refusal {
            name: "the kernel has no cifs module",
            plan: |_| {},
            firewall: false,
            image: "#cloud-config\nbootcmd:\n- [sh, -c, 'mv $(find /lib/modules -name \"cifs.ko*\") /root/; depmod -a']\n",
            fault: nothing,
            said: &["share_no_cifs", "no cifs file system"],
            agent: Some(Agent {
                check: "share:mounted",
                reason: "share_no_cifs",
                mend: |_, guest| guest.sh("mv /root/cifs.ko* /lib/modules/*/; depmod -a").map(drop),
            }),
        },
    ],
    &[
        Refusal {
            name: "TCP 445 is blocked",
            plan: |_| {},
            firewall: false,
            image: "",
            fault: |stage, guest| stage.lab.storage.unreachable_from(guest.ip()),
            said: &["share_unreachable", "box.test", "445"],
            agent: Some(Agent {
                check: "share:mounted",
                reason: "share_unreachable",
                mend: |stage, _| stage.lab.storage.reachable(true),
            }),
        },
        Refusal {
            name: "the agent has another sha256",
            plan: |plan| plan.agent.download.sha256 = "0".repeat(64).parse().expect("a digest"),
            firewall: false,
            image: "",
            fault: nothing,
            said: &["/usr/local/bin/forest-agent.new: FAILED", "checksum did NOT match"],
            agent: None,
        },
        Refusal {
            name: "the engine has another sha256",
            plan: |plan| {
                let download = plan.engine.download.as_mut().expect("a download");
                download.sha256 = "0".repeat(64).parse().expect("a digest");
            },
            firewall: false,
            image: "",
            fault: nothing,
            said: &["download_sha256", "nats-server"],
            agent: Some(Agent {
                check: "engine:process",
                reason: "download_sha256",
                mend: |_, guest| {
                    let line = "sum=$(sha256sum /mnt/forest/bin/nats-server | cut -d' ' -f1); \
                            sed -i \"s/0\\{64\\}/$sum/\" /etc/morpheus/agent.yaml; systemctl reload forest-agent";
                    guest.sh(line).map(drop)
                },
            }),
        },
        Refusal {
            name: "the agent's URL answers 404",
            plan: |plan| {
                plan.agent.download.url = "https://box.test/morpheus/bin/nothing".parse().expect("a URL");
            },
            firewall: false,
            image: "",
            fault: nothing,
            said: &["forest-agent was not fetched from https://box.test/morpheus/bin/nothing", "404"],
            agent: None,
        },
    ],
    &[
        Refusal {
            name: "Samba refuses the password",
            plan: |_| {},
            firewall: false,
            image: "",
            fault: |stage, _| stage.lab.storage.samba_password("another"),
            said: &["share_wrong_password", "refuses this user or this password"],
            agent: Some(Agent {
                check: "share:mounted",
                reason: "share_wrong_password",
                mend: |stage, _| stage.lab.storage.samba_password(PASSWORD),
            }),
        },
        Refusal {
            name: "both doors refuse the password",
            plan: |plan| plan.share.password = SecretString::from("another"),
            firewall: false,
            image: "",
            fault: nothing,
            said: &["forest-agent was not fetched from https://box.test/morpheus/bin/forest-agent", "401"],
            agent: None,
        },
        Refusal {
            name: "the kernel has no nftables of family inet",
            plan: |_| {},
            firewall: true,
            image: "",
            fault: nothing,
            said: &["nft_unsupported", "boot a kernel with nf_tables and its inet family"],
            agent: Some(Agent {
                check: "firewall:rules",
                reason: "nft_unsupported",
                mend: |_, guest| {
                    guest.sh("echo 'firewall: { manage: false }' >>/etc/morpheus/agent.yaml; systemctl reload forest-agent").map(drop)
                },
            }),
        },
    ],
];

fn nothing(_: &Stage, _: &Guest) -> anyhow::Result<()> {
    Ok(())
}

pub(super) fn play(stage: &mut Stage, guests: &mut Vec<Guest>) -> anyhow::Result<()> {
    for round in ROUNDS {
        guests.clear();
        stage.fresh()?;
        for (n, refusal) in (1..).zip(*round) {
            let mut plan = stage.plan(n);
            (refusal.plan)(&mut plan);
            let mut guest =
                if refusal.firewall { stage.off_as_it_is(n, &plan)? } else { stage.off(n, &plan)? };
            guest.vendor_data(refusal.image)?;
            (refusal.fault)(stage, &guest)?;
            guest.power_on()?;
            guests.push(guest);
        }
        let all = || round.iter().zip(0..);
        for (refusal, n) in all() {
            shows(refusal, &mut guests[n]).with_context(|| refusal.name.to_owned())?;
        }
        // Each tries again in its own time: they are put right together.
        for (refusal, n) in all() {
            if let Some(agent) = &refusal.agent {
                (agent.mend)(stage, &guests[n]).with_context(|| refusal.name.to_owned())?;
            }
        }
        for (refusal, n) in all().filter(|(refusal, _)| refusal.agent.is_some()) {
            goes_on(&mut guests[n]).with_context(|| refusal.name.to_owned())?;
            saw(refusal.name, "put right: healthy, and the agent was never restarted");
        }
    }
    Ok(())
}

fn shows(refusal: &Refusal, guest: &mut Guest) -> anyhow::Result<()> {
    guest.booted()?;
    let console = words(&guest.console());
    for said in refusal.said {
        ensure!(console.contains(said), "{said:?} is not on the console:\n{console}");
    }
    let line = |word: &&str| console.lines().find(|line| line.contains(word)).unwrap_or_default().to_owned();
    saw(refusal.name, refusal.said.first().map(line).unwrap_or_default());
    match &refusal.agent {
        None => never_began(guest),
        Some(agent) => names_it(agent, guest),
    }
}

/// Nothing of what was fetched was executed, or is left.
fn never_began(guest: &Guest) -> anyhow::Result<()> {
    let status = String::from_utf8_lossy(&guest.ssh("cloud-init status", "")?.stdout).trim().to_owned();
    ensure!(status.contains("error"), "cloud-init says {status}");
    let left = guest
        .sh("ls -d /usr/local/bin/forest-agent /etc/systemd/system/forest-agent.service 2>&1 || true")?;
    ensure!(left.matches("No such file").count() == 2, "something is left: {left}");
    Ok(())
}

fn names_it(agent: &Agent, guest: &mut Guest) -> anyhow::Result<()> {
    let reason = |health: &Value| health["checks"][agent.check][0]["reason"] == agent.reason;
    let health = guest.until_health(agent.reason, reason)?;
    saw("    /health", &health["checks"][agent.check][0]["output"]);
    let checked = guest.ssh("forest-agent check --json", "")?;
    let checked: Value = serde_json::from_slice(&checked.stdout).context("the answer of `check`")?;
    let steps = checked["steps"].as_array().context("steps")?;
    let named = steps.iter().find(|step| step["status"] == "would_fail" && step["reason"] == agent.reason);
    let named = named.with_context(|| format!("`check` does not name {}: {checked:#}", agent.reason))?;
    saw("    check", format!("{}: {}", named["name"], named["detail"]));
    Ok(())
}

fn goes_on(guest: &mut Guest) -> anyhow::Result<()> {
    guest.healthy()?;
    let restarts = guest.sh("systemctl show forest-agent -p NRestarts --value")?;
    ensure!(restarts == "0", "the agent was restarted {restarts} times");
    Ok(())
}

/// The console without what each line begins with, and what a table wrapped in one line again.
fn words(console: &str) -> String {
    let said = console.lines().map(|line| match line.find("cloud-init[") {
        Some(at) => line[at..].split_once("]: ").map_or(line, |(_, said)| said),
        None => line,
    });
    let mut text = String::new();
    for line in said {
        text.push_str(if line.starts_with("     ") { " " } else { "\n" });
        text.push_str(&line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    text
}
