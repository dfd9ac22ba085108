//! Spans, and their contexts, which child spans and child processes continue.

use std::fmt::Write as _;

use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
    Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span as SdkSpan};

use crate::environment::{Variables, merge};
use crate::excerpt;
use crate::model::Usage;
use crate::redact::Redactor;
use crate::task::{Outcome, Reason, Verdict};

/// The longest text of a name or an attribute, in characters.
const MAX_TEXT_LENGTH: usize = 200;

/// Makes spans.
#[derive(Debug, Clone)]
pub(super) struct SpanFactory {
    pub tracer: SdkTracer,
    pub redactor: Redactor,
}

/// A span that has not ended; it ends when it is dropped. `None` is not recorded.
#[derive(Debug)]
pub struct Span(Option<Box<Recording>>);

#[derive(Debug)]
struct Recording {
    span: SdkSpan,
    factory: SpanFactory,
}

/// A span's identity, for its children.
#[derive(Debug, Clone)]
pub struct TraceContext(Option<(SpanContext, SpanFactory)>);

impl SpanFactory {
    /// Begins a span. Without a valid parent, it begins a trace.
    pub fn begin(&self, name: &str, parent: SpanContext) -> Span {
        // A new context instead of the thread's one, because many tasks share this thread.
        let mut context = Context::new();
        // The sampler would take an invalid parent for one that is not sampled.
        if parent.is_valid() {
            context = context.with_remote_span_context(parent);
        }
        let builder = self.tracer.span_builder(self.masked(name));
        let span = self.tracer.build_with_context(builder, &context);
        Span(Some(Box::new(Recording {
            span,
            factory: self.clone(),
        })))
    }

    /// Masks the secrets before it shortens the text: a part of a secret would not be recognised.
    fn masked(&self, text: &str) -> String {
        excerpt::first_chars(&self.redactor.mask(text), MAX_TEXT_LENGTH)
    }
}

impl Span {
    /// A span that is not recorded. Its children are not recorded either.
    pub fn none() -> Self {
        Self(None)
    }

    /// The identity of this span, for children that are begun later or elsewhere.
    pub fn context(&self) -> TraceContext {
        let recording = self.0.as_deref();
        let context = |recording: &Recording| {
            (
                recording.span.span_context().clone(),
                recording.factory.clone(),
            )
        };
        TraceContext(recording.map(context))
    }

    /// Adds an attribute; secrets in it are masked.
    pub fn set_text(&mut self, key: &'static str, value: &str) {
        if let Some(Recording { span, factory }) = self.0.as_deref_mut() {
            span.set_attribute(KeyValue::new(key, factory.masked(value)));
        }
    }

    pub fn set_number(&mut self, key: &'static str, value: u64) {
        if let Some(Recording { span, .. }) = self.0.as_deref_mut() {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    fn set_fraction(&mut self, key: &'static str, value: f64) {
        if let Some(Recording { span, .. }) = self.0.as_deref_mut() {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// Marks the span as failed. `reason` must be a fixed word: messages may quote output, which must not be exported.
    pub fn fail(&mut self, reason: &str) {
        if let Some(Recording { span, factory }) = self.0.as_deref_mut() {
            let reason = factory.masked(reason);
            span.set_attribute(KeyValue::new("error.type", reason.clone()));
            span.set_status(Status::error(reason));
        }
    }

    /// Adds the outcome of a run.
    pub fn set_outcome(&mut self, outcome: &Outcome) {
        self.set_text("cicd.pipeline.result", result_word(&outcome.verdict));
        if let Verdict::Failed(failure) = &outcome.verdict {
            self.fail(failure.reason.word());
        }
        if let Some(work) = &outcome.report.work {
            self.set_text("vcs.ref.head.revision", &work.head_commit);
            if let Some(branch) = &work.branch {
                self.set_text("vcs.ref.head.name", branch);
            }
        }
        let Some(agent) = &outcome.report.agent else {
            return;
        };
        self.set_text("gen_ai.agent.name", agent.kind);
        if let Some(model) = &agent.model {
            self.set_text("gen_ai.request.model", model);
        }
        let spent = agent.spent;
        let numbers = [
            ("descartes.agent.turns", spent.turns),
            ("descartes.agent.tool_calls", spent.tool_calls),
        ];
        let tokens = spent.usage.map(|usage| {
            [
                ("gen_ai.usage.input_tokens", all_input_tokens(usage)),
                ("gen_ai.usage.output_tokens", usage.output_tokens),
                (
                    "gen_ai.usage.cache_read.input_tokens",
                    usage.cache_read_input_tokens,
                ),
                (
                    "gen_ai.usage.cache_creation.input_tokens",
                    usage.cache_creation_input_tokens,
                ),
            ]
        });
        for (key, number) in numbers.into_iter().chain(tokens.into_iter().flatten()) {
            if let Some(number) = number {
                self.set_number(key, number);
            }
        }
        if let Some(cost) = spent.cost_usd {
            self.set_fraction("descartes.cost_usd", cost);
        }
    }

    /// Ends the span.
    pub fn end(self) {
        drop(self);
    }
}

impl TraceContext {
    /// Begins a span below this one.
    pub fn child(&self, name: &str) -> Span {
        match &self.0 {
            Some((context, factory)) => factory.begin(name, as_local(context)),
            None => Span::none(),
        }
    }

    /// Whether children of this span are exported.
    pub fn is_recorded(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|(context, _)| context.is_sampled())
    }

    /// The value of the header or variable `traceparent` that names this span as the parent (W3C Trace Context).
    pub fn traceparent(&self) -> Option<String> {
        let (context, _) = self.0.as_ref()?;
        let (trace, span) = (context.trace_id(), context.span_id());
        let mut text = format!("00-{trace}-{span}-");
        // Writing to a string does not fail.
        let _ = write!(text, "{:02x}", context.trace_flags());
        Some(text)
    }

    /// Adds the variable that names this span as the parent of a child process's spans.
    pub fn add_to(&self, variables: &mut Variables) {
        if let Some(traceparent) = self.traceparent() {
            *variables = merge(variables, vec![("TRACEPARENT".into(), traceparent.into())]);
        }
    }
}

/// The same context, marked as local to this process. A context from a `traceparent` is remote.
fn as_local(context: &SpanContext) -> SpanContext {
    SpanContext::new(
        context.trace_id(),
        context.span_id(),
        context.trace_flags(),
        false,
        context.trace_state().clone(),
    )
}

/// The context in a `traceparent`. If the text is missing or malformed, the context is invalid, and begins a new trace.
pub(super) fn parse_traceparent(traceparent: Option<&str>) -> SpanContext {
    let parsed = traceparent.and_then(|text| {
        let parts: Vec<&str> = text.split('-').collect();
        let [_, trace, span, flags] = parts[..] else {
            return None;
        };
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(SpanContext::new(
            TraceId::from_hex(trace).ok()?,
            SpanId::from_hex(span).ok()?,
            TraceFlags::new(flags & TraceFlags::SAMPLED.to_u8()),
            true,
            TraceState::NONE,
        ))
    });
    parsed.unwrap_or(SpanContext::NONE)
}

/// The word of the semantic conventions for how a run ended.
pub(super) fn result_word(verdict: &Verdict) -> &'static str {
    let failure = match verdict {
        Verdict::Completed { .. } => return "success",
        Verdict::Failed(failure) => failure,
    };
    match failure.reason {
        Reason::TimedOut | Reason::Idle => "timeout",
        Reason::Cancelled | Reason::Interrupted => "cancellation",
        Reason::ChecksFailed | Reason::AgentFailed | Reason::LimitReached => "failure",
        _ => "error",
    }
}

/// The input tokens as the semantic conventions count them: cached ones included.
pub(super) fn all_input_tokens(usage: Usage) -> Option<u64> {
    let kinds = [
        usage.input_tokens,
        usage.cache_read_input_tokens,
        usage.cache_creation_input_tokens,
    ];
    let known = kinds.into_iter().flatten();
    known.reduce(u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_with_its_sampling_flag_and_a_malformed_one_begins_a_trace() {
        let read = parse_traceparent(Some(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ));
        assert_eq!(
            read.trace_id().to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(read.span_id().to_string(), "b7ad6b7169203331");
        assert!(read.is_sampled() && read.is_remote());
        for malformed in ["", "00-1-2", "00-zz-b7ad6b7169203331-01"] {
            assert!(
                !parse_traceparent(Some(malformed)).is_valid(),
                "{malformed}"
            );
        }
        assert!(!parse_traceparent(None).is_valid());
    }
}
