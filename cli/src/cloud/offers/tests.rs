use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-11-22T20:16:55Z".parse().unwrap()
}

fn kind(name: &str, arch: &str, price: &str, places: &[&str]) -> ServerType {
    let prices: Vec<_> = places
        .iter()
        .map(|place| json!({"location": place, "price_monthly": {"net": price, "gross": price}}))
        .collect();
    let locations: Vec<_> = places.iter().map(|place| json!({"name": place, "available": true})).collect();
    let text = json!({"name": name, "cores": 2, "memory": 4.0, "architecture": arch, "prices": prices, "locations": locations});
    serde_json::from_value(text).unwrap()
}

fn catalogue() -> Catalogue {
    let place = |name: &str, zone: &str| Location {
        name: name.to_owned(),
        city: String::new(),
        network_zone: zone.to_owned(),
    };
    let image = |id: u64, arch: &str| Image {
        id,
        name: Some("debian-12".to_owned()),
        architecture: arch.to_owned(),
        deprecated: None,
    };
    Catalogue {
        types: vec![
            kind("cpx22", "x86", "6.49", &["fsn1", "hel1"]),
            kind("cx23", "x86", "3.49", &["fsn1", "nbg1"]),
            kind("cax11", "arm", "3.29", &["fsn1"]),
        ],
        locations: vec![place("nbg1", "eu"), place("fsn1", "eu"), place("hel1", "eu"), place("ash", "us")],
        images: vec![image(1, "x86"), image(2, "arm")],
        currency: "EUR".to_owned(),
    }
}

fn machine(server_type: Option<&str>, fallback: &[&str]) -> Machine {
    Machine {
        server_type: server_type.map(str::to_owned),
        fallback: fallback.iter().map(|name| (*name).to_owned()).collect(),
        ..Machine::default()
    }
}

fn found(wanted: &Machine, catalogue: &Catalogue) -> Vec<String> {
    let offers = offers(wanted, catalogue, now()).unwrap();
    offers.iter().map(|offer| format!("{}@{} {}", offer.server_type, offer.location, offer.image)).collect()
}

#[test]
fn the_wished_place_first_with_all_types_then_its_neighbours() {
    let wanted = machine(Some("cx23"), &["cpx22"]);
    assert_eq!(found(&wanted, &catalogue()), ["cx23@fsn1 1", "cpx22@fsn1 1", "cx23@nbg1 1", "cpx22@hel1 1"]);
    assert_eq!(found(&machine(Some("cax11"), &["cx23"]), &catalogue()), ["cax11@fsn1 2"], "one architecture");
    assert_eq!(
        found(&machine(None, &[]), &catalogue()),
        ["cx23@fsn1 1", "cpx22@fsn1 1", "cx23@nbg1 1", "cpx22@hel1 1"],
        "the cheapest first"
    );
}

#[test]
fn what_is_no_more_is_passed_over() {
    let mut catalogue = catalogue();
    let gone = Deprecation { unavailable_after: "2026-01-01T00:00:00Z".to_owned() };
    catalogue.types[1].locations[0].deprecation = Some(gone.clone());
    let wanted = machine(Some("cx23"), &["cpx22"]);
    assert_eq!(found(&wanted, &catalogue), ["cpx22@fsn1 1", "cx23@nbg1 1", "cpx22@hel1 1"]);
    catalogue.types[1].deprecation = Some(gone);
    assert_eq!(found(&wanted, &catalogue), ["cpx22@fsn1 1", "cpx22@hel1 1"]);
    let err = offers(&machine(Some("cx23"), &[]), &catalogue, now()).unwrap_err();
    assert!(err.message.contains("cx23 is no more"), "{err}");
}

#[test]
fn what_leads_nowhere_is_named() {
    let refusal = |wanted: &Machine| {
        let err = offers(wanted, &catalogue(), now()).unwrap_err();
        assert_eq!(err.reason, Reason::ConfigInvalid);
        err.message
    };
    let message = refusal(&machine(Some("cx24"), &[]));
    assert!(message.contains("no `cx24` (did you mean cx23?); there are cpx22, cx23, cax11"), "{message}");
    let message = refusal(&Machine { location: "fsn2".to_owned(), ..machine(None, &[]) });
    assert!(message.contains("location: there is no `fsn2` (did you mean fsn1?)"), "{message}");
    let message = refusal(&Machine { location: "ash".to_owned(), ..machine(Some("cx23"), &[]) });
    assert!(message.contains("cx23 is not to be had in ash"), "{message}");
    let none = Catalogue { images: Vec::new(), ..catalogue() };
    assert!(offers(&machine(None, &[]), &none, now()).unwrap_err().message.contains("no debian-12 for x86"));
}
