//! By what an engine dials the others while credentials are replaced, and when one that runs is to be told. Pure.
//!
//! A server that reads its configuration anew closes the routes that it had dialed by a URL, password and all, which
//! is in its list no more; what is on its way over them is lost, and for some milliseconds nobody is found behind
//! them (measured: 13 to 32 of 50,000 publishes). So no such URL goes while its route stands:
//!
//! - nats-server before 2.10 dials a URL that is new in its list, finds that the route is there, and from then on knows
//!   that one by the new URL (measured with 2.9.10). So it is told twice: of both, then of the new alone.
//! - Later ones know a route by the URL by which it came to be, for as long as it stands (measured with 2.15.1). So a
//!   running one goes on with the list that it has, and its file, which its next start reads, lists the new alone. Only
//!   when a route is missing does it read that: it then replaces all, and dials anew.
//!
//! What a server has listed before it does not dial again. So that new credentials are new to it whenever old ones go
//! from its list, they are marked while they are listed beside those.

use std::collections::BTreeSet;

use forest_core::secrets::{Credentials, Record};

use crate::engine::nats_config::Dial;

/// What a route's URL begins with, in the list of a configuration.
const URL: &str = "\"nats://";
/// Ends the URLs with new credentials while old ones stand beside them: an empty path, which changes nothing.
const MARK: &str = "/";

/// What is known of the server that is to read a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Server {
    /// It knows its routes by the URL that it dialed last: nats-server before 2.10.
    pub takes_over: bool,
    /// A route was missing after the old password had gone: it lists the new alone.
    pub renewed: bool,
}

/// By what `server` is to dial.
#[must_use]
pub fn dials(record: &Record, server: Server) -> Vec<Dial<'_>> {
    let dial = |credentials, mark| Dial { credentials, mark };
    let Some(rotation) = &record.rotation else { return vec![dial(&record.route, "")] };
    let accepted = record.in_force().accept == &rotation.route;
    if accepted && server.renewed {
        return vec![dial(&rotation.route, "")];
    }
    vec![dial(&record.route, ""), dial(&rotation.route, MARK)]
}

/// By what a witness dials. It is restarted when the password changes, and tries again where it comes too early.
#[must_use]
pub fn dials_of_witness(record: &Record) -> Vec<Dial<'_>> {
    let accept = record.in_force().accept;
    let offered = record.rotation.as_ref().map(|rotation| &rotation.route).filter(|new| *new != accept);
    let both = std::iter::once(accept).chain(offered);
    both.map(|credentials| Dial { credentials, mark: "" }).collect()
}

fn is_route(line: &&str) -> bool {
    line.trim_start().starts_with(URL)
}

fn routes(text: &str) -> BTreeSet<&str> {
    text.lines().filter(is_route).map(str::trim).collect()
}

/// The configuration without its list of routes.
#[must_use]
pub fn rest(text: &str) -> String {
    text.lines().filter(|line| !is_route(line)).flat_map(|line| [line, "\n"]).collect()
}

/// Where a route leads.
fn end(route: &str) -> &str {
    let end = route.rsplit_once('@').map_or(route, |(_, end)| end);
    end.trim_end_matches('"').trim_end_matches(MARK)
}

fn ends(text: &str) -> BTreeSet<&str> {
    routes(text).into_iter().map(end).collect()
}

/// The routes of `loaded` that lead where `planned` has routes too, by other URLs.
fn replaced<'a>(loaded: &'a str, planned: &str) -> BTreeSet<&'a str> {
    let (due, ends) = (routes(planned), ends(planned));
    routes(loaded).into_iter().filter(|route| !due.contains(route) && ends.contains(end(route))).collect()
}

/// Is a server that has read `loaded` to read `planned`? `all_stand`: it has a route to every node.
#[must_use]
pub fn is_due(loaded: &str, planned: &str, server: Server, all_stand: bool) -> bool {
    let other = rest(loaded) != rest(planned) || ends(loaded) != ends(planned);
    let keeps = !server.takes_over && all_stand && !replaced(loaded, planned).is_empty();
    loaded != planned && (other || !keeps)
}

/// What a server that has read `loaded` is to read, one after the other, so that it comes to `planned` and closes no
/// route that stands. Only the last may lie in its file for longer than it takes to read, if it is `planned`.
#[must_use]
pub fn texts(loaded: &str, planned: &str, server: Server, all_stand: bool) -> Vec<String> {
    let kept = replaced(loaded, planned);
    let keeps: BTreeSet<&str> = kept.iter().map(|route| end(route)).collect();
    if kept.is_empty() || (!server.takes_over && !all_stand) {
        return vec![planned.to_owned()];
    }
    if server.takes_over {
        return vec![listing(planned, &routes(planned).union(&kept).copied().collect()), planned.to_owned()];
    }
    let (before, due) = (routes(loaded), routes(planned));
    let go_on = before.into_iter().filter(|route| keeps.contains(end(route)));
    let others = due.into_iter().filter(|route| !keeps.contains(end(route)));
    vec![listing(planned, &go_on.chain(others).collect())]
}

/// `text` with these routes in place of its own.
fn listing(text: &str, routes: &BTreeSet<&str>) -> String {
    let (before, after): (Vec<_>, Vec<_>) = (
        text.lines().take_while(|line| !is_route(line)).collect(),
        text.lines().skip_while(|line| !is_route(line)).filter(|line| !is_route(line)).collect(),
    );
    let lines = before.into_iter().map(str::to_owned);
    let lines = lines.chain(routes.iter().map(|route| format!("    {route}")));
    lines.chain(after.into_iter().map(str::to_owned)).flat_map(|line| [line, "\n".to_owned()]).collect()
}

/// What tells the credentials by which a witness takes others from any other ones.
#[must_use]
pub fn digest(route: &Credentials, sys: &Credentials) -> String {
    use sha2::{Digest, Sha256};
    let Credentials { user, password } = route;
    let text = format!("{user} {} {} {}", password.expose(), sys.user, sys.password.expose());
    Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
