use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::*;
use crate::driver::LastRead;
use crate::firewall::policy::tests::{registry, settings};
use crate::firewall::tools::ToolError;

/// A machine's firewall in memory.
#[derive(Default)]
struct Fake {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    table: Option<(String, Vec<Value>)>,
    foreign: Vec<Value>,
    ufw: Option<(bool, Vec<String>)>,
    refusal: Option<&'static str>,
    /// Lists rules in other words than they were written in.
    own_words: bool,
}

impl Fake {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn nft(&mut self, args: &[&str], input: &str) -> Result<String, &'static str> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        match args {
            ["-j", "-s", "list", "table", "inet", name] => {
                let table = self.table.as_ref().filter(|(known, _)| known == name);
                let (name, objects) = table.ok_or("No such file or directory")?;
                let mut listed = vec![json!({"table": {"family": "inet", "name": name}})];
                listed.extend(objects.iter().cloned());
                if self.own_words {
                    listed.push(json!({"rule": {"family": "inet", "table": name, "words": "others"}}));
                }
                Ok(json!({"nftables": listed}).to_string())
            }
            ["-j", "-s", "-t", "list", "ruleset"] => Ok(json!({"nftables": self.foreign}).to_string()),
            ["-j", "-f", "-"] => {
                let sent: Value = serde_json::from_str(input).unwrap();
                let commands = sent["nftables"].as_array().unwrap();
                let objects = commands.iter().filter_map(|command| command.get("add"));
                let (tables, objects): (Vec<_>, Vec<_>) = objects.partition(|it| it.get("table").is_some());
                let name = tables[0]["table"]["name"].as_str().unwrap().to_owned();
                self.table = (tables.len() > 1).then(|| (name, objects.into_iter().cloned().collect()));
                Ok(String::new())
            }
            _ => panic!("{args:?}"),
        }
    }

    fn ufw(&mut self, args: &[&str]) {
        let lines = &mut self.ufw.as_mut().expect("ufw is there").1;
        match args {
            ["allow", "proto", "tcp", "from", from, "to", "any", "port", ports, "comment", tag] => {
                let hex: String = tag.bytes().map(|byte| format!("{byte:02x}")).collect();
                let from = if *from == "any" { "0.0.0.0/0" } else { from };
                lines.push(format!("### tuple ### allow tcp {ports} ::/0 any {from} in comment={hex}"));
            }
            ["delete", "allow", "proto", "tcp", "from", from, "to", "any", "port", ports] => {
                let from = if *from == "any" { "0.0.0.0/0" } else { from };
                lines.retain(|line| !line.contains(&format!("allow tcp {ports} ::/0 any {from} in")));
            }
            _ => panic!("{args:?}"),
        }
    }
}

impl Tools for Fake {
    fn run(
        &self,
        program: &'static str,
        args: &[&str],
        input: String,
    ) -> BoxFuture<'static, Result<String, ToolError>> {
        let result = self.change(|state| match program {
            "nft" => state.nft(args, &input),
            _ => {
                state.ufw(args);
                Ok(String::new())
            }
        });
        let refused =
            |said: &str| ToolError::Refused { program, args: args.join(" "), said: said.to_owned() };
        std::future::ready(result.map_err(refused)).boxed()
    }

    fn ufw(&self) -> Result<Option<(bool, String)>, Fault> {
        Ok(self.change(|state| state.ufw.as_ref().map(|(active, lines)| (*active, lines.join("\n")))))
    }
}

struct Scene {
    fake: Arc<Fake>,
    step: FirewallStep,
    seen: Seen,
}

impl Scene {
    fn new(more: &str) -> Self {
        let fake = Arc::new(Fake::default());
        let step = FirewallStep::new(Arc::new(settings(more)), fake.clone());
        Self { fake, step, seen: Seen { address: "fd00::1".parse().ok(), ..Seen::default() } }
    }

    /// The same machine under other settings.
    fn under(self, more: &str) -> Self {
        let step = FirewallStep::new(Arc::new(settings(more)), self.fake.clone());
        Self { step, ..self }
    }

    fn joined(&mut self, nodes: &[(&str, &str)]) {
        self.seen.registry = Some(Arc::new(LastRead { registry: registry(nodes), at: None }));
    }

    async fn look(&mut self) -> Result<Look, Fault> {
        let looked = self.step.look(self.seen.clone()).await;
        looked.facts.into_iter().for_each(|fact| self.seen.learn(fact));
        looked.result
    }

    /// Acts if something is to be done, and says what it was.
    async fn converge(&mut self) -> Option<Fault> {
        let Look::Differs(fault) = self.look().await.unwrap() else { return None };
        self.step.act(self.seen.clone()).await.unwrap();
        let again = self.look().await.unwrap();
        assert!(matches!(again, Look::Stands(_)), "nothing is left to do: {again:?}");
        Some(fault)
    }

    fn is_there(&self) -> bool {
        self.fake.change(|state| {
            state.table.is_some() || state.ufw.as_ref().is_some_and(|(_, lines)| lines.len() > 1)
        })
    }
}

#[tokio::test]
async fn the_rules_follow_the_registry() {
    let mut scene = Scene::new("");
    let fault = scene.converge().await.unwrap();
    assert!(fault.message.contains("is not there; it would get 6 rules"), "{fault}");
    assert_eq!(scene.seen.firewall_rules, Some(6));
    assert_eq!(scene.converge().await, None);

    scene.joined(&[("grove-node-1", "fd00::1"), ("grove-node-2", "fd00::2"), ("grove-node-3", "10.0.0.3")]);
    let fault = scene.converge().await.unwrap();
    assert_eq!(fault.message, "would let in 10.0.0.3, fd00::2");
    assert_eq!(fault.public.as_deref(), Some(Reason::FirewallDiffers.meaning().trim().trim_end_matches('.')));
    scene.joined(&[("grove-node-1", "fd00::1"), ("grove-node-3", "10.0.0.3")]);
    assert_eq!(scene.converge().await.unwrap().message, "would shut out fd00::2");

    scene.fake.change(|state| drop(state.table.as_mut().unwrap().1.pop()));
    assert!(scene.converge().await.unwrap().message.contains("are not ours"));
}

#[tokio::test]
async fn a_node_that_was_removed_or_does_not_manage_has_no_rules() {
    for (removed, more) in [(true, ""), (false, "firewall: { manage: false }\n")] {
        let mut scene = Scene::new("");
        scene.fake.change(|state| {
            state.ufw = Some((true, vec!["### tuple ### allow tcp 22 ::/0 any fd00::/8 in".into()]));
        });
        scene.joined(&[("grove-node-2", "fd00::2")]);
        scene.converge().await.unwrap();
        assert!(scene.is_there());
        let mut scene = scene.under(more);
        scene.seen.removed = removed.then(|| "2026-11-22T20:16:55Z".into());
        scene.converge().await.unwrap();
        assert!(!scene.is_there());
        assert_eq!(scene.seen.firewall_rules, None);
        assert_eq!(scene.fake.change(|state| state.ufw.clone().unwrap().1.len()), 1);
        // From here on nobody needs to be asked.
        scene.fake.change(|state| state.refusal = Some("Device or resource busy"));
        assert_eq!(scene.converge().await, None);
    }
}

#[tokio::test]
async fn ufw_gets_rules_of_its_own_while_it_is_active() {
    let mut scene = Scene::new("");
    scene.fake.change(|state| state.ufw = Some((false, Vec::new())));
    scene.joined(&[("grove-node-2", "fd00::2")]);
    scene.converge().await.unwrap();
    scene.fake.change(|state| state.ufw.as_mut().unwrap().0 = true);
    let fault = scene.converge().await.unwrap();
    assert_eq!(fault.message, "ufw would get 2 rules more and 0 less");
    assert_eq!(scene.seen.firewall_rules, Some(8));
    scene.joined(&[]);
    let fault = scene.converge().await.unwrap();
    assert_eq!(fault.message, "would shut out fd00::2; ufw would get 0 rules more and 1 less");
    assert!(take_out(&settings(""), scene.fake.clone()).await.unwrap());
    assert!(!scene.is_there());
    assert!(!take_out(&settings(""), scene.fake.clone()).await.unwrap());
}

#[tokio::test]
async fn who_may_not_look_says_so_only_where_it_should() {
    for refusal in ["Operation not permitted (you must be root)", "Protocol not supported"] {
        let mut scene = Scene::new("");
        scene.fake.change(|state| state.refusal = Some(refusal));
        let fault = scene.look().await.unwrap_err();
        assert!(matches!(fault.reason, Reason::FirewallNotPermitted | Reason::NftUnsupported), "{fault}");
        let mut scene = scene.under("firewall: { manage: false }\n");
        assert!(matches!(scene.look().await, Ok(Look::Stands(_))));
        assert!(!take_out(&settings("firewall: { manage: false }\n"), scene.fake.clone()).await.unwrap());
        assert!(take_out(&settings(""), scene.fake.clone()).await.is_err());
    }
}

#[tokio::test]
async fn another_nft_may_list_the_rules_in_its_own_words() {
    let mut scene = Scene::new("");
    scene.fake.change(|state| state.own_words = true);
    // Heard once, it could be what a person has just changed.
    assert!(matches!(scene.look().await, Ok(Look::Differs(_))));
    scene.step.act(scene.seen.clone()).await.unwrap();
    assert!(scene.converge().await.is_some());
    assert_eq!(scene.converge().await, None);
    scene.fake.change(|state| drop(state.table.as_mut().unwrap().1.pop()));
    assert!(scene.converge().await.is_some());
}

#[tokio::test]
async fn a_chain_of_somebody_else_is_named_once_ours_stand() {
    let mut scene = Scene::new("");
    scene.fake.change(|state| {
        state.foreign = vec![json!({"chain": {"family": "inet", "table": "guard", "name": "in",
            "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}})];
    });
    assert!(matches!(scene.look().await, Ok(Look::Differs(_))));
    scene.step.act(scene.seen.clone()).await.unwrap();
    let fault = scene.look().await.unwrap_err();
    assert_eq!(fault.reason, Reason::FirewallBlockedByOther);
    assert!(fault.message.starts_with("chain in of table inet guard"), "{fault}");
    assert!(fault.message.ends_with("6222, 6223, 8222, 8223"), "{fault}");
    assert_eq!(scene.seen.firewall_rules, Some(6));
}
