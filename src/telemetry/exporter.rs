//! Collects finished spans, and sends them every few seconds.

use std::collections::VecDeque;
use std::mem;
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
use tokio::time::{sleep, timeout};

use super::collector::{Collector, ExportError, Retry};

/// How often finished spans are sent: the default of the SDK's batch processor.
const EXPORT_INTERVAL: Duration = Duration::from_secs(5);
/// The most spans that wait to be sent: the default of the SDK's batch processor.
const MAX_WAITING_SPANS: usize = 2_048;
/// The most spans in one request: the default of the SDK's batch processor.
const MAX_BATCH_SIZE: usize = 512;
/// The pause before the only retry of the last export. The last export also waits this long for the answer to a
/// request that was sent before it.
const LAST_EXPORT_PAUSE: Duration = Duration::from_millis(500);

/// Finished spans that are not sent yet.
#[derive(Debug, Clone, Default)]
pub struct Queue(Arc<QueueState>);

#[derive(Debug, Default)]
struct QueueState {
    spans: Mutex<VecDeque<SpanData>>,
    /// How many spans were dropped because the queue was full.
    dropped_count: AtomicU64,
}

/// Spans that are being sent. When a batch is dropped, its spans return to the queue, so that an aborted request loses
/// nothing.
struct Batch<'q> {
    queue: &'q Queue,
    /// The spans that go back into the queue on drop; emptied if the collector has them or will never accept them.
    spans: Vec<SpanData>,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.queue.put_back(mem::take(&mut self.spans));
    }
}

impl Queue {
    fn spans(&self) -> MutexGuard<'_, VecDeque<SpanData>> {
        self.0.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest spans; `None` if no span waits.
    fn next_batch(&self) -> Option<Batch<'_>> {
        let mut waiting = self.spans();
        let count = waiting.len().min(MAX_BATCH_SIZE);
        let spans = waiting.drain(..count).collect();
        // Not `then_some`: it would drop an empty batch, whose drop waits for this lock.
        (count > 0).then(|| Batch { queue: self, spans })
    }

    /// Returns spans to the front of the queue.
    fn put_back(&self, batch: Vec<SpanData>) {
        let mut spans = self.spans();
        for span in batch.into_iter().rev() {
            if spans.len() == MAX_WAITING_SPANS {
                self.0.dropped_count.fetch_add(1, Ordering::Relaxed);
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
        if spans.len() == MAX_WAITING_SPANS {
            self.0.dropped_count.fetch_add(1, Ordering::Relaxed);
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
    /// The metrics of the run; `None` before the run has ended.
    pub run_metrics: Mutex<Option<ExportMetricsServiceRequest>>,
    /// Whether a failure was logged.
    pub has_warned: AtomicBool,
    /// Whether the last export of traces has ended.
    pub has_sent_traces: AtomicBool,
    /// Whether the export of metrics has ended.
    pub has_sent_metrics: AtomicBool,
}

impl Exporter {
    /// Sends finished spans every few seconds, until `closing` is true. Then sends the remaining spans, and the
    /// metrics.
    pub async fn run(self: Arc<Self>, closing: watch::Receiver<bool>) {
        // At the same time: a collector of traces that hangs must not delay metrics for another collector.
        tokio::join!(
            self.send_traces(closing.clone()),
            self.send_metrics(closing)
        );
    }

    async fn send_traces(&self, mut closing: watch::Receiver<bool>) {
        if let Some(collector) = &self.traces {
            while timeout(EXPORT_INTERVAL, wait_for_closing(&mut closing))
                .await
                .is_err()
            {
                let last_export_begins = async {
                    wait_for_closing(&mut closing).await;
                    // The answer may be on its way: a batch that is sent twice may be stored twice.
                    sleep(LAST_EXPORT_PAUSE).await;
                };
                tokio::select! {
                    result = self.send_waiting_spans(collector) => self.warn_about_failure(result),
                    () = last_export_begins => break,
                }
            }
            let mut result = self.send_waiting_spans(collector).await;
            if may_succeed_soon(&result) {
                sleep(LAST_EXPORT_PAUSE).await;
                result = self.send_waiting_spans(collector).await;
            }
            self.warn_about_failure(result);
        }
        self.has_sent_traces.store(true, Ordering::Relaxed);
    }

    /// Sends all spans that wait, in batches. Stops at the first batch that may be accepted later.
    async fn send_waiting_spans(&self, collector: &Collector) -> Result<(), ExportError> {
        while let Some(mut batch) = self.queue.next_batch() {
            let attributes = ResourceAttributesWithSchema::from(&self.resource);
            let data = ExportTraceServiceRequest {
                resource_spans: group_spans_by_resource_and_scope(batch.spans.clone(), &attributes),
            };
            let answer = collector.send::<ExportTraceServiceResponse>(&data).await;
            match answer {
                Err(error) if error.retry != Retry::Never => return Err(error),
                _ => batch.spans.clear(),
            }
            self.warn_about_failure(answer);
        }
        Ok(())
    }

    async fn send_metrics(&self, mut closing: watch::Receiver<bool>) {
        wait_for_closing(&mut closing).await;
        let data = self
            .run_metrics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let (Some(collector), Some(data)) = (&self.metrics, data) {
            let mut result = collector.send::<ExportMetricsServiceResponse>(&data).await;
            if may_succeed_soon(&result) {
                sleep(LAST_EXPORT_PAUSE).await;
                result = collector.send::<ExportMetricsServiceResponse>(&data).await;
            }
            self.warn_about_failure(result);
        }
        self.has_sent_metrics.store(true, Ordering::Relaxed);
    }

    /// The exports that have not ended, like `traces to http://collector.example/v1/traces`.
    pub fn unfinished_exports(&self) -> String {
        let signals = [
            ("traces", &self.traces, &self.has_sent_traces),
            ("metrics", &self.metrics, &self.has_sent_metrics),
        ];
        let unfinished = signals.into_iter().filter_map(|(signal, collector, sent)| {
            let url = collector.as_ref()?.shown_url();
            (!sent.load(Ordering::Relaxed)).then(|| format!("{signal} to {url}"))
        });
        unfinished.collect::<Vec<_>>().join(" and ")
    }

    fn warn_about_failure(&self, result: Result<(), ExportError>) {
        if let Err(ExportError { why, .. }) = result {
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

    /// Warns about the spans that were dropped because the queue was full.
    pub fn warn_about_dropped_spans(&self) {
        let dropped = self.queue.0.dropped_count.load(Ordering::Relaxed);
        if dropped > 0 {
            self.warn_once(&format!(
                "{dropped} spans were dropped, because more than {MAX_WAITING_SPANS} were waiting"
            ));
        }
    }
}

/// Waits until `closing` is true or its sender is dropped. Then the last export begins.
async fn wait_for_closing(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Whether the collector answered that it is busy.
fn may_succeed_soon(result: &Result<(), ExportError>) -> bool {
    matches!(result, Err(error) if error.retry == Retry::Soon)
}
