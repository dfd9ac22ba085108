//! Sends one event, with right or with wrong credentials. Never retries.

use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Url};

use crate::callback::credentials::{self, Credentials};
use crate::callback::{Event, Settings, SetupError};
use crate::http::errors::request_error;
use crate::http::{answer_body, json_client, route_url};
use crate::redact::Redactor;
use crate::webhook::SigningKey;

/// Which credentials a request gets: the right ones, wrong ones, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestCredentials {
    /// All credentials of the settings.
    Right,
    /// A signature with another key first, then the right one.
    RightAmongOthers,
    /// No signature, and none of its headers.
    Unsigned,
    /// Signed with another key.
    OtherKey,
    /// A right signature with this age. A negative number is a time in the future.
    SignedAt { seconds_ago: i64 },
    /// The signature of another body.
    OtherBody,
    /// Another bearer token.
    OtherToken,
    /// No bearer token.
    NoToken,
}

/// The orchestrator's answer to one request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Sends the events of all sample runs to one orchestrator.
pub struct Sender {
    client: Client,
    base: Url,
    keys: Vec<SigningKey>,
    other_key: SigningKey,
    /// The credentials without signing keys: this module makes the signatures itself.
    bearer: Credentials,
    pub has_bearer: bool,
}

impl Sender {
    /// Opens no connection yet: the first request does.
    ///
    /// # Errors
    /// If the file with certificate authorities cannot be read.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        let authorities = settings.authorities.as_deref();
        let client = json_client(&settings.url, authorities, HeaderMap::new())?
            .timeout(settings.request_timeout)
            .build()
            .map_err(|error| SetupError::Client(error.into()))?;
        let mut other = [0; 32];
        // Any other key is good enough, even if there are no random numbers.
        let _ = getrandom::fill(&mut other);
        Ok(Self {
            client,
            base: settings.url.clone(),
            keys: settings.credentials.signing_keys.clone(),
            other_key: SigningKey::new(&other),
            // Nothing needs to be masked: the report of a probe contains no token.
            bearer: Credentials::new(
                credentials::Settings {
                    signing_keys: Vec::new(),
                    bearer: settings.credentials.bearer.clone(),
                },
                Redactor::new(&[]),
            ),
            has_bearer: settings.credentials.bearer.is_some(),
        })
    }

    /// Whether the settings have a signing key.
    pub fn has_signing_key(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Sends an event as a worker does. Fails if there is no answer.
    pub async fn send(&self, event: &Event) -> Result<Answer, String> {
        self.send_with(event, RequestCredentials::Right).await
    }

    /// Sends an event with these credentials. Fails if there is no answer.
    pub async fn send_with(
        &self,
        event: &Event,
        credentials: RequestCredentials,
    ) -> Result<Answer, String> {
        self.post(event, event.body(), credentials).await
    }

    /// Sends `body` instead of the event's own body, with the event's id. Fails if there is no answer.
    pub async fn post(
        &self,
        event: &Event,
        body: Vec<u8>,
        credentials: RequestCredentials,
    ) -> Result<Answer, String> {
        let url = route_url(&self.base, event.kind().route());
        let mut request = self
            .client
            .post(url.clone())
            .header("idempotency-key", event.id())
            .headers(self.signature_headers(event.id(), &body, credentials));
        match credentials {
            RequestCredentials::NoToken => {}
            RequestCredentials::OtherToken => {
                request = request.bearer_auth("another-token-that-is-not-the-right-one");
            }
            _ => {
                let headers = self.bearer.headers(event.id(), &body).await;
                request = request.headers(headers.map_err(|error| error.to_string())?);
            }
        }
        let response = request.body(body).send().await;
        let response = response.map_err(|error| request_error(&url, &error))?;
        let status = response.status().as_u16();
        let body = answer_body(response).await;
        let body = body.map_err(|error| request_error(&url, &error))?;
        Ok(Answer { status, body })
    }

    /// The headers `webhook-…`; empty if the request is unsigned.
    fn signature_headers(
        &self,
        id: &str,
        body: &[u8],
        credentials: RequestCredentials,
    ) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !self.has_signing_key() || credentials == RequestCredentials::Unsigned {
            return headers;
        }
        let now = Timestamp::now().as_second();
        let timestamp = match credentials {
            RequestCredentials::SignedAt { seconds_ago } => now - seconds_ago,
            _ => now,
        };
        let body = match credentials {
            RequestCredentials::OtherBody => b"{}".as_slice(),
            _ => body,
        };
        let others = [&self.other_key];
        let keys: Vec<&SigningKey> = match credentials {
            RequestCredentials::OtherKey => others.to_vec(),
            RequestCredentials::RightAmongOthers => others.into_iter().chain(&self.keys).collect(),
            _ => self.keys.iter().collect(),
        };
        let signatures: Vec<String> = keys
            .into_iter()
            .map(|key| key.sign(id, timestamp, body))
            .collect();
        let mut insert = |name: &'static str, value: &str| {
            // Ids and signatures are visible ASCII.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        insert("webhook-id", id);
        insert("webhook-timestamp", &timestamp.to_string());
        insert("webhook-signature", &signatures.join(" "));
        headers
    }
}
