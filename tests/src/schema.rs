//! JSON outputs against the schemas in docs/schemas.

use std::path::Path;

use serde_json::Value;

/// Checks `value` against docs/schemas/NAME.json.
///
/// # Panics
/// If it does not fit, with every place where; or if there is no such schema.
#[track_caller]
pub fn check(name: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas").join(format!("{name}.json"));
    let schema = std::fs::read(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    let schema: Value = serde_json::from_slice(&schema).expect("a schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema is valid");
    let wrong: Vec<String> =
        validator.iter_errors(value).map(|err| format!("{}: {err}", err.instance_path())).collect();
    assert!(wrong.is_empty(), "{name}: {wrong:#?}\n{value:#}");
}
