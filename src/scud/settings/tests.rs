//! Tests settings as SCUD's users write them.

use proptest::prelude::*;

use super::*;
use crate::scud::samples::Sample;

const CONFIG: &str = ".scud/config.toml";

fn checks(config: &str) -> Result<Checks, String> {
    let sample = Sample::without_graph();
    sample.write(CONFIG, config);
    sample
        .project
        .checks()
        .map_err(|error| sample.without_root(&error))
}

#[test]
fn a_project_without_checks_has_none() {
    let none = Sample::without_graph().project.checks().unwrap();
    assert_eq!(none, Checks::default());
    assert_eq!(none.commands, [""; 0]);
    assert_eq!(
        checks("[llm]\nprovider = \"xai\"\n[swarm]\nround_size = 5\n"),
        Ok(none)
    );
}

#[test]
fn backpressure_without_commands_has_no_checks() {
    let found =
        checks("[swarm.backpressure]\nstop_on_failure = false\ntimeout_secs = 7\n").unwrap();
    assert_eq!(found.commands, [""; 0]);
    assert!(!found.stop_on_failure);
    assert_eq!(found.timeout, Duration::from_secs(7));
}

#[test]
fn checks_have_the_defaults_of_scud() {
    let found = checks("[swarm.backpressure]\ncommands = [\"a b\", \"c\"]\n").unwrap();
    assert_eq!(found.commands, ["a b", "c"]);
    assert!(found.stop_on_failure);
    assert_eq!(found.timeout, Duration::from_secs(300));
}

#[test]
fn checks_have_the_values_that_the_file_sets() {
    let config = "[swarm.backpressure]\ncommands = []\nstop_on_failure = false\ntimeout_secs = 7\nmore = 1\n";
    let found = checks(config).unwrap();
    assert!(!found.stop_on_failure);
    assert_eq!(found.timeout, Duration::from_secs(7));
}

#[test]
fn the_error_for_malformed_settings_names_the_line_and_the_cause() {
    let error = |config: &str| checks(config).unwrap_err();
    let negative = error("[swarm.backpressure]\ncommands = []\n\ntimeout_secs = -1\n");
    assert!(
        negative.starts_with(
            ".scud/config.toml, line 4: `timeout_secs` must be a whole number of seconds"
        ),
        "{negative}"
    );
    for commands in ["true", "\"cargo test\"", "[1]", "{ a = 1 }"] {
        assert_eq!(
            error(&format!("\n[swarm.backpressure]\ncommands = {commands}\n")),
            ".scud/config.toml, line 3: `commands` must be a list of strings, for example commands = [\"cargo test\"]"
        );
    }
    assert_eq!(
        error("[swarm.backpressure]\nstop_on_failure = \"no\"\n"),
        ".scud/config.toml, line 2: `stop_on_failure` must be true or false"
    );
    let broken = error("a = 1\nb = [");
    assert!(
        broken.starts_with(".scud/config.toml, line 2: "),
        "{broken}"
    );
}

proptest! {
    #[test]
    fn random_settings_cause_no_panic(config in any::<String>()) {
        let _ = checks(&config);
    }
}
