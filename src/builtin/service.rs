//! Requests to the Messages API: streamed, one at a time, and sent again if that may help.
//!
//! `builtin.rs` decides what an answer means.

mod attempt;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use eyre::WrapErr;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Limited};
use reqwest::header::{HeaderMap, HeaderValue, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sse_stream::SseStream;
use tokio::time::{Instant, sleep, timeout};

use super::conversation::Conversation;
use super::messages::Answer;
use super::messages::stream::{Change, PartialAnswer, StreamError};
use crate::http::retries::{NoRetry, Retries};
use crate::http::{route_url, tls};
use crate::model::{CostLimitState, CostMeter, UpperBound};
use crate::stream_json::Writer;
use attempt::{
    Attempt, Partial, answer_too_large, connection_error, error_event, error_response,
    retryable_failure,
};
pub use attempt::{RequestFailure, ServiceError};

/// The version of the API: the one that Claude Code uses, because every gateway supports it.
const API_VERSION: &str = "2023-06-01";
/// The longest answer, in tokens. All current models support this length, and a large file fits into it.
const MAX_TOKENS: u32 = 32_000;
/// The longest stream of an answer, in bytes. Events are much larger than the content in them.
const MAX_STREAM_SIZE: usize = 16 * 1024 * 1024;
/// The largest request, in bytes: more than a model with a million tokens can read. The limit bounds the memory of this
/// process if the service accepts everything.
const MAX_REQUEST_SIZE: usize = 8 * 1024 * 1024;
/// How long the service may send nothing while it streams an answer. It sends a ping every few seconds.
const READ_TIMEOUT: Duration = Duration::from_secs(2 * 60);
/// How many answers to one request may end early; each of them costs money.
const MAX_INCOMPLETE_ANSWERS: u32 = 5;
/// The time between two keep-alive lines during the wait before a retry.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(250);
/// How long a connection may take to be established.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to retry if there is no idle timeout: longer than any task takes.
const RETRY_TIME_IF_UNLIMITED: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The system prompt.
const SYSTEM_PROMPT: &str = include_str!("system.md");

/// The address of the service, and the credentials for it.
#[derive(Debug)]
pub struct Settings {
    /// The base URL; `/v1/messages` is appended to its path.
    pub url: Url,
    pub key: Option<SecretString>,
    /// A bearer token, instead of the API key or next to it.
    pub token: Option<SecretString>,
    /// A PEM file with private certificate authorities to trust next to the public ones.
    pub authorities: Option<PathBuf>,
    /// How long one request may make no progress, with all its retries; `None` is unlimited.
    pub idle_timeout: Option<Duration>,
}

/// A client of the Messages API for one model.
#[derive(Debug)]
pub struct Service {
    client: Client,
    url: Url,
    model: String,
    idle_timeout: Duration,
    /// How long the service may send nothing.
    read_timeout: Duration,
}

impl Service {
    pub fn new(settings: &Settings, model: &str) -> eyre::Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert("anthropic-version", HeaderValue::from_static(API_VERSION));
        let user_agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(user_agent));
        let secret = |text: &str| {
            let value = HeaderValue::from_str(text);
            value.map(|mut value| {
                value.set_sensitive(true);
                value
            })
        };
        if let Some(key) = &settings.key {
            headers.insert("x-api-key", secret(key.expose_secret())?);
        }
        if let Some(token) = &settings.token {
            let bearer = format!("Bearer {}", token.expose_secret());
            headers.insert("authorization", secret(&bearer)?);
        }
        let idle_timeout = settings.idle_timeout.unwrap_or(RETRY_TIME_IF_UNLIMITED);
        let client = Client::builder()
            .tls_backend_preconfigured(tls::config(&settings.url, settings.authorities.as_deref())?)
            .default_headers(headers)
            // A redirect would send the key to another server.
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT.min(idle_timeout / 3))
            .build()
            .wrap_err("the HTTP client cannot be set up")?;
        Ok(Self {
            client,
            url: route_url(&settings.url, "v1/messages"),
            model: model.to_owned(),
            idle_timeout,
            read_timeout: READ_TIMEOUT.min(idle_timeout / 3),
        })
    }

    /// Sends the conversation, repeats the request while that may help, and adds the cost of each answer to `cost`.
    ///
    /// # Errors
    /// The outer error means that standard output is closed; the inner error, that there is no answer.
    pub async fn ask(
        &self,
        conversation: &Conversation,
        writer: &mut Writer,
        cost: &mut CostMeter,
    ) -> io::Result<Result<Answer, ServiceError>> {
        let body = self.body(conversation).to_string();
        if body.len() > MAX_REQUEST_SIZE {
            return Ok(Err(ServiceError::ConversationTooLong));
        }
        let upper_bound = upper_bound(&body);
        let request = self.client.post(self.url.clone());
        let request = request
            .header("content-type", "application/json")
            .body(body);
        let mut retries = Retries::within(self.idle_timeout);
        let (mut attempts, mut incomplete_answers) = (0, 0);
        loop {
            attempts += 1;
            let (failure, retry_after, partial) = match self.attempt(&request, writer).await {
                Attempt::Answered(answer) => {
                    cost.add(answer.usage, upper_bound);
                    return Ok(Ok(answer));
                }
                Attempt::Rejected { error, partial } => {
                    if let Partial::Begun { usage, .. } = partial {
                        cost.add(usage, upper_bound);
                    }
                    return Ok(Err(error));
                }
                Attempt::Retry {
                    failure,
                    retry_after,
                    partial,
                } => (failure, retry_after, partial),
            };
            if let Partial::Begun { usage, has_content } = partial {
                if has_content {
                    // The service was able to answer, so the time limit starts again. The number of incomplete
                    // answers is limited instead, because each may cost as much as a complete one.
                    incomplete_answers += 1;
                    retries.extend(self.idle_timeout);
                }
                if cost.add(usage, upper_bound) == CostLimitState::Reached {
                    return Ok(Err(ServiceError::BudgetUsedUp));
                }
            }
            let can_retry = incomplete_answers < MAX_INCOMPLETE_ANSWERS;
            let delay = match retries.delay(retry_after) {
                Ok(delay) if can_retry => delay,
                // The orchestrator can run the task again later; waiting here would only cost time.
                Err(NoRetry::RetryAfterTooLong { asked, .. }) if can_retry => {
                    let message = format!(
                        "{} (it asks to wait {} s)",
                        failure.message,
                        asked.as_secs()
                    );
                    return Ok(Err(ServiceError::Failed(RequestFailure {
                        message,
                        ..failure
                    })));
                }
                _ => return Ok(Err(ServiceError::Failed(failure))),
            };
            writer.write_retry(attempts, delay, failure.status, &failure.message)?;
            sleep_with_keep_alive(delay, writer).await;
        }
    }

    /// The JSON of a request.
    fn body(&self, conversation: &Conversation) -> Value {
        json!({
            "model": self.model,
            "max_tokens": MAX_TOKENS,
            "stream": true,
            // The tools and the system prompt never change, so that the service can cache them.
            "tools": [
                { "type": "bash_20250124", "name": "bash" },
                { "type": "text_editor_20250728", "name": "str_replace_based_edit_tool" },
            ],
            "system": [{ "type": "text", "text": SYSTEM_PROMPT, "cache_control": { "type": "ephemeral" } }],
            "messages": conversation.to_request(),
        })
    }

    /// Sends the request once.
    async fn attempt(&self, request: &RequestBuilder, writer: &mut Writer) -> Attempt {
        let request = request.try_clone().expect("the body is in memory");
        match timeout(self.read_timeout, request.send()).await {
            Ok(Ok(response)) if response.status().is_success() => {
                self.receive(response, writer).await
            }
            Ok(Ok(response)) => error_response(response, self.read_timeout).await,
            Ok(Err(error)) => connection_error(&self.url, &error, Partial::None),
            Err(_) => retryable_failure("it does not answer".to_owned(), Partial::None),
        }
    }

    /// Reads a streamed answer.
    async fn receive(&self, response: Response, writer: &mut Writer) -> Attempt {
        let body = reqwest::Body::from(response);
        let body = Limited::new(body, MAX_STREAM_SIZE).map_err(io::Error::other);
        let mut events = SseStream::new(body);
        let mut answer = PartialAnswer::default();
        let mut last_growth = Instant::now();
        loop {
            let event = timeout(self.read_timeout, events.next()).await;
            let partial = partial_of(&answer);
            let event = match event {
                Ok(Some(Ok(event))) => event,
                Ok(Some(Err(error))) => return connection_error(&self.url, &error, partial),
                Ok(None) => return retryable_failure("its answer broke off".to_owned(), partial),
                Err(_) => return retryable_failure("it sends nothing more".to_owned(), partial),
            };
            // This request has its own time limit, so the worker's idle timeout must not fire earlier.
            writer.keep_alive();
            let data = event.data.unwrap_or_default();
            let change = match data.as_str() {
                "" => Ok(Change::Nothing),
                data => answer.push(data),
            };
            match change {
                Ok(Change::Grown) => last_growth = Instant::now(),
                // Pings and unknown events could go on forever.
                Ok(Change::Nothing) if last_growth.elapsed() > self.idle_timeout => {
                    let message = "it sends events, but its answer makes no progress";
                    return retryable_failure(message.to_owned(), partial);
                }
                Ok(Change::Nothing) => {}
                Ok(Change::Complete) => break,
                Err(StreamError::Reported(error)) => return error_event(error, partial),
                Err(StreamError::Malformed(why)) => {
                    return retryable_failure(format!("its answer cannot be read: {why}"), partial);
                }
                Err(StreamError::TooLarge) => return answer_too_large(partial),
            }
        }
        let partial = partial_of(&answer);
        match answer.into_answer() {
            Some(answer) => Attempt::Answered(answer),
            None => retryable_failure("its answer is empty".to_owned(), partial),
        }
    }
}

/// How much of an answer has arrived.
fn partial_of(answer: &PartialAnswer) -> Partial {
    if answer.has_started() {
        Partial::Begun {
            usage: answer.usage_so_far(),
            has_content: answer.has_content(),
        }
    } else {
        Partial::None
    }
}

/// The most tokens that this request and its answer can cost.
fn upper_bound(body: &str) -> UpperBound {
    UpperBound::of_request(body.len(), u64::from(MAX_TOKENS))
}

/// Sleeps and writes keep-alive lines, so that the worker's idle timeout does not fire.
async fn sleep_with_keep_alive(delay: Duration, writer: &mut Writer) {
    let end = Instant::now() + delay;
    while Instant::now() < end {
        writer.keep_alive();
        sleep(KEEP_ALIVE_INTERVAL.min(end - Instant::now())).await;
    }
}
