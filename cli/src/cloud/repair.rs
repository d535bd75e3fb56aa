//! What of a forest does not fit together: record, machines and entries are three lists, and each may have what the
//! others lack, after a command that was cut short or a hand in the provider's console. Pure.

use forest_core::id::{ForestId, NodeId};
use forest_core::registry::Registry;

use super::labels::Mark;
use super::record::{Plan, Worker};
use crate::hetzner::wire::Server;

/// What does not fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Misfits {
    /// Members without a machine.
    pub lost: Vec<NodeId>,
    /// Machines of nodes that are no members.
    pub machines: Vec<(u64, String)>,
    /// Entries of nodes that are no members.
    pub entries: Vec<NodeId>,
}

impl Misfits {
    /// Looks for them. `before` are the machines that were seen before the registry was read, `after` those after it:
    /// a machine is made after its node was recorded, so that one which others are just making is no misfit.
    #[must_use]
    pub fn find(
        registry: &Registry,
        forest: &ForestId,
        plan: &Plan,
        before: &[Server],
        after: &[Server],
        worker: &Worker,
    ) -> Self {
        let mark = plan.mark(forest);
        let is_member = |name: &str| plan.members.iter().any(|node| node.as_str() == name);
        let has_machine = |node: &NodeId| ours(after, &mark).any(|server| server.name == node.as_str());
        let lost = plan.members.iter().filter(|node| !has_machine(node) && !plan.in_work(node, worker));
        let strays = ours(before, &mark).filter(|server| {
            !is_member(&server.name) && ours(after, &mark).any(|other| other.id == server.id)
        });
        let entries = registry.entries(forest).into_iter().filter(|entry| !is_member(&entry.id));
        Self {
            lost: lost.cloned().collect(),
            machines: strays.map(|server| (server.id, server.name.clone())).collect(),
            entries: entries.filter_map(|entry| entry.id.parse().ok()).collect(),
        }
    }

    /// Does all fit together?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn ours<'a>(servers: &'a [Server], mark: &'a Mark) -> impl Iterator<Item = &'a Server> {
    servers.iter().filter(|server| mark.is_on(&server.labels))
}

#[cfg(test)]
mod tests {
    use forest_core::registry::{Document as _, Owner};
    use jiff::Timestamp;
    use serde_json::json;

    use super::super::record::{Request, drop_entries, plant, renew, settle};
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn grove() -> ForestId {
        "grove".parse().unwrap()
    }

    /// A process that is gone, as far as `here` can tell.
    fn gone() -> Worker {
        Worker { owner: Owner { pid: 0x3fff_fff0, ..Owner::current("morpheus") }, now: NOW }
    }

    fn here() -> Worker {
        Worker { owner: Owner::current("morpheus"), now: NOW }
    }

    fn planted(worker: &Worker) -> (Registry, Plan) {
        let request =
            Request { count: 2, location: "fsn1".to_owned(), planting: "p1".to_owned(), programs: None };
        let (registry, plan, _) = plant(&Registry::empty(), &grove(), &request, worker).unwrap();
        (registry.unwrap(), plan)
    }

    fn server(id: u64, name: &str, planting: &str) -> Server {
        let labels = json!({"managed-by": "morpheus", "forest": "grove", "planting": planting, "node": name});
        serde_json::from_value(json!({"id": id, "name": name, "status": "running", "labels": labels}))
            .unwrap()
    }

    fn find(registry: &Registry, before: &[Server], after: &[Server]) -> Misfits {
        let plan = Plan::find(registry, &grove()).unwrap();
        Misfits::find(registry, &grove(), &plan, before, after, &here())
    }

    fn nodes(names: &[&str]) -> Vec<NodeId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_member_without_a_machine_is_lost_unless_somebody_makes_it() {
        let one = [server(1, "grove-node-1", "p1")];
        let (registry, plan) = planted(&here());
        assert!(find(&registry, &one, &one).is_empty(), "it is being made");
        let settled = settle(&registry, &grove(), &plan.members, NOW).unwrap();
        assert_eq!(find(&settled, &one, &one).lost, nodes(&["grove-node-2"]));
        let both = [one[0].clone(), server(2, "grove-node-2", "p1")];
        assert!(find(&settled, &one, &both).is_empty(), "it came meanwhile");
        assert_eq!(find(&planted(&gone()).0, &one, &one).lost, nodes(&["grove-node-2"]));
        let (renewed, plan, lost) =
            renew(&settled, &grove(), &nodes(&["grove-node-2", "x"]), &here()).unwrap();
        assert_eq!((lost, plan.pending.len()), (nodes(&["grove-node-2"]), 1));
        assert!(find(&renewed.unwrap(), &one, &one).is_empty());
    }

    #[test]
    fn machines_and_entries_of_no_member_are_strays_and_those_of_other_plantings_are_not() {
        let (registry, _) = planted(&here());
        let mut text: serde_json::Value = serde_json::from_str(&registry.render()).unwrap();
        text["nodes"]["grove"] =
            json!([{"id": "grove-node-9", "ip": "::9"}, {"id": "grove-node-1", "ip": "::1"}]);
        let registry = Registry::parse(text.to_string().as_bytes()).unwrap();
        let all = [
            server(1, "grove-node-1", "p1"),
            server(2, "grove-node-2", "p1"),
            server(9, "grove-node-9", "p1"),
            server(8, "grove-node-8", "p0"),
        ];
        let misfits = find(&registry, &all, &all);
        assert_eq!(misfits.machines, [(9, "grove-node-9".to_owned())]);
        assert_eq!((misfits.entries.clone(), misfits.lost), (nodes(&["grove-node-9"]), vec![]));
        assert_eq!(find(&registry, &all[..2], &all).machines, [], "it was made after the registry was read");
        let left = drop_entries(&registry, &grove(), &misfits.entries, NOW).unwrap();
        assert_eq!(left.entries(&grove()).len(), 1);
        assert!(left.tombstone(&grove(), &misfits.entries[0]).is_some(), "it does not register again");
    }
}
