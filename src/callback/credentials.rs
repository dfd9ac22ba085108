//! How requests prove who sends them: signatures, bearer tokens, the platform's identity token.
//!
//! Makes new headers for every attempt, because a signature contains the time and identity tokens expire.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Client;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use crate::http::errors::plain_cause;
use crate::http::{answer_body, tls};
use crate::redact::Redactor;
use crate::webhook::SigningKey;

/// How long an identity token is reused. The platform's tokens are valid for about ten minutes.
const TOKEN_REUSE_TIME: Duration = Duration::from_secs(60);
/// How long the platform's socket may take to answer. It is on this machine, so a later answer is not to be expected.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(5);

/// How requests prove who sends them.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Every request is signed with each of these keys. There are several during a rotation.
    pub signing_keys: Vec<SigningKey>,
    /// `None` if requests have no bearer token.
    pub bearer: Option<Bearer>,
}

/// The source of the bearer token in the header `authorization`.
#[derive(Debug, Clone)]
pub enum Bearer {
    Token(SecretString),
    /// The platform's identity token for this audience, from the platform's local socket.
    Identity {
        audience: String,
        socket: PathBuf,
    },
}

/// Why there is no identity token, so that the request cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot get an identity token from the platform's socket {}: {cause}", socket.display())]
    Socket { socket: PathBuf, cause: String },
    #[error("the platform's socket {} answered {status} instead of an identity token", socket.display())]
    Status { socket: PathBuf, status: u16 },
    #[error("the answer of the platform's socket {} is not an identity token", socket.display())]
    NotAToken { socket: PathBuf },
}

/// Makes the headers for each attempt.
#[derive(Debug)]
pub struct Credentials {
    settings: Settings,
    /// Every identity token is added to it, so that the token is masked everywhere while it is valid.
    redactor: Redactor,
    /// The last identity token and when it was received.
    identity: RefCell<Option<(Instant, HeaderValue)>>,
}

impl Credentials {
    pub fn new(settings: Settings, redactor: Redactor) -> Self {
        Self {
            settings,
            redactor,
            identity: RefCell::new(None),
        }
    }

    /// The headers for one attempt to send `body`, an event with this `id`.
    pub async fn headers(&self, id: &str, body: &[u8]) -> Result<HeaderMap, IdentityError> {
        let mut headers = HeaderMap::new();
        if !self.settings.signing_keys.is_empty() {
            let timestamp = Timestamp::now().as_second();
            let keys = self.settings.signing_keys.iter();
            let signatures: Vec<String> = keys.map(|key| key.sign(id, timestamp, body)).collect();
            headers.insert(HeaderName::from_static("webhook-id"), header_value(id));
            headers.insert(
                HeaderName::from_static("webhook-timestamp"),
                timestamp.into(),
            );
            headers.insert(
                HeaderName::from_static("webhook-signature"),
                header_value(&signatures.join(" ")),
            );
        }
        if let Some(bearer) = &self.settings.bearer {
            headers.insert(AUTHORIZATION, self.authorization(bearer).await?);
        }
        Ok(headers)
    }

    async fn authorization(&self, bearer: &Bearer) -> Result<HeaderValue, IdentityError> {
        let (audience, socket) = match bearer {
            Bearer::Token(token) => return Ok(bearer_value(token.expose_secret())),
            Bearer::Identity { audience, socket } => (audience, socket),
        };
        let last = self.identity.borrow().clone();
        if let Some((_, token)) = last.filter(|(since, _)| since.elapsed() < TOKEN_REUSE_TIME) {
            return Ok(token);
        }
        let token = identity_token(audience, socket, &self.redactor).await?;
        *self.identity.borrow_mut() = Some((Instant::now(), token.clone()));
        Ok(token)
    }
}

/// Asks the platform for an identity token (Fly: `POST /v1/tokens/oidc` on its socket, answered in plain text).
async fn identity_token(
    audience: &str,
    socket: &Path,
    redactor: &Redactor,
) -> Result<HeaderValue, IdentityError> {
    let failed = |error: reqwest::Error| IdentityError::Socket {
        socket: socket.to_owned(),
        cause: plain_cause(&error),
    };
    let client = Client::builder()
        .unix_socket(socket)
        .no_proxy()
        .tls_backend_preconfigured(tls::config_without_tls());
    let client = client.timeout(SOCKET_TIMEOUT).build().map_err(failed)?;
    let body = serde_json::json!({ "aud": audience }).to_string();
    let response = client
        .post("http://localhost/v1/tokens/oidc")
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .send()
        .await
        .map_err(failed)?;
    let status = response.status();
    if !status.is_success() {
        return Err(IdentityError::Status {
            socket: socket.to_owned(),
            status: status.as_u16(),
        });
    }
    let token = answer_body(response).await.map_err(failed)?;
    let token = String::from_utf8(token).unwrap_or_default();
    let token = token.trim();
    if token.is_empty() || !is_visible_ascii(token) {
        return Err(IdentityError::NotAToken {
            socket: socket.to_owned(),
        });
    }
    redactor.add_short_lived(SecretString::from(token));
    Ok(bearer_value(token))
}

/// Whether a text consists of the characters that a bearer token may have: visible ASCII.
pub fn is_visible_ascii(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A header's value from visible ASCII.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("ids and signatures are visible ASCII")
}

/// The value of the header `authorization`.
fn bearer_value(token: &str) -> HeaderValue {
    let mut value = header_value(&format!("Bearer {token}"));
    value.set_sensitive(true);
    value
}
