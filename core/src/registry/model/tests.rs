use super::*;

fn parse(text: &str) -> Result<Registry, Corrupt> {
    Registry::parse(text.as_bytes())
}

#[test]
fn missing_and_null_parts_are_empty() {
    let grove = "grove".parse().unwrap();
    for text in [
        "{}",
        r#"{"nodes":{}}"#,
        r#"{"nodes":null,"forests":null}"#,
        r#"{"nodes":{"grove":null}}"#,
        r#"{"nodes":{"grove":[]},"forests":{"elm":{"removed":null}}}"#,
    ] {
        let registry = parse(text).unwrap();
        assert_eq!(registry.entries(&grove), []);
        assert_eq!(registry.forest(&grove), None);
        assert_eq!(registry.tombstone(&grove, &"n1".parse().unwrap()), None);
    }
}

#[test]
fn any_other_shape_is_corrupt_and_says_where() {
    for (text, words) in [
        ("", "not JSON: EOF"),
        ("{\"nodes\":", "not JSON: EOF"),
        ("\u{0}\u{1}", "not JSON: expected value"),
        ("{} {}", "trailing characters"),
        ("null", "the file holds null where an object is due"),
        ("[]", "the file holds a list where an object is due"),
        (r#"{"nodes":[]}"#, "nodes holds a list where an object is due"),
        (r#"{"forests":"x"}"#, "forests holds a string"),
        (r#"{"forests":{"a":1}}"#, "forests.a holds a number where an object is due"),
        (r#"{"forests":{"a":{"removed":[]}}}"#, "forests.a.removed holds a list"),
        (r#"{"nodes":{"a":{}}}"#, "nodes.a holds an object where a list is due"),
        (r#"{"nodes":{"a":[{"id":"x"},7]}}"#, "nodes.a[1] holds a number where an object is due"),
        (r#"{"nodes":{"a":[{}]}}"#, "nodes.a[0] has no id"),
        (r#"{"nodes":{"a":[{"id":null}]}}"#, "nodes.a[0].id holds null"),
        (r#"{"nodes":{"a":[{"id":"x","ip":1}]}}"#, "nodes.a[0].ip holds a number where a string is due"),
        (r#"{"nodes":{"a":[{"id":"x","metadata":{"k":true}}]}}"#, "nodes.a[0].metadata.k holds a boolean"),
    ] {
        let err = parse(text).unwrap_err().to_string();
        assert!(err.contains(words), "{text}: {err}");
    }
}

#[test]
fn an_entry_shows_its_ports_and_instance() {
    let text = r#"{"nodes":{"grove":[{"id":"a","ip":"::1"},
        {"id":"b","metadata":{"health_port":"9","cluster_port":"x","instance":"i"}}]}}"#;
    let entries = parse(text).unwrap().entries(&"grove".parse().unwrap());
    let ports = |entry: &Entry| (entry.cluster_port(), entry.monitor_port(), entry.health_port());
    assert_eq!((ports(&entries[0]), entries[0].instance()), ((6222, 8222, 8223), None));
    assert_eq!((ports(&entries[1]), entries[1].instance()), ((6222, 8222, 9), Some("i")));
    assert_eq!(entries[1].forest_id, "grove");
}

#[test]
fn digits_and_order_survive() {
    let text =
        "{\n  \"z\": 1.10,\n  \"a\": 12345678901234567890123,\n  \"m\": [\n    1e+5,\n    -0.0\n  ]\n}\n";
    assert_eq!(parse(text).unwrap().render(), text);
}

#[test]
fn every_node_is_known_those_taken_out_too() {
    let text = r#"{"forests": {"grove": {"removed": {"n9": "2026-11-22T20:00:00Z"}}},
        "nodes": {"grove": [{"id": "n1", "ip": "::1"}], "wood": null}}"#;
    let registry = Registry::parse(text.as_bytes()).unwrap();
    assert_eq!(registry.every_node().into_iter().collect::<Vec<_>>(), ["n1", "n9"]);
    assert!(Registry::empty().every_node().is_empty());
}
