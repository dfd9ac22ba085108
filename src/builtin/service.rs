//! The model's service: one question at a time, streamed, and asked again where that may help.
//!
//! Knows the Messages API's requests and errors; what an answer means is for others.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use eyre::WrapErr;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Limited};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sse_stream::SseStream;
use tokio::time::{Instant, sleep, timeout};

use super::conversation::Conversation;
use super::messages::{Answer, Incoming, StreamError, complaint};
use crate::http::retries::{Retries, retry_after};
use crate::http::{answer_body, below, causes, tls};
use crate::model::{CostLimit, CostMeter, Usage, may_pass};
use crate::stream_json::Writer;

/// The version of the API that this speaks: not the newest, but the one that everything between
/// here and there knows, and that Claude Code speaks.
const VERSION: &str = "2023-06-01";
/// The most of one answer, in tokens: all current models can, and a large file fits.
const MAX_TOKENS: u32 = 32_000;
/// The most of one answer, in bytes of the stream: some hundred times what the tokens make.
const STREAM: usize = 64 * 1024 * 1024;
/// How long the service may be silent while an answer is on its way: it pings every few seconds.
const SILENCE: Duration = Duration::from_secs(2 * 60);
/// How long the words of a refusal may take.
const WORDS: Duration = Duration::from_secs(10);
/// How often an answer may break off; each time is paid for.
const BROKEN: u32 = 5;
/// How often there is a sign of life while nothing else is done.
const LIVES: Duration = Duration::from_millis(250);
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(30);
/// How long the service may stay out of reach where nobody says: longer than any task.
const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// What the API answers where it wants another try, or none, whatever the status says.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// What the model is told first.
const SYSTEM: &str = include_str!("system.md");

/// How the service is reached.
#[derive(Debug)]
pub struct Settings {
    /// The base; `/v1/messages` is appended to its path.
    pub url: Url,
    pub key: Option<SecretString>,
    /// A bearer token instead of the key, or beside it.
    pub token: Option<SecretString>,
    /// Private authorities to trust beside the public ones, as PEM.
    pub authorities: Option<PathBuf>,
    /// How long one question may go unanswered, all attempts together; `None` for ever.
    pub patience: Option<Duration>,
}

#[derive(Debug)]
pub struct Service {
    client: Client,
    url: Url,
    model: String,
    patience: Duration,
    /// How long it may say nothing at all.
    silence: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum ServiceError {
    /// The conversation is longer than the model can read.
    TooLong,
    /// What broke off has cost what there was.
    BudgetUsedUp,
    /// It will not answer this; or it did not, for as long as anybody wanted to wait.
    Failed(Refusal),
}

/// What the service said, or what was said about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// None where there was no answer.
    pub status: Option<u16>,
    pub message: String,
    /// Whether it may be another thing next time.
    pub may_pass: bool,
}

/// What one attempt came to.
enum Attempt {
    Answered(Answer),
    /// Not another time either.
    Refused(ServiceError),
    Later {
        refusal: Refusal,
        after: Option<Duration>,
        begun: Begun,
    },
}

/// Whether an answer had begun, and what that took.
#[derive(Debug, Clone, Copy)]
enum Begun {
    Yes(Usage),
    No,
}

impl Service {
    pub fn new(settings: &Settings, model: &str) -> eyre::Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert("anthropic-version", HeaderValue::from_static(VERSION));
        let agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
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
        let patience = settings.patience.unwrap_or(FOR_EVER);
        let client = Client::builder()
            .tls_backend_preconfigured(tls::config(&settings.url, settings.authorities.as_deref())?)
            .default_headers(headers)
            // They would take the key elsewhere.
            .redirect(Policy::none())
            .connect_timeout(CONNECT.min(patience / 3))
            .build()
            .wrap_err("the HTTP client cannot be set up")?;
        Ok(Self {
            client,
            url: below(&settings.url, "v1/messages"),
            model: model.to_owned(),
            patience,
            silence: SILENCE.min(patience / 3),
        })
    }

    /// Asks until there is an answer, or it is clear that there will be none. An error of the outer
    /// kind means that nobody listens any more.
    pub async fn ask(
        &self,
        conversation: &Conversation,
        writer: &mut Writer,
        cost: &mut CostMeter,
    ) -> io::Result<Result<Answer, ServiceError>> {
        let body = self.body(conversation).to_string();
        let mut retries = Retries::within(self.patience);
        let (mut attempts, mut broken) = (0, 0);
        loop {
            attempts += 1;
            let (refusal, after, begun) = match self.attempt(body.clone(), writer).await {
                Attempt::Answered(answer) => return Ok(Ok(answer)),
                Attempt::Refused(error) => return Ok(Err(error)),
                Attempt::Later {
                    refusal,
                    after,
                    begun,
                } => (refusal, after, begun),
            };
            if let Begun::Yes(usage) = begun {
                // It was there, so it is waited for from now on; but each half costs a whole one.
                broken += 1;
                retries.extend(self.patience);
                if cost.add(usage) == CostLimit::Reached {
                    return Ok(Err(ServiceError::BudgetUsedUp));
                }
            }
            // Where it asks for more time than there is, somebody else had better wait.
            if let Some(after) = after.filter(|after| *after >= self.patience) {
                let message = format!(
                    "{} (it asks to wait {} s)",
                    refusal.message,
                    after.as_secs()
                );
                return Ok(Err(ServiceError::Failed(Refusal { message, ..refusal })));
            }
            let delay = match retries.delay(after) {
                Ok(delay) if broken < BROKEN => delay,
                _ => return Ok(Err(ServiceError::Failed(refusal))),
            };
            writer.retry(attempts, delay, refusal.status, &refusal.message)?;
            wait(delay, writer).await;
        }
    }

    fn body(&self, conversation: &Conversation) -> Value {
        json!({
            "model": self.model,
            "max_tokens": MAX_TOKENS,
            "stream": true,
            // What never changes comes first, and is cached up to here.
            "tools": [
                { "type": "bash_20250124", "name": "bash" },
                { "type": "text_editor_20250728", "name": "str_replace_based_edit_tool" },
            ],
            "system": [{ "type": "text", "text": SYSTEM, "cache_control": { "type": "ephemeral" } }],
            "messages": conversation.to_send(),
        })
    }

    async fn attempt(&self, body: String, writer: &mut Writer) -> Attempt {
        let request = self.client.post(self.url.clone());
        let request = request
            .header("content-type", "application/json")
            .body(body);
        match timeout(self.silence, request.send()).await {
            Ok(Ok(response)) if response.status().is_success() => {
                self.receive(response, writer).await
            }
            Ok(Ok(response)) => refusal(response, self.silence).await,
            Ok(Err(error)) => unanswered(&error.without_url(), Begun::No),
            Err(_) => later("it does not answer".to_owned(), Begun::No),
        }
    }

    /// Reads an answer as it comes.
    async fn receive(&self, response: Response, writer: &mut Writer) -> Attempt {
        let body = Limited::new(reqwest::Body::from(response), STREAM).map_err(io::Error::other);
        let mut events = SseStream::new(body);
        let mut incoming = Incoming::default();
        let mut last = Instant::now();
        loop {
            let event = timeout(self.silence, events.next()).await;
            let begun = if incoming.has_begun() {
                Begun::Yes(incoming.usage())
            } else {
                Begun::No
            };
            let event = match event {
                Ok(Some(Ok(event))) => event,
                Ok(Some(Err(error))) => return unanswered(&error, begun),
                Ok(None) => return later("its answer broke off".to_owned(), begun),
                Err(_) => return later("it fell silent".to_owned(), begun),
            };
            writer.alive();
            if event.event.as_deref() != Some("ping") {
                last = Instant::now();
            } else if last.elapsed() > self.patience {
                return later("it does nothing but ping".to_owned(), begun);
            }
            let data: String = event.data.unwrap_or_default();
            if data.is_empty() {
                continue;
            }
            match incoming.push(&data) {
                Ok(false) => {}
                Ok(true) => break,
                Err(StreamError::Said { kind, message }) => return said(&kind, message, begun),
                Err(StreamError::Malformed(what)) => {
                    return later(format!("its answer cannot be read: {what}"), begun);
                }
            }
        }
        match incoming.answer() {
            Some(answer) => Attempt::Answered(answer),
            None => later("its answer broke off".to_owned(), Begun::No),
        }
    }
}

/// Waits, and lives.
async fn wait(delay: Duration, writer: &mut Writer) {
    let until = Instant::now() + delay;
    while Instant::now() < until {
        writer.alive();
        sleep(LIVES.min(until - Instant::now())).await;
    }
}

/// There was no answer, and there may be one another time.
fn later(message: String, begun: Begun) -> Attempt {
    Attempt::Later {
        refusal: Refusal {
            status: None,
            message,
            may_pass: true,
        },
        after: None,
        begun,
    }
}

/// What an error in the midst of an answer means: it has no status, but stands for one.
fn said(kind: &str, message: String, begun: Begun) -> Attempt {
    if is_too_long(kind, &message) {
        return Attempt::Refused(ServiceError::TooLong);
    }
    let status = match kind {
        "rate_limit_error" => 429,
        "api_error" => 500,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => {
            return Attempt::Refused(ServiceError::Failed(Refusal {
                status: Some(400),
                message: format!("{kind}: {message}"),
                may_pass: false,
            }));
        }
    };
    Attempt::Later {
        refusal: Refusal {
            status: Some(status),
            message,
            may_pass: true,
        },
        after: None,
        begun,
    }
}

/// What an answer that is no success means.
async fn refusal(response: Response, silence: Duration) -> Attempt {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    // Its status says enough where its words don't come.
    let body = timeout(WORDS.min(silence), answer_body(response)).await;
    let body = body.map_or_else(|_| Vec::new(), Result::unwrap_or_default);
    let (kind, mut message) = complaint(&body);
    if message.is_empty() {
        message = format!("status {status} without a word");
    }
    if status == 413 || status == 400 && is_too_long(&kind, &message) {
        return Attempt::Refused(ServiceError::TooLong);
    }
    let asked = headers
        .get(SHOULD_RETRY)
        .and_then(|value| value.to_str().ok());
    let may_pass = may_pass(status);
    let refusal = Refusal {
        status: Some(status),
        message,
        may_pass,
    };
    if asked.map_or(may_pass, |asked| {
        asked == "true" || asked != "false" && may_pass
    }) {
        Attempt::Later {
            refusal,
            after: retry_after(&headers, jiff::Timestamp::now()),
            begun: Begun::No,
        }
    } else {
        Attempt::Refused(ServiceError::Failed(refusal))
    }
}

/// Whether an error says that the conversation is longer than the model can read.
fn is_too_long(kind: &str, message: &str) -> bool {
    let words = ["too long", "exceed context limit"];
    kind == "invalid_request_error" && words.iter().any(|words| message.contains(words))
}

/// There was no answer, for this reason.
fn unanswered(error: &(dyn std::error::Error + 'static), begun: Begun) -> Attempt {
    let message = causes(error);
    if tls::is_untrusted(error) {
        // Nobody will vouch for it next time either.
        return Attempt::Refused(ServiceError::Failed(Refusal {
            status: None,
            message,
            may_pass: false,
        }));
    }
    later(message, begun)
}
