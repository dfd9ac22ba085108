//! What every HTTP request of this program stands on: TLS, URLs of routes, answers with a cap,
//! errors in words, when to try again.
//!
//! Sends nothing by itself, and knows neither the orchestrator nor the model's service.

pub mod retries;
pub mod tls;

use reqwest::{Response, Url};

/// The most of an answer's body that is read: cancellations and complaints are small.
const ANSWER: usize = 64 * 1024;

/// The error with its sources on one line, and what may be done about it.
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    let mut causes: Vec<String> = chain.map(ToString::to_string).collect();
    // Some errors say what their source says.
    causes.dedup_by(|next, previous| previous.contains(next.as_str()));
    causes.extend(tls::advice(error));
    causes.join(": ")
}

/// The whole body, or as much of it as anybody wants.
pub async fn answer_body(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
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
pub fn below(base: &Url, route: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{route}", base.path().trim_end_matches('/')));
    url
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
