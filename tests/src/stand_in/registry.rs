//! How NimsForest reads node-info.json and the registry, its leniency included. Pure.

use std::net::IpAddr;

use serde_json::Value;

/// Who this node is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NodeInfo {
    pub(super) forest: String,
    pub(super) node: String,
}

/// Node-info from the text of its file, `None` where there is none; `Err` is the real program's last line.
pub(super) fn node_info(text: Option<&str>, path: &str) -> Result<NodeInfo, String> {
    let fatal = |what: &str| format!("[NATSClusterConfig] FATAL: {what} {path}");
    let value: Value = text
        .and_then(|text| serde_json::from_str(text).ok())
        .ok_or_else(|| fatal("Node configuration required at"))?;
    let id = |key: &str| {
        let id = value[key].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
        id.ok_or_else(|| fatal(&format!("{key} is required in")))
    };
    Ok(NodeInfo { forest: id("forest_id")?, node: id("node_id")? })
}

/// The peers' addresses, as the registry spells them: every entry of the forest in which none of the addresses is
/// `own`, letter by letter. Whatever is not a registry has no peers.
pub(super) fn peers(text: &str, forest: &str, own: IpAddr) -> Vec<String> {
    let own = own.to_string();
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let nodes = value["nodes"][forest].as_array().cloned().unwrap_or_default();
    let addresses =
        |node: &Value| ["ipv6", "ipv4", "ip"].map(|key| node[key].as_str().unwrap_or_default().to_owned());
    nodes
        .iter()
        .map(addresses)
        .filter(|addresses| !addresses.contains(&own))
        .map(|addresses| addresses.into_iter().find(|ip| !ip.is_empty()).unwrap_or_default())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_info_needs_both_ids_and_ignores_the_rest() {
        let read = |text| node_info(text, "/x.json");
        let wanted = NodeInfo { forest: "grove".to_owned(), node: "grove-node-1".to_owned() };
        assert_eq!(read(Some(r#"{"forest_id":"grove","node_id":"grove-node-1","a":1}"#)), Ok(wanted));
        for (text, said) in [
            (None, "Node configuration required at /x.json"),
            (Some("{"), "Node configuration required at /x.json"),
            (Some(r#"{"node_id":"n"}"#), "forest_id is required in /x.json"),
            (Some(r#"{"forest_id":"f","node_id":""}"#), "node_id is required in /x.json"),
        ] {
            assert!(read(text).unwrap_err().ends_with(said));
        }
    }

    #[test]
    fn the_own_entry_is_known_by_its_spelling_alone() {
        let own = "fd00::2".parse().unwrap();
        let text = r#"{"nodes":{"grove":[{"ip":"fd00::2"},{"ip":"FD00::2"},{"ip":"10.0.0.7","ipv6":"fd00::3"},{}]}}"#;
        assert_eq!(peers(text, "grove", own), ["FD00::2", "fd00::3", ""]);
        for text in ["", "[]", "{", "null", r#"{"nodes":null}"#, r#"{"nodes":{"grove":{}}}"#] {
            assert_eq!(peers(text, "grove", own), [""; 0], "{text}");
        }
    }
}
