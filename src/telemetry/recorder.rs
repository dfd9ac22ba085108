//! The trace and the metrics of one process.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::collector::Collector;
use super::exporter::{Exporter, Queue};
use super::metrics;
use super::settings::{Settings, Temporality};
use super::spans::{Span, SpanFactory, parse_traceparent};
use crate::redact::Redactor;
use crate::shutdown::Stop;
use crate::task::Outcome;

/// How long the last export may take. The run's outcome was delivered before.
const LAST_EXPORT_TIME_LIMIT: Duration = Duration::from_secs(3);

/// Records and exports what this process does. Without a collector in the settings, every method does nothing.
#[derive(Debug, Clone)]
pub struct Telemetry(Option<Arc<State>>);

#[derive(Debug)]
struct State {
    /// `None` if traces are not exported.
    span_factory: Option<SpanFactory>,
    /// The `traceparent` of the span that this process belongs to.
    parent: Option<String>,
    temporality: Temporality,
    redactor: Redactor,
    exporter: Arc<Exporter>,
    /// True from the beginning of the last export.
    closing: watch::Sender<bool>,
    /// The exporting task; `None` before [`Telemetry::start`].
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Telemetry {
    /// Does not send or start anything yet. `instance` distinguishes this process from others of the same service.
    pub fn new(settings: &Settings, instance: &str, redactor: &Redactor) -> Self {
        if settings.traces.is_none() && settings.metrics.is_none() {
            return Self(None);
        }
        let resource = resource(settings, instance, redactor);
        let queue = Queue::default();
        let provider = || {
            let provider = SdkTracerProvider::builder();
            let provider = provider.with_span_processor(queue.clone());
            provider.with_resource(resource.clone()).build()
        };
        let span_factory = settings.traces.as_ref().map(|_| SpanFactory {
            tracer: provider().tracer(env!("CARGO_PKG_NAME")),
            redactor: redactor.clone(),
        });
        let collector = |destination| Collector::new(destination, settings);
        let exporter = Exporter {
            traces: settings.traces.clone().map(collector),
            metrics: settings.metrics.clone().map(collector),
            queue,
            resource,
            run_metrics: Mutex::new(None),
            has_warned: AtomicBool::new(false),
            has_sent_traces: AtomicBool::new(false),
            has_sent_metrics: AtomicBool::new(false),
        };
        Self(Some(Arc::new(State {
            span_factory,
            parent: settings.parent.clone(),
            temporality: settings.temporality,
            redactor: redactor.clone(),
            exporter: Arc::new(exporter),
            closing: watch::Sender::new(false),
            task: Mutex::new(None),
        })))
    }

    /// Begins the span of this process. Its parent is the span that the settings name.
    pub fn root_span(&self, name: &'static str) -> Span {
        let state = self.0.as_ref();
        let span_factory = state.and_then(|state| Some((state, state.span_factory.as_ref()?)));
        span_factory.map_or_else(Span::none, |(state, span_factory)| {
            span_factory.begin(name, parse_traceparent(state.parent.as_deref()))
        })
    }

    /// Starts to export, in a task of this runtime.
    pub fn start(&self) {
        let Some(state) = &self.0 else { return };
        let mut task = state.task.lock().unwrap_or_else(PoisonError::into_inner);
        let exporter = Arc::clone(&state.exporter);
        task.get_or_insert_with(|| tokio::spawn(exporter.run(state.closing.subscribe())));
    }

    /// Adds the metrics of a run, which the last export sends.
    pub fn record_run(&self, outcome: &Outcome, project: &str) {
        let Some(state) = &self.0 else { return };
        let exporter = &state.exporter;
        if exporter.metrics.is_some() {
            let (temporality, resource) = (state.temporality, exporter.resource.clone());
            let metrics = metrics::of_run(outcome, project, temporality, resource, &state.redactor);
            *exporter
                .run_metrics
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = metrics;
        }
    }

    /// Exports all remaining data, for a few seconds at most, and only until the end of the stop window. A stop signal
    /// that comes during the export ends it.
    pub async fn finish(&self, stop: &Stop) {
        let out_of_time = async {
            if stop.has_stop_window_begun() {
                stop.wait_until_window_ends().await;
            } else {
                stop.wait_until_window_begins().await;
            }
        };
        tokio::select! {
            () = self.finish_without_stop() => {}
            () = out_of_time => {}
        }
    }

    /// Exports all remaining data, for a few seconds at most.
    pub async fn finish_without_stop(&self) {
        let Some(state) = &self.0 else { return };
        self.start();
        let task = state
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut task) = task else { return };
        state.closing.send_replace(true);
        if timeout(LAST_EXPORT_TIME_LIMIT, &mut task).await.is_err() {
            task.abort();
            state.exporter.warn_once(&format!(
                "{}: no answer within {} s; `descartes-worker check` shows whether a collector answers, and \
                 OTEL_SDK_DISABLED=true turns the export off",
                state.exporter.unfinished_exports(),
                LAST_EXPORT_TIME_LIMIT.as_secs()
            ));
        }
        state.exporter.warn_about_dropped_spans();
    }
}

/// The attributes that every span and metric of this process has.
fn resource(settings: &Settings, instance: &str, redactor: &Redactor) -> Resource {
    let name = settings.service_name.as_deref();
    let defaults = [
        ("service.name", name.unwrap_or(env!("CARGO_PKG_NAME"))),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", instance),
    ];
    let configured = settings.resource.iter();
    let configured = configured.map(|(key, value)| (key.as_str(), value.as_str()));
    // A later attribute replaces an earlier one with the same key, and OTEL_SERVICE_NAME replaces all others.
    let service_name = name.map(|name| ("service.name", name));
    let all = defaults.into_iter().chain(configured).chain(service_name);
    let all = all.map(|(key, value)| KeyValue::new(key.to_owned(), redactor.mask(value)));
    Resource::builder_empty().with_attributes(all).build()
}
