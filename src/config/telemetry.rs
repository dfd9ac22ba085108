//! The standard variables of OpenTelemetry. They are not in the table of settings: they have no flags, and other programs
//! define their names and meanings.
//!
//! A wrong value costs a warning and never a run.

#[cfg(feature = "otel")]
mod variables;

use super::environment::COLLECTORS;
use super::reader::Reader;
use crate::telemetry::Settings;

/// Whether `OTEL_SDK_DISABLED` turns everything off.
fn is_disabled(reader: &Reader) -> bool {
    let value = reader.environment.get("OTEL_SDK_DISABLED");
    value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Nothing is exported by this build. Says so if a collector is named, because the person who named it waits for traces.
#[cfg(not(feature = "otel"))]
pub fn settings(reader: &mut Reader) -> Settings {
    let named = COLLECTORS
        .into_iter()
        .find(|name| reader.environment.get(name).is_some());
    if let Some(name) = named.filter(|_| !is_disabled(reader)) {
        reader.warnings.push(format!(
            "{name} is set, but this build has no OpenTelemetry, so nothing is exported; build it with `--features otel`, or set OTEL_SDK_DISABLED=true"
        ));
    }
    Settings
}

/// What is exported, and where to.
#[cfg(feature = "otel")]
pub fn settings(reader: &mut Reader) -> Settings {
    let is_named = |name: &&str| reader.environment.get(name).is_some();
    if is_disabled(reader) || !COLLECTORS.iter().any(is_named) {
        return Settings::default();
    }
    variables::read(reader)
}
