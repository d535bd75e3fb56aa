//! What forests here and elsewhere have in common when they get smaller.

use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;

use crate::failure::Failure;
use crate::local::teardown::Fate;
use crate::local::unknown;

/// What came of a shrinking.
#[derive(Debug, Default)]
pub struct Shrunk {
    /// The nodes that were worked on; those after the first that did not leave were left alone.
    pub fates: Vec<Fate>,
    /// Streams that were destroyed, by force.
    pub lost: Vec<String>,
}

/// The members of these names, each once; not all there are.
///
/// # Errors
/// [`Failure`] naming a node that is none, or where nobody would be left.
pub fn chosen(forest: &ForestId, members: &[NodeId], nodes: &[String]) -> Result<Vec<NodeId>, Failure> {
    let mut leavers: Vec<NodeId> = Vec::new();
    for node in nodes {
        let Some(member) = members.iter().find(|member| member.as_str() == node) else {
            let known: Vec<String> = members.iter().map(ToString::to_string).collect();
            return Err(unknown("node", node, &known, Reason::NodeUnknown));
        };
        if !leavers.contains(member) {
            leavers.push(member.clone());
        }
    }
    if leavers.len() == members.len() {
        let message =
            format!("forest {forest} would have no node left: take it down with morpheus teardown {forest}");
        return Err(Failure::new(Reason::LeaveLastNode, message));
    }
    Ok(leavers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_leave_are_members_each_once_and_not_all() {
        let grove: ForestId = "grove".parse().unwrap();
        let members: Vec<NodeId> =
            ["grove-node-1", "grove-node-2"].iter().map(|name| name.parse().unwrap()).collect();
        let choose = |nodes: &[&str]| {
            let nodes: Vec<String> = nodes.iter().map(|node| (*node).to_owned()).collect();
            chosen(&grove, &members, &nodes).map_err(|failure| failure.reason)
        };
        assert_eq!(choose(&["grove-node-2", "grove-node-2"]), Ok(vec![members[1].clone()]));
        assert_eq!(choose(&["grove-node-3"]), Err(Reason::NodeUnknown));
        assert_eq!(choose(&["grove-node-1", "grove-node-2"]), Err(Reason::LeaveLastNode));
    }
}
