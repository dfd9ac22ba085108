//! Traces and metrics about runs, exported with OpenTelemetry's protocol (OTLP).
//!
//! Only with the feature `otel`, and only if a variable names a collector. Otherwise every type here is empty and every
//! function does nothing.
//!
//! A finished span stays in memory until [`Telemetry::start`], which the worker calls after the claim. From then on a
//! task of the worker's runtime sends finished spans every few seconds. There is no thread: the SDK's own batch
//! processor needs one, so it is not used. Exporting never changes how a run ends: each failure costs at most one
//! warning, and [`Telemetry::finish`] has a time limit.
//!
//! Attributes contain names, numbers and ids. Prompts, output and messages are never exported, and every text is
//! masked.

mod answer;
#[cfg(feature = "otel")]
mod collector;
#[cfg(feature = "otel")]
mod exporter;
#[cfg(feature = "otel")]
mod metrics;
#[cfg(feature = "otel")]
mod recorder;
#[cfg(feature = "otel")]
mod settings;
#[cfg(feature = "otel")]
mod spans;

#[cfg(not(feature = "otel"))]
mod absent;

#[cfg(not(feature = "otel"))]
pub use absent::{Settings, Span, Telemetry, TraceContext, ask_collectors};
#[cfg(feature = "otel")]
pub use collector::ask_collectors;
#[cfg(feature = "otel")]
pub use recorder::Telemetry;
#[cfg(feature = "otel")]
pub use settings::{Destination, Settings, Temporality};
#[cfg(feature = "otel")]
pub use spans::{Span, TraceContext};
