//! One HTTP request to the orchestrator, and its answer.
//!
//! Never retries, never follows redirects (they would send credentials to another server), never
//! uses a proxy, and reads certificate authorities from disk only if a setting names a file.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Client, Url};
use tokio::time::{Instant, timeout_at};

use super::answer::Answer;
use super::credentials::{Credentials, IdentityError};
use super::settings::Settings;
use super::traceparent;
use crate::http::errors::{no_answer_within, request_error};
use crate::http::tls::TlsError;
use crate::http::{answer_body, json_client, route_url};
use crate::redact::Redactor;

/// How long an idle connection is reused: longer than the usual heartbeat interval, shorter than
/// the time after which load balancers and NAT usually forget a connection.
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(20);
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Why the HTTP client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Authorities(#[from] TlsError),
    #[error("the HTTP client cannot be set up")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sends requests to one orchestrator.
#[derive(Debug)]
pub struct Transport {
    client: Client,
    credentials: Credentials,
    base: Url,
    request_timeout: Duration,
}

impl Transport {
    pub fn new(settings: &Settings, redactor: &Redactor) -> Result<Self, SetupError> {
        let mut headers = HeaderMap::new();
        if let Some(traceparent) = &settings.traceparent {
            headers.insert(traceparent::HEADER, traceparent.clone());
        }
        let client = json_client(&settings.url, settings.authorities.as_deref(), headers)?
            .pool_idle_timeout(IDLE_CONNECTION_TIMEOUT)
            .build()
            .map_err(|error| SetupError::Client(error.into()))?;
        Ok(Self {
            client,
            credentials: Credentials::new(settings.credentials.clone(), redactor.clone()),
            base: settings.url.clone(),
            request_timeout: settings.request_timeout,
        })
    }

    /// Posts a body to a route below the base URL. Waits for the answer until the deadline, or until the request
    /// timeout is over if that is earlier.
    pub async fn post(&self, route: &str, id: &str, body: Vec<u8>, deadline: Instant) -> Answer {
        let url = route_url(&self.base, route);
        let began = Instant::now();
        let deadline = deadline.min(began + self.request_timeout);
        let why = match timeout_at(deadline, self.send(&url, id, body)).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(NoAnswer::Identity(error))) => error.to_string(),
            Ok(Err(NoAnswer::Http(error))) => request_error(&url, &error),
            Err(_) => no_answer_within(&url, deadline - began),
        };
        Answer::TemporaryError {
            why,
            retry_after: None,
        }
    }

    /// Sends the request, and reads the whole answer.
    async fn send(&self, url: &Url, id: &str, body: Vec<u8>) -> Result<Answer, NoAnswer> {
        let credentials = self.credentials.headers(id, &body).await?;
        let request = self.client.post(url.clone()).headers(credentials);
        let request = request.header(IDEMPOTENCY_KEY, id).body(body);
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = answer_body(response).await;
        // An answer other than 2xx counts even if its body is incomplete. A 2xx with an incomplete body does not count:
        // it may come from a proxy that lost its connection to the orchestrator.
        let body = if status.is_success() {
            body?
        } else {
            body.unwrap_or_default()
        };
        Ok(Answer::new(status, &headers, body))
    }
}

/// Why the orchestrator gave no answer.
#[derive(Debug)]
enum NoAnswer {
    Identity(IdentityError),
    Http(reqwest::Error),
}

impl From<IdentityError> for NoAnswer {
    fn from(error: IdentityError) -> Self {
        Self::Identity(error)
    }
}

impl From<reqwest::Error> for NoAnswer {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error)
    }
}
