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

use super::conversation::Conversation;
use super::messages::{Answer, Incoming, StreamError, complaint};
use super::telling::Telling;
use crate::http::retries::{Retries, retry_after};
use crate::http::{answer_body, below, causes, tls};

/// The version of the API that this speaks.
const VERSION: &str = "2023-06-01";
/// The most of one answer, in tokens: all current models can, and a large file fits.
const MAX_TOKENS: u32 = 32_000;
/// The most of one answer, in bytes of the stream: some hundred times what the tokens make.
const STREAM: usize = 64 * 1024 * 1024;
/// How long the service may be silent while an answer is on its way: it pings every few seconds.
const SILENCE: Duration = Duration::from_secs(2 * 60);
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
pub struct Access {
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

/// Where the service usually is.
pub fn service() -> Url {
    Url::parse("https://api.anthropic.com").expect("a valid URL")
}

#[derive(Debug)]
pub struct Service {
    client: Client,
    url: Url,
    model: String,
    patience: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum ServiceError {
    /// The conversation is longer than the model can read.
    TooLong,
    /// It will not answer this; or it did not, for as long as anybody wanted to wait. Without a
    /// status it could not be reached.
    Failed {
        status: Option<u16>,
        message: String,
    },
}

/// What one attempt came to.
enum Attempt {
    Answered(Answer),
    /// Not another time either.
    Refused(ServiceError),
    Later {
        status: Option<u16>,
        message: String,
        after: Option<Duration>,
    },
}

impl Service {
    pub fn new(access: &Access, model: &str) -> eyre::Result<Self> {
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
        if let Some(key) = &access.key {
            headers.insert("x-api-key", secret(key.expose_secret())?);
        }
        if let Some(token) = &access.token {
            let bearer = format!("Bearer {}", token.expose_secret());
            headers.insert("authorization", secret(&bearer)?);
        }
        let patience = access.patience.unwrap_or(FOR_EVER);
        let client = Client::builder()
            .tls_backend_preconfigured(tls::config(&access.url, access.authorities.as_deref())?)
            .default_headers(headers)
            // They would take the key elsewhere.
            .redirect(Policy::none())
            .connect_timeout(CONNECT.min(patience / 3))
            .read_timeout(SILENCE.min(patience / 3))
            .build()
            .wrap_err("the HTTP client cannot be set up")?;
        Ok(Self {
            client,
            url: below(&access.url, "v1/messages"),
            model: model.to_owned(),
            patience,
        })
    }

    /// Asks until there is an answer, or it is clear that there will be none. An error of the outer
    /// kind means that nobody listens any more.
    pub async fn ask(
        &self,
        conversation: &Conversation,
        telling: &mut Telling,
    ) -> io::Result<Result<Answer, ServiceError>> {
        let body = self.body(conversation).to_string();
        let mut retries = Retries::within(self.patience);
        let mut attempt = 1;
        loop {
            let (status, message, after) = match self.attempt(body.clone(), telling).await {
                Attempt::Answered(answer) => return Ok(Ok(answer)),
                Attempt::Refused(error) => return Ok(Err(error)),
                Attempt::Later {
                    status,
                    message,
                    after,
                } => (status, message, after),
            };
            // Where it asks for more time than there is, somebody else had better wait.
            if let Some(after) = after.filter(|after| *after >= self.patience) {
                let message = format!("{message} (it asks to wait {} s)", after.as_secs());
                return Ok(Err(ServiceError::Failed { status, message }));
            }
            let Ok(delay) = retries.delay(after) else {
                return Ok(Err(ServiceError::Failed { status, message }));
            };
            telling.retry(attempt, delay, status, &message)?;
            tokio::time::sleep(delay).await;
            attempt += 1;
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

    async fn attempt(&self, body: String, telling: &mut Telling) -> Attempt {
        let request = self.client.post(self.url.clone());
        let request = request
            .header("content-type", "application/json")
            .body(body);
        match request.send().await {
            Ok(response) if response.status().is_success() => receive(response, telling).await,
            Ok(response) => refusal(response).await,
            Err(error) => unreachable(&error.without_url()),
        }
    }
}

/// Reads an answer as it comes.
async fn receive(response: Response, telling: &mut Telling) -> Attempt {
    let body = reqwest::Body::from(response);
    let body = Limited::new(body, STREAM).map_err(io::Error::other);
    let mut events = SseStream::new(body);
    let mut incoming = Incoming::default();
    while let Some(event) = events.next().await {
        telling.alive();
        let data = match event {
            Ok(event) => event.data,
            Err(error) => return unreachable(&error),
        };
        match data.map_or(Ok(false), |data: String| incoming.push(&data)) {
            Ok(false) => {}
            Ok(true) => break,
            Err(StreamError::Said { kind, message }) => return said(&kind, message),
            Err(StreamError::Malformed(what)) => {
                return Attempt::Later {
                    status: None,
                    message: format!("its answer cannot be read: {what}"),
                    after: None,
                };
            }
        }
    }
    match incoming.answer() {
        Some(answer) => Attempt::Answered(answer),
        None => Attempt::Later {
            status: None,
            message: "its answer broke off".to_owned(),
            after: None,
        },
    }
}

/// What an error in the midst of an answer means: it has no status, but stands for one.
fn said(kind: &str, message: String) -> Attempt {
    let status = match kind {
        "rate_limit_error" => 429,
        "api_error" => 500,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => {
            return Attempt::Refused(ServiceError::Failed {
                status: Some(400),
                message: format!("{kind}: {message}"),
            });
        }
    };
    Attempt::Later {
        status: Some(status),
        message,
        after: None,
    }
}

/// What an answer that is no success means.
async fn refusal(response: Response) -> Attempt {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let body = answer_body(response).await.unwrap_or_default();
    let (kind, mut message) = complaint(&body);
    if message.is_empty() {
        message = format!("status {status} without a word");
    }
    let too_long = status == 413
        || status == 400 && kind == "invalid_request_error" && message.contains("too long");
    if too_long {
        return Attempt::Refused(ServiceError::TooLong);
    }
    let asked = headers
        .get(SHOULD_RETRY)
        .and_then(|value| value.to_str().ok());
    let again = match asked {
        Some("true") => true,
        Some("false") => false,
        _ => matches!(status, 408 | 409 | 425 | 429 | 500..=599),
    };
    if again {
        let after = retry_after(&headers, jiff::Timestamp::now());
        Attempt::Later {
            status: Some(status),
            message,
            after,
        }
    } else {
        let status = Some(status);
        Attempt::Refused(ServiceError::Failed { status, message })
    }
}

fn unreachable(error: &(dyn std::error::Error + 'static)) -> Attempt {
    Attempt::Later {
        status: None,
        message: causes(error),
        after: None,
    }
}
