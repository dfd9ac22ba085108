//! Requests to the Docker Engine API, over its socket or over plain TCP.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;
use tokio::time::timeout;

use crate::http::errors::plain_cause;
use crate::http::{answer_body, tls};

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the engine may take for an ordinary answer.
const ANSWER: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes: a list of a thousand containers has about a megabyte.
const MAX_ANSWER: usize = 64 << 20;

/// The address on which the engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Socket(PathBuf),
    /// `http://host:port`
    Tcp(Url),
}

impl Address {
    /// Reads a value of `DOCKER_HOST`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = "write it like unix:///var/run/docker.sock or tcp://127.0.0.1:2375";
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') {
                Ok(Self::Socket(path.into()))
            } else {
                Err(format!("has no absolute path; {wrong}"))
            };
        }
        let rest = match text.split_once("://") {
            Some(("tcp" | "http", rest)) => rest,
            Some(("ssh", _)) => {
                return Err(format!(
                    "is over ssh, which is not supported: forward the socket with ssh -L; {wrong}"
                ));
            }
            Some(("https", _)) => {
                return Err(format!("needs TLS, which is not supported; {wrong}"));
            }
            _ => return Err(format!("is not the address of a Docker Engine; {wrong}")),
        };
        let url: Result<Url, _> = format!("http://{rest}").parse();
        match url {
            Ok(url) if url.port().is_some() && url.path() == "/" => Ok(Self::Tcp(url)),
            _ => Err(format!("has no host and port; {wrong}")),
        }
    }

    /// The address in the format of `DOCKER_HOST`.
    pub fn name(&self) -> String {
        match self {
            Self::Socket(path) => format!("unix://{}", path.display()),
            Self::Tcp(url) => format!("tcp://{}", url.authority()),
        }
    }

    /// Whether the engine is on another machine, so that it cannot see the files of this one.
    pub fn is_elsewhere(&self) -> bool {
        match self {
            Self::Socket(_) => false,
            Self::Tcp(url) => {
                let host = url.host_str().unwrap_or_default();
                !(host == "localhost" || host == "[::1]" || host.starts_with("127."))
            }
        }
    }
}

/// Why a request has not succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// There was no answer, an unreadable answer or a server error. The request may have had its effect.
    Unknown(String),
    /// The engine answered with an error that concerns the request.
    Status { code: u16, message: String },
}

impl ApiError {
    /// The HTTP status, if it is known that the request had no effect.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Unknown(_) => None,
            Self::Status { code, .. } => Some(*code),
        }
    }

    pub fn why(self) -> String {
        match self {
            Self::Unknown(why) => why,
            Self::Status { code, message } => format!("{message} ({code})"),
        }
    }
}

/// A client of the API of one Docker Engine.
#[derive(Debug)]
pub struct ApiClient {
    client: Client,
    base: Url,
    address: Address,
    /// How long the engine may take for an ordinary answer.
    answer_timeout: Duration,
}

impl ApiClient {
    pub fn new(address: Address) -> eyre::Result<Self> {
        Self::with_timeout(address, ANSWER)
    }

    pub fn with_timeout(address: Address, answer_timeout: Duration) -> eyre::Result<Self> {
        let builder = Client::builder()
            .tls_backend_preconfigured(tls::config_without_tls())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT);
        let (builder, base) = match &address {
            Address::Socket(path) => (builder.unix_socket(path.clone()), "http://docker".parse()?),
            Address::Tcp(url) => (builder, url.clone()),
        };
        Ok(Self {
            client: builder.build()?,
            base,
            address,
            answer_timeout,
        })
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// A request to a path below the root, such as `containers/json`.
    pub fn request(&self, method: Method, path: &str, query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.client.request(method, url)
    }

    /// Sends a request; returns the JSON of the answer, or null if the answer has no body.
    pub async fn call(&self, request: RequestBuilder) -> Result<Value, ApiError> {
        self.call_within(request, self.answer_timeout).await
    }

    /// Like [`Self::call`], with a time limit for requests that usually take long.
    pub async fn call_within(
        &self,
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<Value, ApiError> {
        let exchange = async {
            let mut response = self.open(request).await?;
            let status = response.status();
            let mut body = Vec::new();
            while let Some(chunk) = response
                .chunk()
                .await
                .map_err(|error| self.broken(&error))?
            {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_ANSWER {
                    return Err(self.unknown("the answer is too long"));
                }
            }
            if body.is_empty() || status == StatusCode::NO_CONTENT {
                return Ok(Value::Null);
            }
            serde_json::from_slice(&body).map_err(|_| self.unknown("the answer is not JSON"))
        };
        let late = |_| self.unknown(&format!("no answer within {} s", limit.as_secs_f64()));
        timeout(limit, exchange).await.map_err(late)?
    }

    /// Sends a request; returns the answer as soon as its headers have arrived.
    pub async fn open(&self, request: RequestBuilder) -> Result<Response, ApiError> {
        let sent = timeout(self.answer_timeout.max(CONNECT), request.send());
        self.judge(sent.await).await
    }

    /// Like [`Self::open`], with a time limit for an answer that the engine delays until something happens.
    pub async fn open_within(
        &self,
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<Response, ApiError> {
        self.judge(timeout(limit, request.send()).await).await
    }

    /// Turns an answer with an error status into an error.
    async fn judge(
        &self,
        sent: Result<Result<Response, reqwest::Error>, tokio::time::error::Elapsed>,
    ) -> Result<Response, ApiError> {
        let sent = sent.map_err(|_| self.unknown("no answer in time"))?;
        let response = sent.map_err(|error| self.broken(&error))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let body = answer_body(response).await.unwrap_or_default();
        let message = message_of(&body);
        if status.is_client_error() {
            let code = status.as_u16();
            return Err(ApiError::Status { code, message });
        }
        Err(self.unknown(&format!("{message} ({})", status.as_u16())))
    }

    /// The error if the connection broke.
    pub fn broken(&self, error: &reqwest::Error) -> ApiError {
        self.unknown(&plain_cause(error))
    }

    fn unknown(&self, why: &str) -> ApiError {
        ApiError::Unknown(format!(
            "the Docker Engine at {}: {why}",
            self.address.name()
        ))
    }
}

/// The message in the body of an error: the field `message` of its JSON, or else the whole body.
fn message_of(body: &[u8]) -> String {
    let json = serde_json::from_slice::<Value>(body).ok();
    let message = json.as_ref().and_then(|json| json.get("message")?.as_str());
    let text = String::from_utf8_lossy(body);
    let words = message.unwrap_or(text.trim());
    match words {
        "" => "an error without words".to_owned(),
        words => words.chars().take(500).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_sockets_and_hosts_are_read_and_others_are_explained() {
        let socket = Address::parse("unix:///run/docker.sock").unwrap();
        assert_eq!(socket, Address::Socket("/run/docker.sock".into()));
        let tcp = Address::parse("tcp://10.0.0.5:2375").unwrap();
        assert_eq!(tcp.name(), "tcp://10.0.0.5:2375");
        assert!(tcp.is_elsewhere());
        for near in [
            "tcp://127.0.0.1:1",
            "tcp://localhost:1",
            "tcp://[::1]:1",
            "unix:///s",
        ] {
            assert!(!Address::parse(near).unwrap().is_elsewhere(), "{near}");
        }
        for (wrong, words) in [
            ("unix://docker.sock", "no absolute path"),
            ("ssh://me@host", "over ssh"),
            ("https://host:2376", "TLS"),
            ("tcp://host", "no host and port"),
            ("/var/run/docker.sock", "is not the address"),
        ] {
            let why = Address::parse(wrong).unwrap_err();
            assert!(why.contains(words), "{wrong}: {why}");
        }
    }
}
