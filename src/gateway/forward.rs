//! Forwards one request: reads it, reserves its maximum cost, sends it with the real credential, and passes
//! the answer on while counting its tokens.

use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE,
    EXPECT, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::time::{Instant, timeout, timeout_at};

use super::errors::GatewayError;
use super::ledger::{Admission, Refusal, Reservation};
use super::meter::Meter;
use super::open_request::{MeteredBody, OpenRequest, RequestState};
use super::request_body::{RequestBody, SendingState};
use super::request_cost;
use super::route::{self, Decision};
use super::shared::{Service, Shared};
use super::wire::Report;
use crate::http::errors::request_error;
use crate::model::{Api, RoutePrice};

/// The largest body of a request, in bytes. The services accept no larger one.
const MAX_REQUEST_SIZE: usize = 32 * 1024 * 1024;
/// How long a client may pause while it sends a request's body.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to send a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// The maximum size of the bodies of all requests in memory together, in bytes.
pub const MAX_BUFFERED_SIZE: usize = 2 * MAX_REQUEST_SIZE;
/// The longest path in an error message, in bytes. A longer path is cut.
const MAX_SHOWN_PATH: usize = 200;

/// The headers of a request that the gateway removes: those that concern only one connection (RFC 9110,
/// section 7.6.1), and those that it sets itself.
static REMOVED_REQUEST_HEADERS: [HeaderName; 9] = [
    CONNECTION,
    HOST,
    CONTENT_LENGTH,
    EXPECT,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// The headers of an answer that the gateway removes, because they concern only one connection.
static REMOVED_ANSWER_HEADERS: [HeaderName; 5] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// Other headers that the gateway removes from requests and answers. They concern only one connection too, but the HTTP
/// library has no constants for them.
const REMOVED_HEADER_NAMES: [&str; 2] = ["keep-alive", "proxy-connection"];
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The service gave no answer, or the client closed the connection. The gateway then closes the connection to the
/// client without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the model's service gave no answer")]
pub struct NoAnswer;

/// The body of an answer: the gateway's own, or the service's.
pub type AnswerBody = Either<Full<Bytes>, MeteredBody>;

/// Answers one request of a client.
pub async fn answer(
    shared: Rc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, NoAnswer> {
    let uri = request.uri();
    // A client that uses the gateway as an HTTP proxy sends the name of another host, or CONNECT.
    let is_for_proxy = uri.authority().is_some() || request.method() == Method::CONNECT;
    let decision = route::decide(&shared.endpoints, request.method(), uri.path());
    match decision {
        _ if is_for_proxy => Ok(not_found()),
        Decision::Unknown => Ok(not_found()),
        Decision::NotForwarded { service } => {
            let method = request.method().to_string();
            let path: String = path_without_secret(uri.path()).to_owned();
            let error = GatewayError::NotForwarded { method, path };
            Ok(error_answer(&error, shared.services[service].provider.api))
        }
        Decision::Forward {
            service,
            path,
            price,
        } => {
            let forwarding = Forwarding {
                shared: shared.clone(),
                service,
                path,
                price,
            };
            let api = shared.services[service].provider.api;
            match forwarding.forward(request).await {
                Ok(answer) => Ok(answer),
                Err(ForwardError::Gateway(error)) => Ok(error_answer(&error, api)),
                Err(ForwardError::NoAnswer) => Err(NoAnswer),
            }
        }
    }
}

/// The path without its random first segment, for messages. A long path is cut.
fn path_without_secret(path: &str) -> &str {
    let rest = path.trim_start_matches('/');
    let shown = rest.find('/').map_or("/", |at| &rest[at..]);
    let mut end = shown.len().min(MAX_SHOWN_PATH);
    while !shown.is_char_boundary(end) {
        end -= 1;
    }
    &shown[..end]
}

fn not_found() -> Response<AnswerBody> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

fn error_answer(error: &GatewayError, api: Api) -> Response<AnswerBody> {
    let mut response = Response::new(Either::Left(Full::from(error.body(api))));
    *response.status_mut() = error.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // `Busy` is the only error after which a retry can succeed: when other requests have released the memory.
    let (name, value) = match error {
        GatewayError::Busy => ("retry-after", "1"),
        _ => ("x-should-retry", "false"),
    };
    headers.insert(name, HeaderValue::from_static(value));
    response
}

/// Why a client does not get an answer of the service.
enum ForwardError {
    /// The gateway answers with this error.
    Gateway(GatewayError),
    /// The gateway closes the connection without an answer; see [`NoAnswer`].
    NoAnswer,
}

impl From<GatewayError> for ForwardError {
    fn from(error: GatewayError) -> Self {
        Self::Gateway(error)
    }
}

/// A request that the table of routes allows.
struct Forwarding {
    shared: Rc<Shared>,
    /// The index of the service in [`Shared::services`].
    service: usize,
    path: String,
    price: RoutePrice,
}

impl Forwarding {
    /// Forwards the request. The whole body is read first, because the maximum cost must be reserved before the service
    /// gets the request.
    async fn forward(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, ForwardError> {
        let (parts, body) = request.into_parts();
        let service = &self.shared.services[self.service];
        let length = parts.headers.get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        // `_memory` counts the body as buffered until the service has answered.
        let (body, _memory) = self.read_body(body, length).await?;
        let mut open_request = self.new_open_request(&parts.method);
        if self.price == RoutePrice::Tokens {
            open_request.reservation = self.reserve(&parts.headers, &body).await?;
        }
        let headers = forwarded_headers(&parts.headers, service);
        let url = route::target_url(&service.url, &self.path, parts.uri.query());
        let request = service
            .client
            .request(parts.method.clone(), url)
            .headers(headers);
        let sending = SendingState::default();
        let request = match parts.method {
            // With an empty body, reqwest would send a length that the client did not send.
            Method::GET | Method::HEAD if body.is_empty() => request,
            _ if body.is_empty() => request.body(body),
            _ => request.body(reqwest::Body::wrap(RequestBody::new(body, sending.clone()))),
        };
        open_request.state = RequestState::Unanswered(sending);
        open_request.started_at = Instant::now();
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                open_request.state = RequestState::Free;
                let mut shown_url = service.url.clone();
                // The message must not show the credentials in the URL.
                let _ = shown_url.set_username("");
                let _ = shown_url.set_password(None);
                let why = request_error(&shown_url, &error);
                self.shared.reports.add(&Report::Unreachable { why });
                return Err(ForwardError::NoAnswer);
            }
        };
        Ok(self.return_answer(open_request, answer))
    }

    /// Reads the whole body; an error if the body needs too much time or memory. `length` is the value of the header
    /// `Content-Length`.
    async fn read_body(
        &self,
        mut body: Incoming,
        length: Option<usize>,
    ) -> Result<(Bytes, BufferedMemory), ForwardError> {
        let too_large = || GatewayError::TooLarge {
            max_bytes: MAX_REQUEST_SIZE,
        };
        if length.is_some_and(|length| length > MAX_REQUEST_SIZE) {
            return Err(too_large().into());
        }
        let deadline = Instant::now() + BODY_TIMEOUT;
        let mut memory = BufferedMemory {
            shared: self.shared.clone(),
            bytes: 0,
        };
        let mut content = Vec::new();
        loop {
            let frame = timeout(BODY_IDLE_TIMEOUT, body.frame());
            let frame = match timeout_at(deadline, frame).await {
                Ok(Ok(Some(Ok(frame)))) => frame,
                Ok(Ok(None)) => return Ok((content.into(), memory)),
                // The client closed the connection.
                Ok(Ok(Some(Err(_)))) => return Err(ForwardError::NoAnswer),
                Ok(Err(_)) | Err(_) => return Err(GatewayError::TooSlow.into()),
            };
            let Ok(bytes) = frame.into_data() else {
                continue;
            };
            if content.len() + bytes.len() > MAX_REQUEST_SIZE {
                return Err(too_large().into());
            }
            memory.grow(bytes.len())?;
            content.extend_from_slice(&bytes);
        }
    }

    /// Reserves the request's maximum cost. Waits while the rest of the limit is reserved for other requests.
    /// `None` if there is no limit and the request cannot be read.
    async fn reserve(
        &self,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Option<Reservation>, ForwardError> {
        let shared = &self.shared;
        let cost = if headers.contains_key(CONTENT_ENCODING) {
            Err("the request is compressed, so its cost cannot be limited".to_owned())
        } else {
            request_cost::read(body)
        };
        let cost = match cost {
            Ok(cost) => cost,
            Err(_) if !shared.ledger.borrow().has_limit() => return Ok(None),
            Err(why) => return Err(GatewayError::Unreadable(why).into()),
        };
        loop {
            let settlement = shared.settlement.notified();
            let admission = shared.ledger.borrow_mut().admit(&cost);
            match admission {
                Admission::Admitted(reservation) => return Ok(Some(reservation)),
                Admission::Wait => settlement.await,
                Admission::Refused(refusal) => {
                    self.report_refusal(&refusal);
                    return Err(GatewayError::Refused(refusal).into());
                }
            }
        }
    }

    /// Reports the first refusal to the worker.
    fn report_refusal(&self, refusal: &Refusal) {
        if !self.shared.has_refused.replace(true) {
            let why = refusal.to_string();
            self.shared.reports.add(&Report::Refused { why });
        }
    }

    /// Counts a request whose body has arrived, and opens it.
    fn new_open_request(&self, method: &Method) -> OpenRequest {
        self.shared.requests.set(self.shared.requests.get() + 1);
        OpenRequest {
            shared: self.shared.clone(),
            method: method.clone(),
            path: self.path.clone(),
            costs_tokens: self.price == RoutePrice::Tokens,
            reservation: None,
            state: RequestState::Free,
            status: None,
            started_at: Instant::now(),
            time_to_first_byte: None,
        }
    }

    /// The answer for the client. Its body is counted while it is passed on.
    fn return_answer(
        &self,
        mut open_request: OpenRequest,
        answer: reqwest::Response,
    ) -> Response<AnswerBody> {
        let status = answer.status();
        open_request.status = Some(status.as_u16());
        let mut headers = answer.headers().clone();
        let content_type = headers.get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let api = self.shared.services[self.service].provider.api;
        open_request.state = if status.is_success() && open_request.costs_tokens {
            RequestState::Answered(Box::new(Meter::new(api, content_type.unwrap_or_default())))
        } else {
            RequestState::Free
        };
        remove_connection_headers(&mut headers, &REMOVED_ANSWER_HEADERS);
        let body = MeteredBody {
            body: answer.into(),
            open_request,
        };
        let mut response = Response::new(Either::Right(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// The client's headers with the real credential instead of the placeholder.
fn forwarded_headers(headers: &HeaderMap, service: &Service) -> HeaderMap {
    let mut headers = headers.clone();
    remove_connection_headers(&mut headers, &REMOVED_REQUEST_HEADERS);
    headers.remove(X_API_KEY);
    headers.remove(AUTHORIZATION);
    // The gateway cannot count the tokens of a compressed answer.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    for (name, value) in &service.credentials {
        headers.insert(name, value.clone());
    }
    headers
}

/// Removes these headers, those that `Connection` names, and [`REMOVED_HEADER_NAMES`].
fn remove_connection_headers(headers: &mut HeaderMap, names: &[HeaderName]) {
    let values = headers.get_all(CONNECTION).iter();
    let names_in_connection = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let names_in_connection: Vec<HeaderName> = names_in_connection
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in names.iter().chain(&names_in_connection) {
        headers.remove(name);
    }
    for name in REMOVED_HEADER_NAMES {
        headers.remove(name);
    }
}

/// The part of [`MAX_BUFFERED_SIZE`] that a request's body uses; released when this value is dropped.
struct BufferedMemory {
    shared: Rc<Shared>,
    bytes: usize,
}

impl BufferedMemory {
    /// Counts more bytes; an error if that would exceed [`MAX_BUFFERED_SIZE`].
    fn grow(&mut self, bytes: usize) -> Result<(), GatewayError> {
        let total = self.shared.buffered_size.get() + bytes;
        if total > MAX_BUFFERED_SIZE {
            return Err(GatewayError::Busy);
        }
        self.shared.buffered_size.set(total);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for BufferedMemory {
    fn drop(&mut self) {
        let total = self.shared.buffered_size.get();
        self.shared.buffered_size.set(total - self.bytes);
    }
}
