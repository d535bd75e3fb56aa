//! `morpheus plant cloud --dry-run`: which machines, where, at what price, and what they are told.

use forest_core::id::ForestId;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::super::table::table;
use crate::cloud::offers::Offer;
use crate::cloud::preflight::Prepared;
use crate::cloud::programs::BIN;
use crate::cloud::record::Plan;
use crate::cloud::site::Site;
use crate::cloud::told::Telling;
use crate::failure::Failure;
use crate::hetzner::wire::Price;
use crate::report::{ActionReport, NodeAction};
use crate::ui::{Done, counted};

/// Everything that would be done, and nothing done.
pub(super) fn done(
    site: &Site,
    forest: &ForestId,
    plan: &Plan,
    prepared: &Prepared,
) -> Result<Done, Failure> {
    let programs = plan.programs.as_ref().unwrap_or(&prepared.programs);
    let telling = Telling { forest, programs, share: &site.share, shelf: &site.shelf };
    let mut told = Vec::new();
    for node in &plan.members {
        told.push((node, telling.masked(node)?.expose_secret().to_owned()));
    }
    let offer = &prepared.offers[0];
    let currency = &prepared.currency;
    let nodes = plan.members.iter().map(|node| NodeAction {
        node_id: node.to_string(),
        ip: String::new(),
        status: "planned".to_owned(),
    });
    let report = ActionReport {
        forest_id: forest.to_string(),
        action: "plant",
        nodes: nodes.collect(),
        error: None,
        plan: Some(json!({
            "currency": currency,
            "servers": told.iter().map(|(node, text)| {
                let mut server = priced(offer);
                server["node_id"] = node.as_str().into();
                server["user_data"] = text.as_str().into();
                server
            }).collect::<Vec<_>>(),
            "total": { "hourly": price(&total(&offer.hourly, told.len())), "monthly": price(&total(&offer.monthly, told.len())) },
            "alternatives": prepared.offers[1..].iter().map(priced).collect::<Vec<_>>(),
            "ssh_key": prepared.key.name,
            "image": site.machine.image,
            "ipv4": site.machine.ipv4,
            "programs": programs.all().map(|program| format!("{BIN}/{}", program.file)).collect::<Vec<_>>(),
            "notes": prepared.notes,
        })),
        lost: Vec::new(),
    };
    let text = text(site, forest, prepared, &told, &report);
    Ok(Done::new(super::super::json(&report), text))
}

fn text(
    site: &Site,
    forest: &ForestId,
    prepared: &Prepared,
    told: &[(&forest_core::id::NodeId, String)],
    report: &ActionReport,
) -> String {
    let offer = &prepared.offers[0];
    let currency = &prepared.currency;
    let rows = report.nodes.iter().map(|node| {
        vec![
            node.node_id.clone(),
            offer.server_type.clone(),
            offer.location.clone(),
            site.machine.image.clone(),
            four(&offer.hourly.net),
            four(&offer.monthly.net),
        ]
    });
    let head =
        ["node", "type", "location", "image", &format!("{currency}/hour"), &format!("{currency}/month")];
    let (net, gross) = {
        let all = total(&offer.monthly, told.len());
        (all.net, all.gross)
    };
    let mut text = format!(
        "{forest} would be planted on Hetzner Cloud: {}, nothing is done yet\n{}\n\nin all {net} {currency} a month at \
         most, without VAT ({gross} with the project's), while they stand",
        counted(told.len(), "server"),
        table(&head, rows),
    );
    if site.machine.ipv4 {
        text.push_str(", and what their IPv4 addresses cost");
    }
    let elsewhere: Vec<String> = prepared.offers[1..]
        .iter()
        .map(|offer| format!("{} in {} ({})", offer.server_type, offer.location, four(&offer.monthly.net)))
        .collect();
    if !elsewhere.is_empty() {
        text.push_str(&format!("\nwhere that is sold out: {}", elsewhere.join(", ")));
    }
    if let Some(supplies) = &prepared.supplies {
        for program in supplies.all() {
            text.push_str(&format!("\nprogram: {BIN}/{} from {}", program.shelved.file, program.from()));
        }
    }
    text.push_str(&format!("\nlogs in: the key {}", prepared.key.name));
    for note in &prepared.notes {
        text.push_str(&format!("\nnote: {note}"));
    }
    if let Some((node, user_data)) = told.first() {
        text.push_str(&format!("\n\nuser-data of {node}, its secrets masked:\n{}", user_data.trim_end()));
    }
    if told.len() > 1 {
        text.push_str("\n\nthe others are told the same but for node_id; --json shows each");
    }
    text
}

fn priced(offer: &Offer) -> Value {
    json!({
        "server_type": offer.server_type,
        "location": offer.location,
        "hourly": price(&offer.hourly),
        "monthly": price(&offer.monthly),
        "said_to_be_available": offer.hinted,
    })
}

fn price(price: &Price) -> Value {
    json!({"net": price.net, "gross": price.gross})
}

/// So many times a price.
fn total(price: &Price, count: usize) -> Price {
    #[expect(clippy::cast_precision_loss, reason = "a number of servers")]
    let times = |text: &str| {
        text.parse::<f64>().map_or_else(|_| "?".to_owned(), |price| format!("{:.4}", price * count as f64))
    };
    Price { net: times(&price.net), gross: times(&price.gross) }
}

/// The API gives ten digits.
fn four(text: &str) -> String {
    text.parse::<f64>().map_or_else(|_| text.to_owned(), |price| format!("{price:.4}"))
}
