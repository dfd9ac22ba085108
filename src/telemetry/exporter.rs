//! Collects finished spans, and sends them every few seconds.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use tokio::sync::watch;
use tokio::time::timeout;

use super::collector::{Collector, Refusal};

/// How often finished spans are sent: the default of the SDK's batch processor.
const INTERVAL: Duration = Duration::from_secs(5);
/// The most spans that wait to be sent: the default of the SDK's batch processor.
const MAX_WAITING: usize = 2_048;
/// The most spans in one request: the default of the SDK's batch processor.
const MAX_BATCH: usize = 512;

/// Finished spans that are not sent yet.
#[derive(Debug, Clone, Default)]
pub struct Queue(Arc<QueueState>);

#[derive(Debug, Default)]
struct QueueState {
    spans: Mutex<VecDeque<SpanData>>,
    /// How many spans had no room.
    dropped: AtomicU64,
}

impl Queue {
    fn spans(&self) -> MutexGuard<'_, VecDeque<SpanData>> {
        self.0.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_batch(&self) -> Vec<SpanData> {
        let mut spans = self.spans();
        let count = spans.len().min(MAX_BATCH);
        spans.drain(..count).collect()
    }

    /// Puts a batch back that may be accepted later.
    fn put_back(&self, batch: Vec<SpanData>) {
        let mut spans = self.spans();
        for span in batch.into_iter().rev() {
            if spans.len() == MAX_WAITING {
                self.0.dropped.fetch_add(1, Ordering::Relaxed);
            } else {
                spans.push_front(span);
            }
        }
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        let mut spans = self.spans();
        if spans.len() == MAX_WAITING {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            spans.push_back(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Sends spans and metrics.
#[derive(Debug)]
pub struct Exporter {
    pub traces: Option<Collector>,
    pub metrics: Option<Collector>,
    pub queue: Queue,
    pub resource: Resource,
    /// The metrics of the run, as soon as it has ended.
    pub run: Mutex<Option<ExportMetricsServiceRequest>>,
    pub has_warned: AtomicBool,
}

impl Exporter {
    /// Sends finished spans every few seconds, until `closing` is true. Then sends the rest.
    pub async fn run(self: Arc<Self>, mut closing: watch::Receiver<bool>) {
        loop {
            // The telemetry that holds the sender is alive while this runs, so an error means the end, too.
            let closed = closing.wait_for(|closing| *closing);
            let is_last = timeout(INTERVAL, closed).await.is_ok();
            if is_last {
                let rest = async { while self.send_batch().await {} };
                tokio::join!(rest, self.send_metrics());
                return;
            }
            while self.send_batch().await {}
        }
    }

    /// Sends a batch of spans; returns whether there may be another one to send.
    async fn send_batch(&self) -> bool {
        let Some(collector) = &self.traces else {
            return false;
        };
        let batch = self.queue.next_batch();
        if batch.is_empty() {
            return false;
        }
        let attributes = ResourceAttributesWithSchema::from(&self.resource);
        let data = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(batch.clone(), &attributes),
        };
        match collector.send::<ExportTraceServiceResponse>(&data).await {
            Ok(()) => true,
            Err(Refusal { why, is_temporary }) => {
                self.warn_once(&why);
                if is_temporary {
                    self.queue.put_back(batch);
                }
                !is_temporary
            }
        }
    }

    async fn send_metrics(&self) {
        let data = self
            .run
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let (Some(collector), Some(data)) = (&self.metrics, data) else {
            return;
        };
        let answer = collector.send::<ExportMetricsServiceResponse>(&data).await;
        if let Err(Refusal { why, .. }) = answer {
            self.warn_once(&why);
        }
    }

    /// Warns about the first failure only: a collector that is down for hours would fill the log.
    pub fn warn_once(&self, why: &str) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                why,
                "traces or metrics were not exported; the run does not depend on it, and further failures are not logged"
            );
        }
    }

    /// Warns about spans that had no room.
    pub fn warn_about_dropped_spans(&self) {
        let dropped = self.queue.0.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            self.warn_once(&format!(
                "{dropped} spans were dropped, because more than {MAX_WAITING} were waiting"
            ));
        }
    }
}
