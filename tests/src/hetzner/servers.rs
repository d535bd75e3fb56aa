//! Servers: made, powered, deleted.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Shared;
use super::http::Answer;
use super::world::{Refusal, World, id};

/// The longest user-data, in characters.
const USER_DATA: usize = 32_768;
/// No placement group has more servers.
const GROUP: usize = 10;

pub(super) fn create(shared: &Arc<Shared>, body: &Value) -> Answer {
    let (number, answer) = {
        let mut world = shared.world();
        let server = checked(&world, body)?;
        take_stock(&mut world, body)?;
        let number = world.fresh();
        let server = shown(number, &server, body, &(shared.hooks.network)(number));
        world.table("servers").insert(number, server.clone());
        join_group(&mut world, body, number);
        let action = world.begin("create_server", "server", number);
        let next = world.begin("start_server", "server", number);
        if shared.hooks.created.is_some() {
            world.coming.insert(number);
        }
        (number, json!({"server": server, "action": action, "next_actions": [next], "root_password": null}))
    };
    if let Some(created) = shared.hooks.created.clone() {
        let (coming, body) = (Coming(Arc::clone(shared), number), body.clone());
        tokio::task::spawn_blocking(move || {
            created(number, body);
            drop(coming);
        });
    }
    Ok((201, answer))
}

/// A machine that is being made, until this is dropped.
struct Coming(Arc<Shared>, u64);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.world().coming.remove(&self.1);
    }
}

/// Type, location and image, where all are as they should be.
fn checked(world: &World, body: &Value) -> Result<[Value; 3], Refusal> {
    let text = |key: &str| body[key].as_str().unwrap_or_default();
    let invalid = |what: &str| (422, "invalid_input", format!("invalid input in field '{what}'"));
    let named = |kind: &str, name: &str| world.all(kind).into_iter().find(|thing| thing["name"] == name);
    if !is_host_name(text("name")) {
        return Err(invalid("name"));
    }
    world.unique("servers", text("name"))?;
    if text("user_data").chars().count() > USER_DATA {
        return Err(invalid("user_data"));
    }
    let kind = named("server_types", text("server_type")).ok_or_else(|| invalid("server_type"))?;
    let location = named("locations", text("location")).ok_or_else(|| invalid("location"))?;
    let image =
        world.get("images", body["image"].as_u64().unwrap_or_default()).map_err(|_| invalid("image"))?;
    if image["architecture"] != kind["architecture"] {
        return Err(invalid("image"));
    }
    if !kind["locations"]
        .as_array()
        .is_some_and(|places| places.iter().any(|p| p["name"] == location["name"]))
    {
        return Err((422, "unsupported_error", "server type is not supported at this location".to_owned()));
    }
    if world.all("servers").len() >= world.server_limit {
        return Err((403, "resource_limit_exceeded", "server limit reached".to_owned()));
    }
    if let Some(group) = body["placement_group"].as_u64() {
        let group = world.get("placement_groups", group)?;
        if group["servers"].as_array().is_some_and(|servers| servers.len() >= GROUP) {
            return Err((409, "placement_error", "placement group is full".to_owned()));
        }
    }
    Ok([kind, location, image.clone()])
}

fn is_host_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() < 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

fn take_stock(world: &mut World, body: &Value) -> Result<(), Refusal> {
    let key = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    match world.stock.get_mut(&(key("server_type"), key("location"))) {
        Some(0) => Err((412, "resource_unavailable", "error during placement".to_owned())),
        Some(left) => {
            *left -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

fn shown(number: u64, [kind, location, image]: &[Value; 3], body: &Value, network: &str) -> Value {
    let v4 = body["public_net"]["enable_ipv4"].as_bool().unwrap_or(true);
    let ipv4 = json!({"id": number + 1, "ip": format!("203.0.113.{}", number % 250), "blocked": false});
    json!({"id": number, "name": body["name"], "status": "initializing", "created": "2026-11-22T20:16:55+00:00",
        "public_net": {"ipv4": if v4 { ipv4 } else { Value::Null },
                       "ipv6": {"id": number + 2, "ip": network, "blocked": false, "dns_ptr": []},
                       "floating_ips": [], "firewalls": []},
        "private_net": [], "server_type": kind, "location": location, "image": image, "iso": null,
        "rescue_enabled": false, "locked": false, "backup_window": null, "outgoing_traffic": null,
        "ingoing_traffic": null, "included_traffic": 0, "protection": {"delete": false, "rebuild": false},
        "labels": body["labels"], "volumes": [], "load_balancers": [], "primary_disk_size": 40,
        "placement_group": body["placement_group"]})
}

fn join_group(world: &mut World, body: &Value, number: u64) {
    if let Some(group) = body["placement_group"].as_u64()
        && let Some(Value::Array(servers)) =
            world.table("placement_groups").get_mut(&group).map(|group| &mut group["servers"])
    {
        servers.push(number.into());
    }
}

pub(super) fn delete(shared: &Arc<Shared>, number: u64) -> Answer {
    let action = {
        let mut world = shared.world();
        let server = world.get("servers", number)?;
        if server["protection"]["delete"] == true {
            return Err((403, "protected", "server deletion is protected".to_owned()));
        }
        if world.is_locked(number) {
            return Err((423, "locked", "server is locked".to_owned()));
        }
        world.forget_server(number);
        world.begin("delete_server", "server", number)
    };
    let deleted = Arc::clone(&shared.hooks.deleted);
    tokio::task::spawn_blocking(move || deleted(number));
    Ok((200, json!({"action": action})))
}

pub(super) fn power_on(world: &mut World, number: u64) -> Answer {
    let number = id(world.get("servers", number)?);
    Ok((201, json!({"action": world.begin("start_server", "server", number)})))
}
