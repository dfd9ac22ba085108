//! One request to the orchestrator, and its answer.
//!
//! Never retries, never follows redirects (they would take credentials elsewhere), never uses a
//! proxy, and reads no authorities from disk unless it is told to.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout_at};

use super::{Answer, Event, Settings};

/// The most of an answer's body that is read: cancellations are small.
const ANSWER: usize = 64 * 1024;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Why no request can be made at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the certificate authorities in {} cannot be read", path.display())]
    Authorities {
        path: PathBuf,
        source: rustls::pki_types::pem::Error,
    },
    #[error("the HTTP client cannot be set up")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[derive(Debug)]
pub struct Transport {
    client: Client,
    base: Url,
    request_timeout: std::time::Duration,
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
            .build()
            .map_err(|error| SetupError::Client(error.into()))?;
        Ok(Self {
            client,
            base: settings.url.clone(),
            request_timeout: settings.request_timeout,
        })
    }

    /// Posts an event to a route below the base; takes no longer than one request may, nor beyond
    /// the deadline.
    pub async fn post(&self, route: &str, event: &Event, deadline: Instant) -> Answer {
        let deadline = deadline.min(Instant::now() + self.request_timeout);
        let request = self
            .client
            .post(below(&self.base, route))
            .header(IDEMPOTENCY_KEY, event.id())
            .body(event.body());
        let exchange = async {
            let response = request.send().await?;
            let (status, headers) = (response.status(), response.headers().clone());
            Ok(Answer::new(status, &headers, body(response).await?))
        };
        let later = |why| Answer::Later { why, after: None };
        match timeout_at(deadline, exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => later(causes(&error)),
            Err(_) => later("gave no answer in time".to_owned()),
        }
    }
}

/// The whole body, or as much of it as anybody wants.
async fn body(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
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
            let failed = |source| SetupError::Authorities {
                path: path.clone(),
                source,
            };
            let pem =
                fs::read(path).map_err(|error| failed(rustls::pki_types::pem::Error::Io(error)))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                // A bundle may hold authorities that webpki does not like; the others count.
                let _ = roots.add(certificate.map_err(failed)?);
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| SetupError::Client(error.into()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// An error with its sources on one line, without the URL, which may hold a token in its query.
fn causes(error: &reqwest::Error) -> String {
    let sources = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let causes: Vec<String> = sources.map(ToString::to_string).collect();
    if causes.is_empty() {
        "the request failed".to_owned()
    } else {
        causes.join(": ")
    }
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
