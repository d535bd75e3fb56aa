//! Everything that is no server: keys, firewalls, placement groups.

use serde_json::{Value, json};

use super::http::Answer;
use super::world::World;

fn name(body: &Value) -> &str {
    body["name"].as_str().unwrap_or_default()
}

fn labels(body: &Value) -> Value {
    if body["labels"].is_object() { body["labels"].clone() } else { json!({}) }
}

pub(super) fn create_key(world: &mut World, body: &Value) -> Answer {
    let key = body["public_key"].as_str().unwrap_or_default();
    let words: Vec<&str> = key.split_whitespace().collect();
    if words.len() < 2 {
        return Err((422, "invalid_input", "invalid input in field 'public_key'".to_owned()));
    }
    world.unique("ssh_keys", name(body))?;
    let same = |other: &Value| other["public_key"].as_str().is_some_and(|text| text.contains(words[1]));
    if world.all("ssh_keys").iter().any(same) {
        return Err((409, "uniqueness_error", "SSH key with the same fingerprint already exists".to_owned()));
    }
    let id = world.fresh();
    let key = json!({"id": id, "name": name(body), "fingerprint": "b7:2f:30:a0:2f:6c:58:6c:21:04:58:61:ba:06:3b:2f",
        "public_key": key, "labels": labels(body), "created": "2026-11-22T20:16:55+00:00"});
    world.table("ssh_keys").insert(id, key.clone());
    Ok((201, json!({"ssh_key": key})))
}

pub(super) fn create_firewall(world: &mut World, body: &Value) -> Answer {
    world.unique("firewalls", name(body))?;
    let id = world.fresh();
    let firewall = json!({"id": id, "name": name(body), "labels": labels(body), "rules": body["rules"],
        "created": "2026-11-22T20:16:55+00:00", "applied_to": body["apply_to"]});
    world.table("firewalls").insert(id, firewall.clone());
    let action = world.begin("apply_firewall", "firewall", id);
    Ok((201, json!({"firewall": firewall, "actions": [action]})))
}

pub(super) fn firewall_action(world: &mut World, id: u64, what: &str, body: &Value) -> Answer {
    let mut firewall = world.get("firewalls", id)?.clone();
    match what {
        "set_rules" => firewall["rules"] = body["rules"].clone(),
        "remove_from_resources" => {
            let (gone, mut left) = (body["remove_from"].as_array(), firewall["applied_to"].clone());
            if let (Some(gone), Value::Array(left)) = (gone, &mut left) {
                left.retain(|applied| {
                    !gone.iter().any(|gone| gone["label_selector"] == applied["label_selector"])
                });
            }
            firewall["applied_to"] = left;
        }
        _ => return Err((404, "not_found", format!("no action {what}"))),
    }
    world.table("firewalls").insert(id, firewall);
    let action = world.begin(what, "firewall", id);
    Ok((201, json!({"actions": [action]})))
}

pub(super) fn create_group(world: &mut World, body: &Value) -> Answer {
    world.unique("placement_groups", name(body))?;
    let id = world.fresh();
    let group = json!({"id": id, "name": name(body), "labels": labels(body), "type": body["type"],
        "created": "2026-11-22T20:16:55+00:00", "servers": []});
    world.table("placement_groups").insert(id, group.clone());
    Ok((201, json!({"placement_group": group, "action": null})))
}

pub(super) fn delete(world: &mut World, kind: &str, id: u64) -> Answer {
    let thing = world.get(kind, id)?;
    let used = |key: &str| thing[key].as_array().is_some_and(|list| !list.is_empty());
    if used("applied_to") || used("servers") {
        return Err((409, "resource_in_use", format!("{kind} is still in use")));
    }
    for known in ["ssh_keys", "firewalls", "placement_groups"] {
        if known == kind {
            world.table(known).remove(&id);
        }
    }
    Ok((204, Value::Null))
}
