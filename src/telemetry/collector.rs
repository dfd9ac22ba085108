//! Requests to a collector: protobuf over HTTP, with the client that callbacks have.

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
use reqwest::{Client, Response, StatusCode};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::answer::Answer;
use super::settings::{Destination, Settings};
use crate::excerpt;
use crate::http::errors::{no_answer_within, request_error};
use crate::http::{answer_body, json_client};
use crate::redact::Redactor;

const PROTOBUF: &str = "application/x-protobuf";
/// The longest part of a collector's own words in a warning, in characters.
const MAX_WORDS: usize = 200;

/// A collector for traces or for metrics.
#[derive(Debug)]
pub struct Collector {
    destination: Destination,
    authorities: Option<std::path::PathBuf>,
    /// Made for the first request, so that the start of a run does not wait for it.
    client: OnceCell<Client>,
}

/// Why data was not accepted.
#[derive(Debug)]
pub struct Refusal {
    pub why: String,
    /// Whether the same data may be accepted later.
    pub is_temporary: bool,
}

/// The part of an answer of a collector that says what it did not accept.
pub trait PartialSuccess: Message + Default {
    /// How many items were rejected, and why.
    fn rejected(&self) -> Option<(i64, &str)>;
}

impl PartialSuccess for ExportTraceServiceResponse {
    fn rejected(&self) -> Option<(i64, &str)> {
        let partial = self.partial_success.as_ref()?;
        Some((partial.rejected_spans, &partial.error_message))
    }
}

impl PartialSuccess for ExportMetricsServiceResponse {
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

    /// Sends data once.
    pub async fn send<A: PartialSuccess>(&self, data: &impl Message) -> Result<(), Refusal> {
        let limit = self.destination.timeout;
        let exchange = self.exchange::<A>(data.encode_to_vec());
        timeout(limit, exchange).await.unwrap_or_else(|_| {
            Err(Refusal {
                why: no_answer_within(&self.destination.url, limit),
                is_temporary: true,
            })
        })
    }

    async fn exchange<A: PartialSuccess>(&self, body: Vec<u8>) -> Result<(), Refusal> {
        let url = &self.destination.url;
        let client = self.client.get_or_try_init(|| async { self.new_client() });
        let request = client
            .await?
            .post(url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF))
            .headers(self.destination.headers.clone())
            .body(body);
        let response = request.send().await.map_err(|error| Refusal {
            why: request_error(url, &error),
            is_temporary: true,
        })?;
        self.judge::<A>(response).await
    }

    fn new_client(&self) -> Result<Client, Refusal> {
        let permanent = |why| Refusal {
            why,
            is_temporary: false,
        };
        let Destination { url, .. } = &self.destination;
        let client = json_client(url, self.authorities.as_deref(), HeaderMap::new());
        let client = client.map_err(|error| permanent(error.to_string()))?;
        let client = client.build();
        client.map_err(|error| permanent(request_error(url, &error)))
    }

    async fn judge<A: PartialSuccess>(&self, response: Response) -> Result<(), Refusal> {
        let url = &self.destination.url;
        let status = response.status();
        let body = answer_body(response).await.map_err(|error| Refusal {
            why: request_error(url, &error),
            // It may have the data already.
            is_temporary: false,
        })?;
        if !status.is_success() {
            let words = String::from_utf8_lossy(&body);
            let words = excerpt::first_chars(&excerpt::visible(&words), MAX_WORDS);
            return Err(Refusal {
                why: format!("{url}: the collector answered {status} {words}")
                    .trim_end()
                    .to_owned(),
                is_temporary: is_temporary(status),
            });
        }
        // Some services answer with JSON, or with nothing.
        if body.trim_ascii_start().first() == Some(&b'{') {
            return Ok(());
        }
        let rejected = |why| {
            Err(Refusal {
                why,
                is_temporary: false,
            })
        };
        match A::decode(body.as_slice()) {
            Err(_) => rejected(format!(
                "{url}: the answer is not one of a collector; is this the address for OTLP over HTTP?"
            )),
            Ok(answer) => match answer.rejected() {
                Some((count @ 1.., why)) => rejected(format!(
                    "{url}: the collector rejected {count} items: {}",
                    excerpt::first_chars(why, MAX_WORDS)
                )),
                _ => Ok(()),
            },
        }
    }
}

/// The statuses that the protocol's specification calls retryable.
fn is_temporary(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// Sends empty messages to the collectors, and describes their answers.
pub async fn ask_collectors(settings: &Settings, redactor: &Redactor) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut add = |subject, destination: &Destination, answer: Result<(), Refusal>| {
        let sentence = match answer {
            Ok(()) => format!("exported to {}, which answers", destination.url),
            Err(Refusal { why, .. }) => {
                format!("not exported, because of {why}; a run does not depend on it")
            }
        };
        answers.push(Answer {
            subject,
            sentence: redactor.text(&sentence),
        });
    };
    if let Some(destination) = &settings.traces {
        let collector = Collector::new(destination.clone(), settings);
        // Not a message of no bytes: its request would have no length.
        let empty = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans::default()],
        };
        let answer = collector.send::<ExportTraceServiceResponse>(&empty).await;
        add("traces", destination, answer);
    }
    if let Some(destination) = &settings.metrics {
        let collector = Collector::new(destination.clone(), settings);
        let empty = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics::default()],
        };
        let answer = collector.send::<ExportMetricsServiceResponse>(&empty).await;
        add("metrics", destination, answer);
    }
    answers
}
