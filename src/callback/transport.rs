//! One request to the orchestrator, and its answer.
//!
//! Never retries, never follows redirects (they would take credentials elsewhere), never uses a
//! proxy, and reads no authorities from disk unless it is told to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout_at};

use super::credentials::{Credentials, IdentityError};
use super::{Answer, Event, Settings};

/// The most of an answer's body that is read: cancellations are small.
const ANSWER: usize = 64 * 1024;
/// How long a connection may be idle and still be trusted with an event: longer than the usual
/// heartbeat interval, shorter than anything between here and there forgets a connection.
const IDLE_CONNECTION: Duration = Duration::from_secs(20);
/// What rustls says in one word, and what to do about it.
const UNTRUSTED: &str =
    "it is signed by an authority that is not trusted; SSL_CERT_FILE can name further ones";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Why no request can be made at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the certificate authorities in {} cannot be read", path.display())]
    Authorities { path: PathBuf, source: pem::Error },
    #[error("there is no certificate authority in {}", path.display())]
    NoAuthority { path: PathBuf },
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
            .tls_backend_preconfigured(tls(settings)?)
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
                why: error.causes(),
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

impl ExchangeError {
    /// The error with its sources on one line.
    fn causes(&self) -> String {
        let error: &dyn std::error::Error = self;
        let chain = std::iter::successors(Some(error), |error| error.source());
        let mut causes: Vec<String> = chain.map(ToString::to_string).collect();
        // Some errors say what their source says.
        causes.dedup_by(|next, previous| previous.contains(next.as_str()));
        causes.extend(self.untrusted().then(|| UNTRUSTED.to_owned()));
        causes.join(": ")
    }

    /// Whether the other side's certificate comes from an authority that nobody named.
    fn untrusted(&self) -> bool {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        matches!(self, Self::Http(error) if tls_error(error) == Some(&unknown))
    }
}

/// What TLS said, somewhere below an error.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    // An I/O error's source is not what it holds, but that one's source.
    let below = match error.downcast_ref::<io::Error>() {
        Some(io) => io
            .get_ref()
            .map(|held| held as &(dyn std::error::Error + 'static)),
        None => error.source(),
    };
    error.downcast_ref().or_else(|| tls_error(below?))
}

/// The whole body, or as much of it as anybody wants.
pub(super) async fn answer_body(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = ANSWER - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == ANSWER {
            break;
        }
    }
    Ok(body)
}

/// The URL of a route: appended to the path, and the query stays.
fn below(base: &Url, route: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{route}", base.path().trim_end_matches('/')));
    url
}

/// TLS with the public authorities that are built in and the private ones of the settings; with
/// none at all where the URL needs none.
fn tls(settings: &Settings) -> Result<ClientConfig, SetupError> {
    let mut roots = RootCertStore::empty();
    if settings.url.scheme() == "https" {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(path) = &settings.authorities {
            trust(&mut roots, path)?;
        }
    }
    Ok(tls_trusting(roots))
}

/// For connections that need no TLS; a client wants to know all the same.
pub(super) fn no_tls() -> ClientConfig {
    tls_trusting(RootCertStore::empty())
}

fn tls_trusting(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    config
        .expect("ring has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Adds the authorities of a PEM file.
fn trust(roots: &mut RootCertStore, path: &Path) -> Result<(), SetupError> {
    let failed = |source| SetupError::Authorities {
        path: path.to_owned(),
        source,
    };
    let pem = fs::read(path).map_err(|error| failed(pem::Error::Io(error)))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    // A bundle may hold some that webpki does not like; the others count.
    let (added, _) = roots.add_parsable_certificates(certificates.map_err(failed)?);
    if added == 0 {
        return Err(SetupError::NoAuthority {
            path: path.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_appended_once_and_the_query_is_kept() {
        let route = |base: &str| below(&base.parse().unwrap(), "started").to_string();
        assert_eq!(
            route("http://o.example/api"),
            "http://o.example/api/started"
        );
        assert_eq!(
            route("http://o.example/api/"),
            "http://o.example/api/started"
        );
        assert_eq!(route("http://o.example"), "http://o.example/started");
        assert_eq!(
            route("http://[::1]:80/a?key=v"),
            "http://[::1]/a/started?key=v"
        );
    }
}
