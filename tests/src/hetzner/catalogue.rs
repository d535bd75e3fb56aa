//! What there is to be had: types, locations, images and prices, in the API's shapes. The names are real ones, the
//! prices are not.

use serde_json::{Value, json};

/// The locations of the fake; the last lies in another zone.
pub const LOCATIONS: [(&str, &str, &str); 4] = [
    ("fsn1", "Falkenstein", "eu-central"),
    ("nbg1", "Nuremberg", "eu-central"),
    ("hel1", "Helsinki", "eu-central"),
    ("ash", "Ashburn, VA", "us-east"),
];

/// Name, cores, memory, architecture, price a month in cents.
const TYPES: [(&str, u32, u32, &str, u32); 5] = [
    ("cx22", 2, 4, "x86", 379),
    ("cx23", 2, 4, "x86", 349),
    ("cpx22", 2, 4, "x86", 649),
    ("cx33", 4, 8, "x86", 549),
    ("cax11", 2, 4, "arm", 379),
];

/// `GET /locations`
#[must_use]
pub fn locations() -> Vec<Value> {
    let location = |(n, (name, city, zone)): (usize, &(&str, &str, &str))| {
        json!({"id": n + 1, "name": name, "description": format!("{city} DC Park 1"), "country": "DE", "city": city,
               "latitude": 50.47612, "longitude": 12.370071, "network_zone": zone})
    };
    LOCATIONS.iter().enumerate().map(location).collect()
}

/// `GET /server_types`; cx22 is no more, cax11 is not to be had in America.
#[must_use]
pub fn server_types() -> Vec<Value> {
    TYPES.iter().enumerate().map(|(n, kind)| server_type(n, *kind)).collect()
}

fn server_type(n: usize, (name, cores, memory, arch, cents): (&str, u32, u32, &str, u32)) -> Value {
    let offered = || LOCATIONS.iter().filter(|(place, ..)| *place != "ash" || arch == "x86");
    let gone = json!({"announced": "2025-09-24T00:00:00Z", "unavailable_after": "2026-01-01T00:00:00Z"});
    let deprecation = if name == "cx22" { gone } else { Value::Null };
    let prices: Vec<Value> = offered()
        .map(|(place, ..)| {
            json!({"location": place, "price_hourly": price(f64::from(cents) / 100.0 / 624.0, 4),
                   "price_monthly": price(f64::from(cents) / 100.0, 4), "included_traffic": 21990232555520u64,
                   "price_per_tb_traffic": price(1.0, 4)})
        })
        .collect();
    let locations: Vec<Value> = offered()
        .enumerate()
        .map(|(n, (place, ..))| {
            json!({"id": n + 1, "name": place, "available": true, "recommended": true, "deprecation": deprecation})
        })
        .collect();
    json!({"id": 100 + n, "name": name, "description": name.to_uppercase(), "category": "cost_optimized",
           "cores": cores, "memory": memory, "disk": 40, "storage_type": "local", "cpu_type": "shared",
           "architecture": arch, "deprecated": false, "deprecation": null, "prices": prices, "locations": locations})
}

/// `GET /images`
#[must_use]
pub fn images() -> Vec<Value> {
    let names = ["debian-12", "debian-13", "ubuntu-24.04"];
    let all = names.iter().flat_map(|name| ["x86", "arm"].map(|arch| (*name, arch)));
    let image = |(n, (name, arch)): (usize, (&str, &str))| {
        json!({"id": 1000 + n, "type": "system", "status": "available", "name": name, "description": name,
               "os_flavor": name.split('-').next(), "os_version": name.split('-').next_back(),
               "architecture": arch, "rapid_deploy": true, "deprecated": null, "labels": {}})
    };
    all.enumerate().map(image).collect()
}

/// `GET /pricing`, the part that is used.
#[must_use]
pub fn pricing() -> Value {
    let prices: Vec<Value> = LOCATIONS
        .iter()
        .map(|(place, ..)| {
            json!({"location": place, "price_hourly": price(0.0008, 4), "price_monthly": price(0.5, 4)})
        })
        .collect();
    json!({"pricing": {"currency": "EUR", "vat_rate": "19.00",
                       "primary_ips": [{"type": "ipv4", "prices": prices}], "server_types": []}})
}

fn price(net: f64, digits: usize) -> Value {
    json!({"net": format!("{net:.digits$}"), "gross": format!("{:.digits$}", net * 1.19)})
}
