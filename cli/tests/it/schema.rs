//! JSON outputs against the schemas in docs/schemas.

use std::path::Path;

use serde_json::Value;

/// Checks `value` against docs/schemas/NAME.json.
pub(crate) fn check(name: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas").join(format!("{name}.json"));
    let schema: Value = serde_json::from_slice(&std::fs::read(&path).expect("a schema")).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let errors: Vec<String> =
        validator.iter_errors(value).map(|err| format!("{}: {err}", err.instance_path())).collect();
    assert_eq!(errors, [""; 0], "{name}: {value:#}");
}

#[test]
fn a_schema_refuses_what_it_should() {
    let good = serde_json::json!({"error": {"reason": "usage", "message": "m"}});
    check("error", &good);
    let bad = serde_json::json!({"error": {"reason": "Not Stable", "message": "m"}});
    assert!(std::panic::catch_unwind(|| check("error", &bad)).is_err());
}
