//! Which machines may be had for a forest, the best first, with their prices: from the configuration and what the
//! API offers at this moment. Pure but for the asking.
//!
//! The API's word on stock is a hint alone: what is said to be sold out was had, and the other way round. So it is
//! shown, and the order is the configuration's: every type at the wished location, then at its neighbours.

use forest_core::reason::Reason;
use forest_core::suggest::nearest;
use futures::try_join;
use jiff::Timestamp;

use crate::config::Machine;
use crate::failure::Failure;
use crate::hetzner::wire::{Deprecation, Image, Location, Price, ServerType};
use crate::hetzner::{ApiError, Hetzner};

/// Without a type in the configuration: the cheapest with this many cores and GB of memory.
const MODEST: (u32, f64) = (2, 4.0);
/// So many of them are tried.
const CHOICES: usize = 3;

/// A machine that may be had.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Its type.
    pub server_type: String,
    /// Where.
    pub location: String,
    /// `x86` or `arm`.
    pub architecture: String,
    /// The number of the image for it.
    pub image: u64,
    /// What it costs an hour.
    pub hourly: Price,
    /// What it costs a month, at most.
    pub monthly: Price,
    /// Is it said to be in stock?
    pub hinted: Option<bool>,
}

/// What the API offers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalogue {
    /// The types.
    pub types: Vec<ServerType>,
    /// The locations.
    pub locations: Vec<Location>,
    /// The images of the wished name.
    pub images: Vec<Image>,
    /// In which money prices are.
    pub currency: String,
}

impl Catalogue {
    /// Asks for it.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn fetch(api: &Hetzner, image: &str) -> Result<Self, ApiError> {
        let (types, locations, images, currency) =
            try_join!(api.server_types(), api.locations(), api.images(image), api.currency())?;
        Ok(Self { types, locations, images, currency })
    }
}

/// The offers for `wanted`, the best first; never none.
///
/// # Errors
/// [`Failure`] naming the value of the configuration that leads nowhere, and what there is instead.
pub fn offers(wanted: &Machine, catalogue: &Catalogue, now: Timestamp) -> Result<Vec<Offer>, Failure> {
    let places = places(wanted, catalogue)?;
    let types = types(wanted, catalogue, now)?;
    let architecture = &types[0].architecture;
    let image = image(wanted, catalogue, architecture)?;
    let mut offers = Vec::new();
    for place in places {
        for kind in types.iter().filter(|kind| kind.architecture == *architecture) {
            offers.extend(offer(kind, place, image, now));
        }
    }
    if offers.is_empty() {
        let names: Vec<&str> = types.iter().map(|kind| kind.name.as_str()).collect();
        return Err(wrong(format!(
            "machine.hetzner.server_type: {} is not to be had in {} nor near it: choose another type or location",
            names.join(" or "),
            wanted.location
        )));
    }
    Ok(offers)
}

/// The wished location, then the others of its zone.
fn places<'a>(wanted: &Machine, catalogue: &'a Catalogue) -> Result<Vec<&'a str>, Failure> {
    let all = || catalogue.locations.iter().map(|location| location.name.as_str());
    let Some(home) = catalogue.locations.iter().find(|location| location.name == wanted.location) else {
        return Err(unknown("location", &wanted.location, all()));
    };
    let near = |location: &&Location| {
        location.name != home.name
            && location.network_zone == home.network_zone
            && !home.network_zone.is_empty()
    };
    let others = catalogue.locations.iter().filter(near).map(|location| location.name.as_str());
    Ok(std::iter::once(home.name.as_str()).chain(others).collect())
}

/// The wished types, then those for want of them; never none.
fn types<'a>(
    wanted: &Machine,
    catalogue: &'a Catalogue,
    now: Timestamp,
) -> Result<Vec<&'a ServerType>, Failure> {
    let Some(first) = &wanted.server_type else {
        return cheapest(wanted, catalogue, now);
    };
    let mut found = Vec::new();
    for name in std::iter::once(first).chain(&wanted.fallback) {
        let kind = catalogue.types.iter().find(|kind| kind.name == *name);
        match kind {
            Some(kind) if is_over(kind.deprecation.as_ref(), now) => {}
            Some(kind) => found.push(kind),
            None => {
                let all = catalogue.types.iter().map(|kind| kind.name.as_str());
                return Err(unknown("server_type", name, all));
            }
        }
    }
    if found.is_empty() {
        return Err(wrong(format!("machine.hetzner.server_type: {first} is no more: choose another type")));
    }
    Ok(found)
}

/// The cheapest machines that are large enough, of the usual architecture.
fn cheapest<'a>(
    wanted: &Machine,
    catalogue: &'a Catalogue,
    now: Timestamp,
) -> Result<Vec<&'a ServerType>, Failure> {
    let fits = |kind: &&ServerType| {
        kind.architecture == "x86"
            && kind.cores >= MODEST.0
            && kind.memory >= MODEST.1
            && !is_over(kind.deprecation.as_ref(), now)
    };
    let price = |kind: &ServerType| -> Option<f64> {
        let here = kind.prices.iter().find(|price| price.location == wanted.location)?;
        here.price_monthly.net.parse().ok()
    };
    let offered = |kind: &ServerType| offer(kind, &wanted.location, 0, now).is_some();
    let all = catalogue.types.iter().filter(fits).filter(|kind| offered(kind));
    let mut all: Vec<(f64, &ServerType)> = all.filter_map(|kind| Some((price(kind)?, kind))).collect();
    all.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    if all.is_empty() {
        return Err(wrong(format!(
            "no type of at least {} cores and {} GB is to be had in {}: set machine.hetzner.server_type",
            MODEST.0, MODEST.1, wanted.location
        )));
    }
    Ok(all.into_iter().take(CHOICES).map(|(_, kind)| kind).collect())
}

/// A type at a place, if it is offered there.
fn offer(kind: &ServerType, place: &str, image: u64, now: Timestamp) -> Option<Offer> {
    let price = kind.prices.iter().find(|price| price.location == place)?;
    // An API that says nothing about places has them in its prices.
    let here = kind.locations.iter().find(|location| location.name == place);
    let open = match here {
        Some(here) => !is_over(here.deprecation.as_ref(), now),
        None => kind.locations.is_empty(),
    };
    open.then(|| Offer {
        server_type: kind.name.clone(),
        location: place.to_owned(),
        architecture: kind.architecture.clone(),
        image,
        hourly: price.price_hourly.clone(),
        monthly: price.price_monthly.clone(),
        hinted: here.and_then(|here| here.available),
    })
}

fn image(wanted: &Machine, catalogue: &Catalogue, architecture: &str) -> Result<u64, Failure> {
    let found = catalogue.images.iter().find(|image| image.architecture == architecture);
    found.map(|image| image.id).ok_or_else(|| {
        let name = &wanted.image;
        wrong(format!("machine.hetzner.image: there is no {name} for {architecture}: write debian-12"))
    })
}

/// Is it no more to be had?
fn is_over(deprecation: Option<&Deprecation>, now: Timestamp) -> bool {
    let end = deprecation.and_then(|gone| gone.unavailable_after.parse::<Timestamp>().ok());
    end.is_some_and(|end| end <= now)
}

fn unknown<'a>(key: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Failure {
    let known: Vec<&str> = known.collect();
    let near = nearest(name, known.iter().copied()).map(|near| format!(" (did you mean {near}?)"));
    wrong(format!(
        "machine.hetzner.{key}: there is no `{}`{}; there are {}",
        name.escape_default(),
        near.unwrap_or_default(),
        known.join(", ")
    ))
}

fn wrong(message: String) -> Failure {
    Failure::new(Reason::ConfigInvalid, message)
}

#[cfg(test)]
mod tests;
