use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::packet::{Fate, Packet, Ruleset};
use super::super::policy::tests::{registry, settings};
use super::*;
use crate::settings::Settings;

const NAME: &str = "forest_agent_ab";

fn table(more: &str, nodes: &[(&str, &str)]) -> Table {
    Table::of(NAME, &Policy::of(&settings(more), Some(&registry(nodes)), None))
}

/// Rules as a person reads them: comment, chain, conditions and verdict, without the table.
fn readable(table: &Table) -> Vec<String> {
    let rules = table.objects().iter().filter_map(|object| object.get("rule"));
    let text = |value: &Value| value.to_string().replace('"', "");
    let statement = |statement: &Value| match statement.get("match") {
        Some(it) => {
            let left = &it["left"];
            let (protocol, field) = (&left["payload"]["protocol"], &left["payload"]["field"]);
            let left = left["meta"].get("key").map_or(format!("{} {}", text(protocol), text(field)), &text);
            format!("{left} {} {}", text(&it["op"]), text(&it["right"]))
        }
        None => statement.as_object().unwrap().keys().next().unwrap().clone(),
    };
    rules
        .map(|rule| {
            let expr: Vec<_> = rule["expr"].as_array().unwrap().iter().map(statement).collect();
            format!("{}: {} # {}", text(&rule["chain"]), expr.join("; "), text(&rule["comment"]))
        })
        .collect()
}

#[test]
fn the_rules_of_a_node_that_is_watched_from_one_network() {
    let more = "firewall: { monitoring_from: [10.1.2.3/8, \"2001:db8::7\"] }\n";
    insta::assert_snapshot!(readable(&table(more, &[("n-2", "fd00::2")])).join("\n"), @r"
    input: iifname == lo; accept # this machine
    input: tcp dport == {set:[6222,6223]}; ip saddr == @peers4; accept # routes
    input: tcp dport == {set:[6222,6223]}; ip6 saddr == @peers6; accept # routes
    input: tcp dport == {set:[6222,6223]}; drop # routes
    input: tcp dport == {set:[8222,8223]}; ip saddr == @peers4; accept # monitoring
    input: tcp dport == {set:[8222,8223]}; ip6 saddr == @peers6; accept # monitoring
    input: tcp dport == {set:[8222,8223]}; ip saddr == {prefix:{addr:10.0.0.0,len:8}}; accept # monitoring
    input: tcp dport == {set:[8222,8223]}; ip6 saddr == 2001:db8::7; accept # monitoring
    input: tcp dport == {set:[8222,8223]}; drop # monitoring
    input: tcp dport == {set:[4222,4223]}; drop # clients
    output: ip daddr == 169.254.169.254; tcp dport == 80; skuid != 0; drop # metadata, for root only
    ");
}

/// As nft 1.0.6 listed it: with handles, in an order of its own, a set of one as the one.
#[test]
fn what_nft_lists_is_what_was_written() {
    let wanted = table("listen: { client: \"[::]:4222\" }\n", &[("n-2", "10.0.0.2"), ("n-3", "10.0.0.1")]);
    let mut listed: Vec<Value> = vec![
        json!({"metainfo": {"version": "1.0.6", "json_schema_version": 1}}),
        json!({"table": {"family": "inet", "name": NAME, "handle": 2}}),
        json!({"rule": {"family": "ip", "table": NAME, "chain": "input", "handle": 9, "expr": []}}),
    ];
    for (n, object) in wanted.objects().iter().rev().enumerate() {
        // The rules of a chain are listed in their order.
        let place = if object.get("rule").is_some() { 3 } else { listed.len() };
        listed.insert(place, object.clone());
        let inner = listed[place].as_object_mut().unwrap().values_mut().next().unwrap();
        inner["handle"] = json!(n);
        if let Some(list) = inner.get_mut("elem").and_then(Value::as_array_mut) {
            list.reverse();
        }
    }
    let text = json!({"nftables": listed}).to_string();
    assert_eq!(Table::parse(NAME, &text).unwrap().as_ref(), Some(&wanted));
    assert_eq!(Table::parse("forest_agent_a", &text).unwrap(), None);

    listed.push(
        json!({"rule": {"family": "inet", "table": NAME, "chain": "input", "expr": [{"accept": null}]}}),
    );
    let text = json!({"nftables": listed}).to_string();
    assert_ne!(Table::parse(NAME, &text).unwrap(), Some(wanted));
}

#[test]
fn a_transaction_makes_takes_out_and_makes_anew() {
    let sent: Value = serde_json::from_str(&table("", &[]).transaction()).unwrap();
    let kinds: Vec<_> = sent["nftables"].as_array().unwrap().iter().take(4).collect();
    let of_table = json!({"table": {"family": "inet", "name": NAME}});
    assert_eq!(kinds[0], &json!({"add": of_table}));
    assert_eq!(kinds[1], &json!({"delete": of_table}));
    assert_eq!(kinds[2], &json!({"add": of_table}));
    assert_eq!(kinds[3]["add"]["set"]["name"], "peers4");
    assert_eq!(
        serde_json::from_str::<Value>(&removal(NAME)).unwrap()["nftables"].as_array().unwrap().len(),
        2
    );
}

prop_compose! {
    fn any_settings()(
        ports in proptest::collection::btree_set(1u16.., 6).prop_shuffle_list(),
        open in any::<(bool, bool)>(),
        nets in proptest::option::of(proptest::collection::vec((any::<IpAddr>(), 0u8..=32), 0..4)),
    ) -> Settings {
        let host = |open: bool| if open { "[::]" } else { "127.0.0.1" };
        let (a, b) = (host(open.0), host(open.1));
        let [p, q, r, s, t, u] = ports[..] else { unreachable!() };
        let from = nets.map_or("any".to_owned(), |nets| {
            let usable = |(ip, bits): &(IpAddr, u8)| format!("\"{ip}/{bits}\"");
            nets.iter().map(usable).collect::<Vec<_>>().join(", ")
        });
        settings(&format!(
            "listen: {{ client: \"{a}:{p}\", cluster: \"[::]:{q}\", monitor: \"[::]:{r}\", health: \"[::]:{s}\" }}\n\
             witness: {{ listen: {{ client: \"{b}:{t}\", cluster: \"[::]:{u}\" }} }}\n\
             firewall: {{ monitoring_from: [{from}] }}\n"
        ))
    }
}

/// A set in any order.
trait ShuffleList {
    fn prop_shuffle_list(self) -> BoxedStrategy<Vec<u16>>;
}

impl<S: Strategy<Value = BTreeSet<u16>> + 'static> ShuffleList for S {
    fn prop_shuffle_list(self) -> BoxedStrategy<Vec<u16>> {
        self.prop_map(|set| set.into_iter().collect::<Vec<_>>()).prop_shuffle().boxed()
    }
}

fn fate(table: &Table, port: u16, from: IpAddr) -> Fate {
    let ruleset = Ruleset::of(table.objects());
    let [input] = ruleset.inputs() else { panic!("one chain sees what comes in") };
    ruleset.fate(input, &Packet { port, v6: from.is_ipv6(), from: Some(from) })
}

proptest! {
    /// Whatever the settings and the registry: every peer comes in where it should, a stranger only where
    /// everybody may, and no port of anybody else is touched.
    #[test]
    fn peers_come_in_strangers_do_not_and_other_ports_are_left_alone(
        settings in any_settings(),
        nodes in proptest::collection::vec(any::<IpAddr>(), 0..8),
        stranger in any::<IpAddr>(),
        other in 1u16..,
    ) {
        let ids: Vec<_> = nodes.iter().enumerate().map(|(n, ip)| (format!("n-{n}"), ip.to_string())).collect();
        let ids: Vec<_> = ids.iter().map(|(id, ip)| (id.as_str(), ip.as_str())).collect();
        let policy = Policy::of(&settings, Some(&registry(&ids)), None);
        let table = Table::of(NAME, &policy);
        let (listen, witness) = (settings.listen, settings.witness_listen());
        for peer in &policy.peers {
            for at in [listen.cluster, witness.cluster, listen.monitor, listen.health] {
                prop_assert_eq!(fate(&table, at.port(), *peer), Fate::ACCEPTED);
            }
        }
        for gate in &policy.gates {
            let lets_in = match &gate.who {
                Who::Anyone => true,
                Who::Nobody => false,
                Who::PeersAnd(nets) => {
                    policy.peers.contains(&stranger) || nets.iter().any(|net| net.contains(&stranger))
                }
            };
            for port in &gate.ports {
                let due = if lets_in { Fate::ACCEPTED } else { Fate::DROPPED };
                prop_assert_eq!(fate(&table, *port, stranger), due, "{}", port);
            }
        }
        if !policy.ports().contains(&other) {
            prop_assert_eq!(fate(&table, other, stranger), Fate::ACCEPTED);
        }
    }

    /// The same by the rules' text: a rule about what comes in names ports of ours, or is for this machine itself.
    #[test]
    fn every_rule_names_its_ports(settings in any_settings()) {
        let policy = Policy::of(&settings, None, None);
        let table = Table::of(NAME, &policy);
        let rules: Vec<_> = table.objects().iter().filter_map(|object| object.get("rule")).collect();
        let (output, input): (Vec<&Value>, Vec<&Value>) =
            rules.into_iter().partition(|rule| rule["chain"] == "output");
        prop_assert_eq!(output.len(), 1);
        for rule in &input[1..] {
            let first = &rule["expr"][0]["match"];
            prop_assert_eq!(&first["left"]["payload"]["field"], "dport");
            let named = first["right"]["set"].as_array().cloned().unwrap_or(vec![first["right"].clone()]);
            let ours = |port: &Value| policy.ports().iter().any(|known| *port == *known);
            prop_assert!(named.iter().all(ours), "{}", rule);
        }
        prop_assert_eq!(Table::parse(NAME, &listing(&table)).unwrap(), Some(table));
    }
}

fn listing(table: &Table) -> String {
    let head = json!({"table": {"family": "inet", "name": NAME, "handle": 1}});
    let objects: Vec<_> = std::iter::once(&head).chain(table.objects()).collect();
    json!({"nftables": objects}).to_string()
}
