//! Requests to a collector: protobuf over HTTP, sent by the same kind of client as callbacks.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::ResourceMetrics;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::answer::Answer;
use super::settings::{Destination, Settings};
use crate::excerpt;
use crate::http::errors::{no_answer_within, request_error, without_query};
use crate::http::{answer_body, json_client};
use crate::redact::Redactor;
use crate::shutdown::Stop;

/// The content type of requests.
const PROTOBUF: &str = "application/x-protobuf";
/// The longest part of a collector's message that is quoted in a warning, in characters.
const MAX_QUOTED_CHARS: usize = 200;
/// How long `check` waits for a collector's answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// A collector for traces or for metrics.
#[derive(Debug)]
pub struct Collector {
    destination: Destination,
    /// A PEM file with further certificate authorities to trust.
    authorities: Option<std::path::PathBuf>,
    /// The client is made for the first request, so that the start of a run does not wait for it.
    client: OnceCell<Client>,
}

/// Why data was not exported.
#[derive(Debug)]
pub struct ExportError {
    pub why: String,
    pub retry: Retry,
}

/// When the same data may be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The collector has the data already, or will never accept it.
    Never,
    /// No answer arrived. The next export sends the data again.
    WithNextExport,
    /// The collector answered that it is busy. It may accept the data a moment later.
    Soon,
}

/// A collector's answer to an export.
pub trait ExportResponse: Message + Default {
    /// The number of rejected items, and the reason; `None` if the answer has no such part. 0 if the reason is only a warning.
    fn rejected(&self) -> Option<(i64, &str)>;
}

impl ExportResponse for ExportTraceServiceResponse {
    fn rejected(&self) -> Option<(i64, &str)> {
        let partial = self.partial_success.as_ref()?;
        Some((partial.rejected_spans, &partial.error_message))
    }
}

impl ExportResponse for ExportMetricsServiceResponse {
    fn rejected(&self) -> Option<(i64, &str)> {
        let partial = self.partial_success.as_ref()?;
        Some((partial.rejected_data_points, &partial.error_message))
    }
}

impl Collector {
    pub fn new(destination: Destination, settings: &Settings) -> Self {
        Self {
            destination,
            authorities: settings.authorities.clone(),
            client: OnceCell::new(),
        }
    }

    /// The URL for messages.
    pub fn shown_url(&self) -> Url {
        without_query(&self.destination.url)
    }

    /// Sends data once, within the time limit of the destination.
    pub async fn send<A: ExportResponse>(&self, data: &impl Message) -> Result<(), ExportError> {
        let limit = self.destination.timeout;
        let request = self.send_and_check::<A>(data.encode_to_vec());
        timeout(limit, request).await.unwrap_or_else(|_| {
            Err(ExportError {
                why: no_answer_within(&self.destination.url, limit),
                retry: Retry::WithNextExport,
            })
        })
    }

    async fn send_and_check<A: ExportResponse>(&self, body: Vec<u8>) -> Result<(), ExportError> {
        let url = &self.destination.url;
        let client = self.client.get_or_try_init(|| async { self.new_client() });
        let request = client
            .await?
            .post(url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF))
            .headers(self.destination.headers.clone())
            .body(body);
        let response = request.send().await.map_err(|error| ExportError {
            why: request_error(url, &error),
            retry: Retry::WithNextExport,
        })?;
        self.check_response::<A>(response).await
    }

    fn new_client(&self) -> Result<Client, ExportError> {
        let permanent = |why| ExportError {
            why,
            retry: Retry::Never,
        };
        let Destination { url, .. } = &self.destination;
        let client = json_client(url, self.authorities.as_deref(), HeaderMap::new());
        let client = client.map_err(|error| permanent(error.to_string()))?;
        let client = client.build();
        client.map_err(|error| permanent(request_error(url, &error)))
    }

    /// An error unless the collector accepted all data.
    async fn check_response<A: ExportResponse>(
        &self,
        response: Response,
    ) -> Result<(), ExportError> {
        let status = response.status();
        let body = answer_body(response).await.map_err(|error| ExportError {
            why: request_error(&self.destination.url, &error),
            // The collector may have the data already.
            retry: Retry::Never,
        })?;
        let url = self.shown_url();
        if !status.is_success() {
            let message = String::from_utf8_lossy(&body);
            let message = excerpt::first_chars(&excerpt::visible(&message), MAX_QUOTED_CHARS);
            return Err(ExportError {
                why: format!("{url}: the collector answered {status} {message}")
                    .trim_end()
                    .to_owned(),
                retry: retry_for_status(status),
            });
        }
        let rejected = |why| {
            Err(ExportError {
                why,
                retry: Retry::Never,
            })
        };
        match A::decode(body.as_slice()) {
            // Some services answer with JSON.
            Err(_) if body.trim_ascii_start().first() == Some(&b'{') => Ok(()),
            Err(_) => rejected(format!(
                "{url}: the answer is not one of a collector; is this the address for OTLP over HTTP?"
            )),
            Ok(answer) => match answer.rejected() {
                Some((count @ 1.., why)) => rejected(format!(
                    "{url}: the collector rejected {count} items: {}",
                    excerpt::first_chars(why, MAX_QUOTED_CHARS)
                )),
                _ => Ok(()),
            },
        }
    }
}

/// When to retry after an answer with this status. The protocol's specification calls four statuses retryable.
fn retry_for_status(status: StatusCode) -> Retry {
    match status.as_u16() {
        429 | 502 | 503 | 504 => Retry::Soon,
        _ => Retry::Never,
    }
}

/// Sends empty messages to the collectors at the same time, and describes their answers. A stop signal ends the wait.
pub async fn ask_collectors(settings: &Settings, redactor: &Redactor, stop: &Stop) -> Vec<Answer> {
    // Each message has one empty part. A message without parts would have no bytes, and its request no
    // `Content-Length`.
    let traces = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans::default()],
    };
    let metrics = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics::default()],
    };
    let (to_traces, to_metrics) = (settings.traces.as_ref(), settings.metrics.as_ref());
    let (traces, metrics) = tokio::join!(
        ask::<ExportTraceServiceResponse>(to_traces, &traces, settings, stop),
        ask::<ExportMetricsServiceResponse>(to_metrics, &metrics, settings, stop),
    );
    let answers = [("traces", traces), ("metrics", metrics)];
    let answers = answers.into_iter().filter_map(|(subject, sentence)| {
        Some(Answer {
            subject,
            sentence: redactor.mask(&sentence?),
        })
    });
    answers.collect()
}

/// Sends a message to a collector, and describes the answer; `None` if there is no collector.
async fn ask<A: ExportResponse>(
    destination: Option<&Destination>,
    message: &impl Message,
    settings: &Settings,
    stop: &Stop,
) -> Option<String> {
    let destination = destination?;
    let timeout = destination.timeout.min(CHECK_TIMEOUT);
    let destination = Destination {
        timeout,
        ..destination.clone()
    };
    let collector = Collector::new(destination, settings);
    let url = collector.shown_url();
    let answer = tokio::select! {
        answer = collector.send::<A>(message) => answer.map_err(|error| error.why),
        _ = stop.wait_until_requested() => Err(format!("{url}: stopped before there was an answer")),
    };
    Some(match answer {
        Ok(()) => format!("exported to {url}, which answers"),
        Err(why) => format!("not exported, because of {why}; a run does not depend on it"),
    })
}
