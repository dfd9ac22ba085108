//! Traces and metrics, as a collector of OpenTelemetry receives them: its messages are decoded with the official types.
//!
//! Needs the feature `otel`: `cargo test --features otel --test otel`.

#[path = "../it/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "the support module is shared by all tests; these use only a part of it"
)]
mod support;

#[path = "../it/dispatch/sample.rs"]
#[expect(
    dead_code,
    reason = "the sample is shared with the other tests of dispatch"
)]
mod sample;

mod collector;
mod dispatch;
mod metrics;
mod settings;
mod traces;
mod trouble;
