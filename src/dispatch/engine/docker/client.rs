//! Requests to the Docker Engine API, over its socket or over plain TCP.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;
use tokio::time::timeout;

use crate::http::errors::plain_cause;
use crate::http::{answer_body, tls};

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the engine may take for an answer that it does not delay on purpose.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes: a list of a thousand containers has about a megabyte.
const MAX_ANSWER_SIZE: usize = 64 << 20;

/// The address on which the Docker Engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// The path of a Unix socket.
    Socket(PathBuf),
    /// `http://host:port`
    Tcp(Url),
}

impl Address {
    /// Parses a value of `DOCKER_HOST`. The error completes a sentence that begins with the value.
    pub fn parse(text: &str) -> Result<Self, String> {
        let format_hint = "write it like unix:///var/run/docker.sock or tcp://127.0.0.1:2375";
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') {
                Ok(Self::Socket(path.into()))
            } else {
                Err(format!("has no absolute path; {format_hint}"))
            };
        }
        let rest = match text.split_once("://") {
            Some(("tcp" | "http", rest)) => rest,
            Some(("ssh", _)) => {
                return Err(format!(
                    "is over ssh, which is not supported: forward the socket with ssh -L; {format_hint}"
                ));
            }
            Some(("https", _)) => {
                return Err(format!("needs TLS, which is not supported; {format_hint}"));
            }
            _ => {
                return Err(format!(
                    "is not the address of a Docker Engine; {format_hint}"
                ));
            }
        };
        let url: Result<Url, _> = format!("http://{rest}").parse();
        match url {
            Ok(url) if url.port().is_some() && url.path() == "/" => Ok(Self::Tcp(url)),
            _ => Err(format!("has no host and port; {format_hint}")),
        }
    }

    /// The address in the format of `DOCKER_HOST`.
    pub fn docker_host(&self) -> String {
        match self {
            Self::Socket(path) => format!("unix://{}", path.display()),
            Self::Tcp(url) => format!("tcp://{}", url.authority()),
        }
    }

    /// Whether the engine is on another machine, so that containers cannot see the files of this one.
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

/// Why a request has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// There was no answer, an unreadable answer or a server error. The engine may have performed the request.
    Unknown(String),
    /// The engine answered with an error that concerns the request.
    Status { code: u16, message: String },
}

impl ApiError {
    /// The HTTP status; `None` if the engine may have performed the request.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Unknown(_) => None,
            Self::Status { code, .. } => Some(*code),
        }
    }

    /// The reason, as a part of a sentence.
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
    /// The URL to which the paths of requests are added.
    base: Url,
    address: Address,
    /// [`ANSWER_TIMEOUT`], except in tests.
    answer_timeout: Duration,
}

impl ApiClient {
    pub fn new(address: Address) -> eyre::Result<Self> {
        Self::with_timeout(address, ANSWER_TIMEOUT)
    }

    pub fn with_timeout(address: Address, answer_timeout: Duration) -> eyre::Result<Self> {
        let builder = Client::builder()
            .tls_backend_preconfigured(tls::config_without_tls())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT);
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

    /// Builds a request for a path below the root, such as `containers/json`.
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

    /// Like [`Self::call`], with another time limit, for answers that the engine delays until something happens.
    pub async fn call_within(
        &self,
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<Value, ApiError> {
        let exchange = async {
            let mut response = self.check_status(request.send().await).await?;
            let status = response.status();
            let mut body = Vec::new();
            while let Some(chunk) = response
                .chunk()
                .await
                .map_err(|error| self.connection_error(&error))?
            {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_ANSWER_SIZE {
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
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, ApiError> {
        let limit = self.answer_timeout.max(CONNECT_TIMEOUT);
        self.send_within(request, limit).await
    }

    /// Like [`Self::send`], with another time limit, for answers that the engine delays until something happens.
    pub async fn send_within(
        &self,
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<Response, ApiError> {
        let sent = timeout(limit, request.send()).await;
        let sent = sent.map_err(|_| self.unknown("no answer in time"))?;
        self.check_status(sent).await
    }

    /// Turns a failed exchange and an answer with an error status into an error.
    async fn check_status(
        &self,
        sent: Result<Response, reqwest::Error>,
    ) -> Result<Response, ApiError> {
        let response = sent.map_err(|error| self.connection_error(&error))?;
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

    /// The error if the connection has failed.
    pub fn connection_error(&self, error: &reqwest::Error) -> ApiError {
        self.unknown(&plain_cause(error))
    }

    /// An error after which it is not known whether the engine has performed the request.
    fn unknown(&self, why: &str) -> ApiError {
        ApiError::Unknown(format!(
            "the Docker Engine at {}: {why}",
            self.address.docker_host()
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
        "" => "an error without a message".to_owned(),
        words => words.chars().take(500).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_hosts_are_addresses_and_the_error_for_other_texts_says_why() {
        let socket = Address::parse("unix:///run/docker.sock").unwrap();
        assert_eq!(socket, Address::Socket("/run/docker.sock".into()));
        let tcp = Address::parse("tcp://10.0.0.5:2375").unwrap();
        assert_eq!(tcp.docker_host(), "tcp://10.0.0.5:2375");
        assert!(tcp.is_elsewhere());
        for local in [
            "tcp://127.0.0.1:1",
            "tcp://localhost:1",
            "tcp://[::1]:1",
            "unix:///s",
        ] {
            assert!(!Address::parse(local).unwrap().is_elsewhere(), "{local}");
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

    #[tokio::test]
    async fn an_answer_that_the_engine_delays_has_the_time_that_the_caller_gives_it() {
        // The listener accepts connections and never answers.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let address = Address::parse(&address).unwrap();
        let client = ApiClient::with_timeout(address, Duration::from_millis(1)).unwrap();
        let request = client.request(Method::POST, "containers/1/stop", &[]);
        let limit = CONNECT_TIMEOUT + Duration::from_secs(1);
        let why = client.call_within(request, limit).await.unwrap_err().why();
        assert!(why.ends_with("no answer within 6 s"), "{why}");
    }
}
