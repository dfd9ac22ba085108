//! A fake collector of OpenTelemetry: receives OTLP over HTTP and decodes it.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

use crate::support::server::Connection;
use crate::support::{Hold, Server};

/// One request of a worker or a dispatcher, as it arrived.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    pub path: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

/// A span, with its ids in hexadecimal.
#[derive(Debug, Clone)]
pub struct Span {
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty for the root of a trace.
    pub parent: String,
    pub attributes: HashMap<String, String>,
    /// The description, if the status is an error.
    pub error: Option<String>,
    /// The attributes of the process that sent the span.
    pub resource: HashMap<String, String>,
    /// In nanoseconds since 1970.
    pub start: u64,
    pub end: u64,
}

/// A data point of a metric.
#[derive(Debug, Clone)]
pub struct Point {
    pub metric: String,
    pub unit: String,
    pub attributes: HashMap<String, String>,
    /// The number, or the sum of a histogram.
    pub sum: f64,
}

/// The answer to a request: the status, the content type and the body.
pub type Answer = (&'static str, &'static str, &'static str);

/// The answer of a collector that has stored the data.
const ACCEPTED: Answer = ("200 OK", "application/x-protobuf", "");

/// A listening collector; closed when it is dropped.
pub struct Collector {
    server: Server,
    requests: Arc<Mutex<Vec<ExportRequest>>>,
    connections: Arc<AtomicUsize>,
}

impl Collector {
    /// Starts a collector that accepts every request.
    pub fn start() -> Self {
        Self::start_with_answer(ACCEPTED)
    }

    /// Starts a collector that gives this answer to every request.
    pub fn start_with_answer(answer: Answer) -> Self {
        Self::start_with(|_| {}, move |_| answer)
    }

    /// Starts a collector that refuses the first request to each path with this status, and accepts the others.
    pub fn start_refusing_once(status: &'static str) -> Self {
        let refused_paths: Mutex<HashSet<String>> = Mutex::default();
        Self::start_with(
            |_| {},
            move |request| {
                let is_first = lock(&refused_paths).insert(request.path.clone());
                if is_first {
                    (status, "text/plain", "")
                } else {
                    ACCEPTED
                }
            },
        )
    }

    /// Starts a collector that reads nothing from the first connection until the test releases the hold, and accepts the requests
    /// on other connections.
    pub fn start_hanging_once(hold: &Hold) -> Self {
        let hold = hold.clone();
        Self::start_with(
            move |connection| {
                if connection.number == 1 {
                    connection.wait_for(&hold);
                }
            },
            |_| ACCEPTED,
        )
    }

    /// Starts a collector. `begin` is called for each new connection, and `answer` for each request.
    fn start_with(
        begin: impl Fn(&Connection) + Send + Sync + 'static,
        answer: impl Fn(&ExportRequest) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let connections: Arc<AtomicUsize> = Arc::default();
        let counter = Arc::clone(&connections);
        let requests: Arc<Mutex<Vec<ExportRequest>>> = Arc::default();
        let recorded = Arc::clone(&requests);
        let server = Server::listen("127.0.0.1:0", move |connection| {
            counter.fetch_add(1, Ordering::Relaxed);
            begin(connection);
            let mut buffer = Vec::new();
            while let Some(request) = read_request(connection, &mut buffer) {
                let (status, kind, body) = answer(&request);
                lock(&recorded).push(request);
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                if (&*connection.stream).write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
        Self {
            server,
            requests,
            connections,
        }
    }

    /// How many connections were accepted so far.
    pub fn count_connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The value for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    pub fn requests(&self) -> Vec<ExportRequest> {
        lock(&self.requests).clone()
    }

    /// All spans so far, in the order of their starts.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for request in self.requests() {
            if request.path != "/v1/traces" {
                continue;
            }
            let data = ExportTraceServiceRequest::decode(request.body.as_slice()).expect("traces");
            for process in data.resource_spans {
                let resource = process.resource.expect("a resource").attributes;
                let resource = texts(&resource);
                for span in process
                    .scope_spans
                    .into_iter()
                    .flat_map(|scope| scope.spans)
                {
                    let status = span.status.unwrap_or_default();
                    let is_error = status.code == StatusCode::Error as i32;
                    spans.push(Span {
                        trace: hex(&span.trace_id),
                        id: hex(&span.span_id),
                        parent: hex(&span.parent_span_id),
                        attributes: texts(&span.attributes),
                        error: is_error.then_some(status.message),
                        resource: resource.clone(),
                        name: span.name,
                        start: span.start_time_unix_nano,
                        end: span.end_time_unix_nano,
                    });
                }
            }
        }
        spans.sort_by_key(|span| span.start);
        spans
    }

    /// The only span with this name.
    #[track_caller]
    pub fn span(&self, name: &str) -> Span {
        let mut spans = self.spans();
        spans.retain(|span| span.name == name);
        assert_eq!(spans.len(), 1, "spans called {name}: {:#?}", self.spans());
        spans.remove(0)
    }

    /// The data points of all metrics.
    pub fn points(&self) -> Vec<Point> {
        let requests = self.requests().into_iter();
        let requests = requests.filter(|request| request.path == "/v1/metrics");
        let metrics = requests.flat_map(|request| {
            let data = ExportMetricsServiceRequest::decode(request.body.as_slice());
            let processes = data.expect("metrics").resource_metrics;
            let scopes = processes
                .into_iter()
                .flat_map(|process| process.scope_metrics);
            scopes.flat_map(|scope| scope.metrics).collect::<Vec<_>>()
        });
        metrics
            .flat_map(|metric| {
                let (name, unit) = (metric.name, metric.unit);
                let point = |attributes: &[KeyValue], sum| Point {
                    metric: name.clone(),
                    unit: unit.clone(),
                    attributes: texts(attributes),
                    sum,
                };
                match metric.data.expect("data") {
                    Data::Sum(sum) => sum
                        .data_points
                        .iter()
                        .map(|data| point(&data.attributes, number(data.value.as_ref())))
                        .collect(),
                    Data::Histogram(histogram) => histogram
                        .data_points
                        .iter()
                        .map(|data| point(&data.attributes, data.sum.expect("a sum")))
                        .collect::<Vec<_>>(),
                    other => panic!("no other kind of metric is sent: {other:?}"),
                }
            })
            .collect()
    }

    /// The sum of the only data point of a metric with this attribute.
    #[track_caller]
    pub fn point(&self, metric: &str, attribute: (&str, &str)) -> f64 {
        let (key, value) = attribute;
        let mut points = self.points();
        points.retain(|point| {
            point.metric == metric && point.attributes.get(key).is_some_and(|text| text == value)
        });
        assert_eq!(
            points.len(),
            1,
            "{metric} {attribute:?}: {:#?}",
            self.points()
        );
        points[0].sum
    }
}

/// The value of a data point.
fn number(value: Option<&number_data_point::Value>) -> f64 {
    match value.expect("a value") {
        number_data_point::Value::AsDouble(number) => *number,
        #[expect(clippy::cast_precision_loss, reason = "the tests' numbers are small")]
        number_data_point::Value::AsInt(number) => *number as f64,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The keys and values of attributes, as texts.
fn texts(attributes: &[KeyValue]) -> HashMap<String, String> {
    let text = |value: &AnyValue| match value.value.as_ref().expect("a value") {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(number) => number.to_string(),
        any_value::Value::DoubleValue(number) => number.to_string(),
        other => panic!("no other kind of value is sent: {other:?}"),
    };
    let pairs = attributes.iter();
    pairs
        .map(|pair| {
            (
                pair.key.clone(),
                text(pair.value.as_ref().expect("a value")),
            )
        })
        .collect()
}

/// The bytes in hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string");
        text
    })
}

/// Reads one request; `None` if the connection ends before it is complete.
fn read_request(connection: &Connection, buffer: &mut Vec<u8>) -> Option<ExportRequest> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        if let Ok(httparse::Status::Complete(head)) = request.parse(buffer) {
            let path = request.path.expect("a path").to_owned();
            let headers: HashMap<String, String> = request
                .headers
                .iter()
                .map(|header| {
                    let value = String::from_utf8_lossy(header.value).into_owned();
                    (header.name.to_lowercase(), value)
                })
                .collect();
            let length: usize = headers["content-length"].parse().expect("a length");
            while buffer.len() < head + length {
                read_more(&connection.stream, buffer)?;
            }
            let rest = buffer.split_off(head + length);
            let body = buffer.split_off(head);
            *buffer = rest;
            return Some(ExportRequest {
                path,
                headers,
                body,
            });
        }
        read_more(&connection.stream, buffer)?;
    }
}

fn read_more(mut stream: &TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 8 * 1024];
    match stream.read(&mut chunk) {
        Ok(0) | Err(_) => None,
        Ok(count) => {
            buffer.extend_from_slice(&chunk[..count]);
            Some(())
        }
    }
}
