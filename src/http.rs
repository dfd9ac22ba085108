//! The parts of HTTP that all requests of this program share: TLS, URLs of routes, answers up to a maximum size,
//! error messages, and when to try again.
//!
//! Sends nothing, and knows neither the orchestrator nor the model's service.

pub mod errors;
pub mod retries;
pub mod tls;

use std::path::Path;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response, Url};

/// The maximum size of an answer's body, in bytes; the rest is not read. Cancellations and error
/// messages are small.
const MAX_ANSWER_SIZE: usize = 64 * 1024;

/// A client that sends JSON to one server: without proxies and redirects. Every request has `headers`, and
/// `authorities` is a PEM file with more certificate authorities to trust.
///
/// # Errors
/// If the file cannot be read.
pub fn json_client(
    url: &Url,
    authorities: Option<&Path>,
    headers: HeaderMap,
) -> Result<ClientBuilder, tls::TlsError> {
    let user_agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
    let mut headers = headers;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(user_agent));
    Ok(Client::builder()
        .tls_backend_preconfigured(tls::config(url, authorities)?)
        .default_headers(headers)
        .redirect(Policy::none())
        .no_proxy())
}

/// The body of an answer, up to [`MAX_ANSWER_SIZE`].
pub async fn answer_body(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = MAX_ANSWER_SIZE - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == MAX_ANSWER_SIZE {
            break;
        }
    }
    Ok(body)
}

/// The URL of a route: the route is appended to the path of `base`, and the query of `base` stays.
pub fn route_url(base: &Url, route: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{route}", base.path().trim_end_matches('/')));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_appended_once_and_the_query_is_kept() {
        let route = |base: &str| route_url(&base.parse().unwrap(), "started").to_string();
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
