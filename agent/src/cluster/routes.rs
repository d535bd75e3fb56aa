//! By what an engine dials the others while credentials are replaced, and when one that runs is to be told. Pure.
//!
//! A server that reads its configuration anew closes the routes that it knows by a URL, password and all, which is in
//! its list no more; what is on its way over them is lost, and for some milliseconds nobody is found behind them
//! (measured on 2.15.1: 13 of 32,070 and 32 of 58,290 publishes). nats-server before 2.10 comes to know a route by the URL that it
//! dialed last, later ones go on with the one by which it came to be (measured with 2.9.10 and 2.15.1). So a running
//! server keeps the URLs that it has for as long as the routes stand, and only its file, which its next start reads,
//! lists the new ones alone. When a route is missing it reads that: it then replaces all of them, and dials anew.
//!
//! What a server has listed before it does not dial again. So that new credentials are new to it whenever old ones go
//! from its list, they are marked while they are listed beside those.
//!
//! It is told as seldom as can be, once a rotation: of 120 times that 2.9.10 read a configuration in which nothing had
//! changed, it lost acknowledgements on their way to its clients in two.

use std::collections::BTreeSet;

use forest_core::secrets::{Credentials, Record};

use crate::engine::nats_config::Dial;

/// What a route's URL begins with, in the list of a configuration.
const URL: &str = "\"nats://";
/// Ends the URLs with new credentials while old ones stand beside them: an empty path, which changes nothing.
const MARK: &str = "/";

/// By what an engine dials. `renewed`: a route was missing when the old password was refused already.
#[must_use]
pub fn dials(record: &Record, renewed: bool) -> Vec<Dial<'_>> {
    let dial = |credentials, mark| Dial { credentials, mark };
    let Some(rotation) = &record.rotation else { return vec![dial(&record.route, "")] };
    let accepted = record.in_force().accept == &rotation.route;
    if accepted && renewed {
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
pub fn is_due(loaded: &str, planned: &str, all_stand: bool) -> bool {
    let same = rest(loaded) == rest(planned) && ends(loaded) == ends(planned);
    loaded != planned && !(same && all_stand)
}

/// What a server that has read `loaded` is to read in place of `planned`, so that it closes no route that stands. Only
/// for as long as it takes to read.
#[must_use]
pub fn passing(loaded: &str, planned: &str, all_stand: bool) -> String {
    let replaced = replaced(loaded, planned);
    if replaced.is_empty() || !all_stand {
        return planned.to_owned();
    }
    let keeps: BTreeSet<&str> = replaced.into_iter().map(end).collect();
    let (before, due) = (routes(loaded), routes(planned));
    let go_on = before.into_iter().filter(|route| keeps.contains(end(route)));
    let others = due.into_iter().filter(|route| !keeps.contains(end(route)));
    listing(planned, &go_on.chain(others).collect())
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
