//! Requests to the Machines API about one app.

use std::time::Duration;

use eyre::eyre;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::limiter::Limiter;
use crate::http::errors::plain_cause;
use crate::http::json_client;
use crate::http::retries::retry_after;

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the API may take for an answer that it does not delay on purpose. It creates a machine in seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest answer that is read, in bytes: a machine in a list has a few kilobytes.
const MAX_ANSWER_SIZE: usize = 64 << 20;
/// How often a rate-limited request is retried.
const MAX_RETRIES: u32 = 4;
/// The pause after a rate-limited request, if the API does not say how long it should be.
const DEFAULT_RETRY_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause after a rate-limited request. The API may ask for a longer one.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(60);

/// The kinds of requests, each of which has a separate rate limit. `Other` is not limited here: the API limits these
/// requests for each machine, and a machine gets few of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// Creates a machine.
    Create,
    /// Lists machines.
    List,
    /// Reads the description of the app or of one machine.
    Get,
    /// Lists or changes the secrets of the app.
    Secrets,
    /// Stops or destroys one machine, or waits for its end.
    Other,
}

/// Why a request has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status of the answer; `None` if there was no answer, or an unreadable one.
    pub code: Option<u16>,
    /// The field `status` of the API's answer, such as `insufficient_capacity`; often empty.
    pub status_word: String,
    /// The reason, as a part of a sentence.
    pub why: String,
}

impl ApiError {
    /// Whether the API may have performed the request.
    pub fn is_ambiguous(&self) -> bool {
        self.code.is_none_or(|code| code == 408 || code >= 500)
    }

    pub fn is_not_found(&self) -> bool {
        self.code == Some(404)
    }
}

/// A client of the Machines API for one app.
#[derive(Debug)]
pub struct ApiClient {
    client: Client,
    /// The URL of the app, to which the paths of requests are added: `…/v1/apps/<app>`.
    base: Url,
    /// [`MAX_RETRIES`], except in tests.
    pub max_retries: u32,
    creates: Limiter,
    lists: Limiter,
    gets: Limiter,
    secrets: Limiter,
}

impl ApiClient {
    /// `rate` is how many requests of each kind the API allows per second, with a burst of three times as many.
    /// Requests of the kind `Get` have five times this rate, with a burst of twice as many.
    pub fn new(api: &Url, app: &str, token: &str, rate: u32) -> eyre::Result<Self> {
        let mut headers = HeaderMap::new();
        let mut authorization = HeaderValue::from_str(&authorization(token))
            .map_err(|_| eyre!("FLY_API_TOKEN contains characters that no token has"))?;
        authorization.set_sensitive(true);
        headers.insert(AUTHORIZATION, authorization);
        let client = json_client(api, None, headers)?.connect_timeout(CONNECT_TIMEOUT);
        let mut base = api.clone();
        let root = base.path().trim_end_matches('/');
        let root = root.trim_end_matches("/v1");
        base.set_path(&format!("{root}/v1/apps/{app}"));
        Ok(Self {
            client: client.build()?,
            base,
            max_retries: MAX_RETRIES,
            creates: Limiter::new(rate, 3 * rate),
            lists: Limiter::new(rate, 3 * rate),
            gets: Limiter::new(5 * rate, 10 * rate),
            secrets: Limiter::new(rate, 3 * rate),
        })
    }

    /// Sends a request for a path below the app as soon as the rate limit allows it. Returns the JSON of the answer, or
    /// null if the answer has no body. A request that the API rejects because of its rate limit is retried.
    pub async fn call(
        &self,
        kind: RequestKind,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, ApiError> {
        self.call_within(ANSWER_TIMEOUT, kind, method, path, query, body)
            .await
    }

    /// Like [`Self::call`], with another time limit, for answers that the API delays until something happens.
    pub async fn call_within(
        &self,
        limit: Duration,
        kind: RequestKind,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let mut url = self.base.clone();
        if !path.is_empty() {
            url.set_path(&format!("{}/{path}", self.base.path()));
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut retries = 0;
        loop {
            if let Some(limiter) = self.limiter(kind) {
                limiter.wait().await;
            }
            let mut request = self.client.request(method.clone(), url.clone());
            if let Some(body) = body {
                request = request.body(body.to_string());
            }
            let exchange = async {
                let response = request.send().await;
                let response = response.map_err(|error| self.unknown(&plain_cause(&error)))?;
                self.read(response).await
            };
            let late = |_| self.unknown(&format!("no answer within {} s", limit.as_secs_f64()));
            match timeout(limit, exchange).await.map_err(late)?? {
                Answer::Done(value) => return Ok(value),
                Answer::RateLimited { error, .. } if retries == self.max_retries => {
                    return Err(error);
                }
                Answer::RateLimited { pause, .. } => {
                    retries += 1;
                    match self.limiter(kind) {
                        Some(limiter) => limiter.pause(pause),
                        None => sleep(pause).await,
                    }
                }
            }
        }
    }

    /// `None` if requests of this kind are not limited.
    fn limiter(&self, kind: RequestKind) -> Option<&Limiter> {
        match kind {
            RequestKind::Create => Some(&self.creates),
            RequestKind::List => Some(&self.lists),
            RequestKind::Get => Some(&self.gets),
            RequestKind::Secrets => Some(&self.secrets),
            RequestKind::Other => None,
        }
    }

    /// Reads an answer.
    async fn read(&self, mut response: Response) -> Result<Answer, ApiError> {
        let status = response.status();
        let pause = retry_after(response.headers(), Timestamp::now());
        let mut body = Vec::new();
        loop {
            let chunk = response.chunk().await;
            match chunk.map_err(|error| self.unknown(&plain_cause(&error)))? {
                Some(bytes) => body.extend_from_slice(&bytes),
                None => break,
            }
            if body.len() > MAX_ANSWER_SIZE {
                return Err(self.unknown("the answer is too long"));
            }
        }
        if status.is_success() {
            if body.trim_ascii().is_empty() {
                return Ok(Answer::Done(Value::Null));
            }
            let parsed = serde_json::from_slice(&body);
            let value = parsed.map_err(|_| {
                let words = excerpt(&body);
                self.unknown(&format!(
                    "the answer is not JSON: {words}; is FLY_FLAPS_BASE_URL the address of the Machines API?"
                ))
            })?;
            return Ok(Answer::Done(value));
        }
        let error = self.status_error(status, &body);
        if status == StatusCode::TOO_MANY_REQUESTS {
            let pause = pause
                .unwrap_or(DEFAULT_RETRY_PAUSE)
                .clamp(DEFAULT_RETRY_PAUSE / 2, MAX_RETRY_PAUSE);
            return Ok(Answer::RateLimited { pause, error });
        }
        Err(error)
    }

    /// The error for an answer with an error status.
    fn status_error(&self, status: StatusCode, body: &[u8]) -> ApiError {
        let json = serde_json::from_slice::<Value>(body).unwrap_or_default();
        let text = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
        let message = text("message").or_else(|| text("error"));
        let message = message.unwrap_or_else(|| excerpt(body));
        let code = status.as_u16();
        let mut error = self.unknown(&format!("{message} ({code})"));
        if matches!(code, 401 | 403) {
            error.why.push_str(
                "; is FLY_API_TOKEN a token for this app? `fly tokens create deploy --app APP` makes one",
            );
        }
        error.code = Some(code);
        error.status_word = text("status").unwrap_or_default();
        error
    }

    /// The error if there was no answer, or an unreadable one.
    fn unknown(&self, why: &str) -> ApiError {
        // The URL may contain a user and a password, so the message names only its host and port.
        let host = self.base.host_str().unwrap_or_default();
        let port = self.base.port().map(|port| format!(":{port}"));
        let port = port.unwrap_or_default();
        ApiError {
            code: None,
            status_word: String::new(),
            why: format!("the Machines API at {host}{port}: {why}"),
        }
    }
}

/// An answer of the API.
enum Answer {
    /// The request has succeeded. The value is the JSON of the answer.
    Done(Value),
    /// The API has rejected the request because of its rate limit, and allows another one after the pause.
    RateLimited { pause: Duration, error: ApiError },
}

/// The value of the header `Authorization`: current tokens need the scheme `FlyV1`, older ones `Bearer`.
fn authorization(token: &str) -> String {
    let mut token = token.trim();
    while let Some((scheme, rest)) = token.split_once(' ') {
        if !(scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("flyv1")) {
            break;
        }
        token = rest.trim_start();
    }
    let is_macaroon = ["fm1r_", "fm1a_", "fm2_"]
        .iter()
        .any(|prefix| token.starts_with(prefix));
    let scheme = if is_macaroon { "FlyV1" } else { "Bearer" };
    format!("{scheme} {token}")
}

/// The beginning of an answer, on one line.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.join(" ") {
        words if words.is_empty() => "an error without a message".to_owned(),
        words => words.chars().take(200).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gets_the_authorization_scheme_that_its_kind_needs() {
        for (token, expected) in [
            ("fm2_lJPE", "FlyV1 fm2_lJPE"),
            ("FlyV1 fm2_lJPE,fm2_x", "FlyV1 fm2_lJPE,fm2_x"),
            ("Bearer FlyV1 fm1r_a", "FlyV1 fm1r_a"),
            ("fo1_old", "Bearer fo1_old"),
            (" Bearer plain ", "Bearer plain"),
        ] {
            assert_eq!(authorization(token), expected);
        }
    }

    #[test]
    fn an_error_names_the_host_and_the_port_and_not_the_password_of_the_url() {
        let api = Url::parse("http://me:the-password@[::1]:4280/").unwrap();
        let client = ApiClient::new(&api, "workers", "fo1_x", 1).unwrap();
        let why = client.unknown("it is away").why;
        assert_eq!(why, "the Machines API at [::1]:4280: it is away");
    }
}
