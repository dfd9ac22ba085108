//! Validates JSON against the published schemas in `docs`.

use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::Value;

/// The published schema of callbacks.
pub const CALLBACK_SCHEMA: &str = include_str!("../../../docs/callback.schema.json");
/// The published schema of the objects that commands print with `--json`.
const CLI_SCHEMA: &str = include_str!("../../../docs/cli.schema.json");

/// How an event violates the schema of callbacks, with the place of each violation; empty if it does not.
pub fn callback_violations(event: &Value) -> Vec<String> {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    violations(VALIDATOR.get_or_init(|| validator(CALLBACK_SCHEMA)), event)
}

/// How an object of `--json` violates its schema, with the place of each violation; empty if it does not.
pub fn cli_violations(object: &Value) -> Vec<String> {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    violations(VALIDATOR.get_or_init(|| validator(CLI_SCHEMA)), object)
}

/// The objects that a command with `--json` has printed; each must match the schema.
#[track_caller]
pub fn cli_objects(stdout: &str) -> Vec<Value> {
    let objects = stdout.lines().map(|line| {
        let object: Value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{line:?} is not JSON: {error}"));
        assert_eq!(cli_violations(&object), [""; 0], "{object:#}");
        object
    });
    objects.collect()
}

/// The only object that a command with `--json` has printed.
#[track_caller]
pub fn cli_object(stdout: &str) -> Value {
    let mut objects = cli_objects(stdout);
    assert_eq!(objects.len(), 1, "{stdout}");
    objects.remove(0)
}

fn validator(text: &str) -> Validator {
    let schema: Value = serde_json::from_str(text).expect("the schema is JSON");
    let options = jsonschema::draft202012::options().should_validate_formats(true);
    options
        .build(&schema)
        .expect("the schema is JSON Schema 2020-12")
}

fn violations(schema: &Validator, value: &Value) -> Vec<String> {
    let errors = schema.iter_errors(value);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}
