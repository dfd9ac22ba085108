//! Validates events against docs/callback.schema.json.

use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::Value;

/// The published schema.
pub const TEXT: &str = include_str!("../../../docs/callback.schema.json");

/// How an event violates the schema, with the place of each violation; usually empty.
pub fn violations(event: &Value) -> Vec<String> {
    static SCHEMA: OnceLock<Validator> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        let schema: Value = serde_json::from_str(TEXT).expect("the schema is JSON");
        let options = jsonschema::draft202012::options().should_validate_formats(true);
        options
            .build(&schema)
            .expect("the schema is JSON Schema 2020-12")
    });
    let errors = schema.iter_errors(event);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}
