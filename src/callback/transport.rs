//! One request to the orchestrator, and its answer.
//!
//! Never retries, never follows redirects (they would take credentials elsewhere), never uses a
//! proxy, and reads no authorities from disk unless it is told to.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::time::{Instant, timeout_at};

use super::credentials::{Credentials, IdentityError};
use super::{Answer, Event, Settings};
use crate::http::tls::{self, TlsError};
use crate::http::{answer_body, below, causes};

/// How long a connection may be idle and still be trusted with an event: longer than the usual
/// heartbeat interval, shorter than anything between here and there forgets a connection.
const IDLE_CONNECTION: Duration = Duration::from_secs(20);
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Why no request can be made at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Authorities(#[from] TlsError),
    #[error("the HTTP client cannot be set up")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[derive(Debug)]
pub struct Transport {
    client: Client,
    credentials: Credentials,
    base: Url,
    request_timeout: Duration,
}

impl Transport {
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        let client = Client::builder()
            .tls_backend_preconfigured(tls::config(&settings.url, settings.authorities.as_deref())?)
            .default_headers(headers)
            .redirect(Policy::none())
            .no_proxy()
            .pool_idle_timeout(IDLE_CONNECTION)
            .build()
            .map_err(|error| SetupError::Client(error.into()))?;
        Ok(Self {
            client,
            credentials: Credentials::new(settings.credentials.clone()),
            base: settings.url.clone(),
            request_timeout: settings.request_timeout,
        })
    }

    /// Posts an event to a route below the base; takes no longer than one request may, nor beyond
    /// the deadline.
    pub async fn post(&self, route: &str, event: &Event, deadline: Instant) -> Answer {
        let deadline = deadline.min(Instant::now() + self.request_timeout);
        match timeout_at(deadline, self.exchange(route, event)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::Later {
                why: causes(&error),
                after: None,
            },
            Err(_) => Answer::Later {
                why: "there was no answer in time".to_owned(),
                after: None,
            },
        }
    }

    async fn exchange(&self, route: &str, event: &Event) -> Result<Answer, ExchangeError> {
        let body = event.body();
        let credentials = self.credentials.headers(event.id(), &body).await?;
        let request = self
            .client
            .post(below(&self.base, route))
            .headers(credentials);
        let response = request
            .header(IDEMPOTENCY_KEY, event.id())
            .body(body)
            .send()
            .await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = answer_body(response).await;
        // A refusal is one whatever becomes of its words; a grant whose words break off may come
        // from a proxy that lost its orchestrator.
        let body = if status.is_success() {
            body?
        } else {
            body.unwrap_or_default()
        };
        Ok(Answer::new(status, &headers, body))
    }
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    // Without its URL, which may hold a token in its query.
    #[error("the request failed")]
    Http(#[source] reqwest::Error),
}

impl From<reqwest::Error> for ExchangeError {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error.without_url())
    }
}
