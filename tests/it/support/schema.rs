//! docs/callback.schema.json, as the one judge of what workers say.

use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::Value;

/// The published schema.
pub const TEXT: &str = include_str!("../../../docs/callback.schema.json");

/// What is wrong with an event, each with its place; nothing, usually.
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
