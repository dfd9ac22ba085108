//! Replaces the other files of this module if the feature `otel` is not compiled in. Every item has the name and the
//! signature of the item that it replaces, and does nothing.

use super::answer::Answer;
use crate::environment::Variables;
use crate::redact::Redactor;
use crate::shutdown::Stop;
use crate::task::Outcome;

/// The settings of an export that exports nothing.
#[derive(Debug, Clone, Default)]
pub struct Settings;

#[derive(Debug, Clone)]
pub struct Telemetry;

#[derive(Debug)]
pub struct Span;

#[derive(Debug, Clone)]
pub struct TraceContext;

impl Telemetry {
    pub fn new(_settings: &Settings, _instance: &str, _redactor: &Redactor) -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "the other implementation needs it")]
    pub fn root_span(&self, _name: &'static str) -> Span {
        Span
    }

    #[expect(clippy::unused_self, reason = "the other implementation needs it")]
    pub fn start(&self) {}

    #[expect(clippy::unused_self, reason = "the other implementation needs it")]
    pub fn record_run(&self, _outcome: &Outcome, _project: &str) {}

    #[expect(clippy::unused_async, reason = "the other implementation needs it")]
    pub async fn finish(&self, _stop: &Stop) {}

    #[expect(clippy::unused_async, reason = "the other implementation needs it")]
    pub async fn finish_without_stop(&self) {}
}

impl Span {
    pub fn none() -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "the other implementation needs it")]
    pub fn context(&self) -> TraceContext {
        TraceContext
    }

    #[expect(clippy::unused_self, reason = "the other implementation needs it")]
    pub fn set_text(&mut self, _key: &'static str, _value: &str) {}

    #[expect(clippy::unused_self, reason = "the other implementation needs it")]
    pub fn set_number(&mut self, _key: &'static str, _value: u64) {}

    #[expect(clippy::unused_self, reason = "the other implementation needs it")]
    pub fn fail(&mut self, _reason: &str) {}

    #[expect(clippy::unused_self, reason = "the other implementation needs it")]
    pub fn set_outcome(&mut self, _outcome: &Outcome) {}

    #[expect(clippy::unused_self, reason = "the other implementation needs it")]
    pub fn end(self) {}
}

impl TraceContext {
    #[expect(clippy::unused_self, reason = "the other implementation needs it")]
    pub fn child(&self, _name: &str) -> Span {
        Span
    }

    #[expect(clippy::unused_self, reason = "the other implementation needs it")]
    pub fn is_recorded(&self) -> bool {
        false
    }

    #[expect(clippy::unused_self, reason = "the other implementation needs it")]
    pub fn traceparent(&self) -> Option<String> {
        None
    }

    #[expect(clippy::unused_self, reason = "the other implementation needs it")]
    pub fn add_to(&self, _variables: &mut Variables) {}
}

/// Nothing is exported, so no collector is asked.
pub async fn ask_collectors(
    _settings: &Settings,
    _redactor: &Redactor,
    _stop: &Stop,
) -> Vec<Answer> {
    Vec::new()
}
