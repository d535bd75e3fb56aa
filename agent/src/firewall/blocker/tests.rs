use serde_json::json;

use super::super::policy::tests::{registry, settings};
use super::*;

/// One table with one base chain, and its rules as expressions.
fn guard(family: &str, policy: &str, rules: &[Value]) -> Vec<Value> {
    let mut objects = vec![
        json!({"table": {"family": family, "name": "guard"}}),
        json!({"chain": {"family": family, "table": "guard", "name": "in", "type": "filter", "hook": "input",
            "prio": 0, "policy": policy}}),
    ];
    objects.extend(rules.iter().map(|expr| rule(family, "in", expr)));
    objects
}

fn rule(family: &str, chain: &str, expr: &Value) -> Value {
    json!({"rule": {"family": family, "table": "guard", "chain": chain, "expr": expr}})
}

fn dport(right: &Value) -> Value {
    json!({"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": right}})
}

fn saddr(protocol: &str, right: &Value) -> Value {
    json!({"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": "saddr"}}, "right": right}})
}

/// What everybody has: this machine itself, and what is established.
fn usual() -> [Value; 3] {
    [
        json!([{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "lo"}}, {"accept": null}]),
        json!([{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}},
            {"counter": null}, {"accept": null}]),
        json!([{"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "icmp"}}, {"accept": null}]),
    ]
}

fn blocked(objects: &[Value], peers: &[(&str, &str)]) -> Vec<u16> {
    let listing = json!({"nftables": objects}).to_string();
    let policy = Policy::of(&settings(""), Some(&registry(peers)), None);
    let own = Some("fd00::1".parse().unwrap());
    let found = find(&listing, "forest_agent_ab", &policy, own).unwrap();
    found.map(|blocker| blocker.ports.into_iter().collect()).unwrap_or_default()
}

const NONE: [u16; 0] = [];
const ALL: [u16; 4] = [6222, 6223, 8222, 8223];
const PEERS: [(&str, &str); 2] = [("n-2", "fd00::2"), ("n-3", "fd00::3")];

#[test]
fn a_policy_of_drop_that_lets_in_only_what_is_usual() {
    assert_eq!(blocked(&guard("inet", "drop", &usual()), &PEERS), ALL);
    assert_eq!(blocked(&guard("ip6", "drop", &usual()), &[]), ALL);
    assert_eq!(blocked(&guard("inet", "accept", &usual()), &PEERS), NONE);
    // No node of this forest uses IPv4.
    assert_eq!(blocked(&guard("ip", "drop", &usual()), &PEERS), NONE);
}

#[test]
fn what_the_chain_lets_in_is_not_blocked() {
    let [here, established, icmp] = usual();
    let with = |more: Value| guard("inet", "drop", &[here.clone(), established.clone(), icmp.clone(), more]);
    let range = json!({"set": [22, 6222, 6223, {"range": [8000, 9000]}]});
    assert_eq!(blocked(&with(json!([dport(&range), {"accept": null}])), &PEERS), NONE);
    assert_eq!(blocked(&with(json!([dport(&json!(6222)), {"accept": null}])), &PEERS), [6223, 8222, 8223]);
    let one = saddr("ip6", &json!("fd00::2"));
    assert_eq!(blocked(&with(json!([one, {"accept": null}])), &PEERS), [6222, 6223]);
    let net = saddr("ip6", &json!({"prefix": {"addr": "fd00::", "len": 64}}));
    assert_eq!(blocked(&with(json!([net, {"accept": null}])), &PEERS), NONE);
}

#[test]
fn what_cannot_be_read_is_no_accusation() {
    let multiport = json!([{"xt": {"type": "match", "name": "multiport"}}, {"accept": null}]);
    assert_eq!(blocked(&guard("ip6", "drop", &[multiport]), &PEERS), NONE);
    let map =
        json!([{"vmap": {"key": {"payload": {"protocol": "tcp", "field": "dport"}}, "data": "@ports"}}]);
    assert_eq!(blocked(&guard("inet", "drop", &[map]), &PEERS), NONE);
    let interface = json!([{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth1"}},
        {"return": null}]);
    let rules = [interface, json!([{"drop": null}])];
    assert_eq!(blocked(&guard("inet", "accept", &rules), &PEERS), NONE);
}

#[test]
fn the_states_of_iptables_are_the_rule_for_what_is_established() {
    let state = json!([{"xt": {"type": "match", "name": "conntrack"}}, {"counter": null}, {"accept": null}]);
    assert_eq!(blocked(&guard("ip6", "drop", std::slice::from_ref(&state)), &PEERS), ALL);
    let with_port =
        json!([dport(&json!(6222)), {"xt": {"type": "match", "name": "conntrack"}}, {"accept": null}]);
    assert_eq!(blocked(&guard("ip6", "drop", &[state, with_port]), &PEERS), [6223, 8222, 8223]);
}

/// As firewalld does it: a policy of accept, a map of states, a zone's chain, and a reject at the end.
#[test]
fn a_reject_behind_the_zones() {
    let state = json!([{"vmap": {"key": {"ct": {"key": "state"}},
        "data": {"set": [["established", {"accept": null}], ["related", {"accept": null}], ["invalid", {"drop": null}]]}}}]);
    let zones = json!([{"goto": {"target": "zones"}}]);
    let reject = json!([{"reject": {"type": "icmpx", "expr": "admin-prohibited"}}]);
    let mut objects =
        guard("inet", "accept", &[state, json!([{"jump": {"target": "zones"}}]), reject.clone()]);
    objects.push(rule("inet", "zones", &json!([dport(&json!(22)), {"accept": null}])));
    assert_eq!(blocked(&objects, &PEERS), ALL);
    objects.push(rule("inet", "zones", &json!([dport(&json!({"range": [6222, 8223]})), {"accept": null}])));
    assert_eq!(blocked(&objects, &PEERS), NONE);
    // What a goto leads to does not come back.
    let mut objects = guard("inet", "accept", &[zones, reject]);
    objects.push(rule("inet", "zones", &json!([dport(&json!(22)), {"accept": null}])));
    assert_eq!(blocked(&objects, &PEERS), NONE);
}

#[test]
fn a_jump_that_never_ends_is_no_accusation() {
    let jump = json!([{"jump": {"target": "in"}}]);
    assert_eq!(blocked(&guard("inet", "drop", &[jump]), &PEERS), NONE);
}

#[test]
fn our_own_table_is_passed_over_and_a_set_of_others_is_read() {
    let policy = Policy::of(&settings(""), Some(&registry(&PEERS)), None);
    let ours = table::Table::of("forest_agent_ab", &policy);
    assert_eq!(blocked(ours.objects(), &[("n-4", "fd00::4")]), NONE);
    let mut objects = guard("inet", "drop", &[json!([saddr("ip6", &json!("@friends")), {"accept": null}])]);
    objects.push(json!({"set": {"family": "inet", "table": "guard", "name": "friends",
        "elem": ["fd00::2", {"elem": {"val": "fd00::3", "comment": "x"}}]}}));
    assert_eq!(blocked(&objects, &PEERS), NONE);
    assert_eq!(blocked(&objects, &[("n-4", "fd00::4")]), [6222, 6223]);
}
