//! The standard variables of OpenTelemetry. They are not in the table of settings: they have no flags, and other
//! programs define their names and meanings. An invalid value only produces a warning.

#[cfg(feature = "otel")]
mod variables;

use super::environment::COLLECTOR_URL_VARIABLES;
use super::reader::Reader;
use crate::telemetry::Settings;

/// Whether `OTEL_SDK_DISABLED` turns everything off.
fn is_disabled(reader: &Reader) -> bool {
    let value = reader.environment.get("OTEL_SDK_DISABLED");
    value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// This build exports nothing. If a variable names a collector, a warning says so, because the operator expects traces.
#[cfg(not(feature = "otel"))]
pub fn settings(reader: &mut Reader) -> Settings {
    let collector_variable = COLLECTOR_URL_VARIABLES
        .into_iter()
        .find(|name| reader.environment.get(name).is_some());
    if let Some(name) = collector_variable.filter(|_| !is_disabled(reader)) {
        reader.warnings.push(format!(
            "{name} is set, but this build has no OpenTelemetry, so nothing is exported; build it with `--features otel`, or set OTEL_SDK_DISABLED=true"
        ));
    }
    Settings
}

/// The collectors, and the signals that are exported to them.
#[cfg(feature = "otel")]
pub fn settings(reader: &mut Reader) -> Settings {
    let is_named = |name: &&str| reader.environment.get(name).is_some();
    if is_disabled(reader) || !COLLECTOR_URL_VARIABLES.iter().any(is_named) {
        return Settings::default();
    }
    variables::read(reader)
}
