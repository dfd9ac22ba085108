//! Decides whether a request is forwarded, and to which URL. No I/O.

use hyper::Method;
use reqwest::Url;

use crate::model::{Provider, RoutePrice, VersionSegment};

/// The first segment of the services' paths. The base URL and the path of a client's request may each contain it or
/// not.
const VERSION: &str = "/v1";
/// The longest name of a model in a path, in bytes.
const MAX_MODEL_NAME_SIZE: usize = 200;

/// The decision about a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// The path does not begin with a secret path of this gateway. The answer is an empty 404.
    Unknown,
    /// The table of routes does not list the request. `service` is the index in the endpoints.
    NotForwarded { service: usize },
    Forward {
        /// The index of the service in the endpoints.
        service: usize,
        /// The path, without the base URL of the service.
        path: String,
        price: RoutePrice,
    },
}

/// A service, and the path under which the gateway offers it.
#[derive(Debug)]
pub struct Endpoint {
    pub provider: &'static Provider,
    /// The random first segment of the path, without slashes.
    pub secret_path: String,
}

/// Decides about a request by its method and its path without the query.
pub fn decide(endpoints: &[Endpoint], method: &Method, path: &str) -> Decision {
    let rest = path.strip_prefix('/').unwrap_or_default();
    let (first, _) = rest.split_once('/').unwrap_or((rest, ""));
    let found = endpoints
        .iter()
        .position(|endpoint| is_equal_in_constant_time(first, &endpoint.secret_path));
    let Some(service) = found else {
        return Decision::Unknown;
    };
    let path = &rest[first.len()..];
    if matches!(path, "" | "/") {
        // Some clients check whether the service is reachable.
        return if matches!(*method, Method::GET | Method::HEAD) {
            Decision::Forward {
                service,
                path: "/".to_owned(),
                price: RoutePrice::Free,
            }
        } else {
            Decision::NotForwarded { service }
        };
    }
    let (has_version, path) = match path.strip_prefix(VERSION) {
        Some(path) if path.starts_with('/') => (true, path),
        _ => (false, path),
    };
    let provider = endpoints[service].provider;
    let mut routes = provider.routes.iter();
    let route = routes
        .find(|route| route.methods.contains(&method.as_str()) && matches_path(route.path, path));
    route.map_or(Decision::NotForwarded { service }, |route| {
        let is_appended = has_version || provider.version == VersionSegment::IsAppended;
        let version = if is_appended { VERSION } else { "" };
        Decision::Forward {
            service,
            path: format!("{version}{path}"),
            price: route.price,
        }
    })
}

/// The URL of a forwarded request: the base URL with the path appended, and the queries of both.
pub fn target_url(base: &Url, path: &str, query: Option<&str>) -> Url {
    let mut url = base.clone();
    let base_path = base.path().trim_end_matches('/');
    // The base URL and the path may both contain `/v1`; the result contains it once.
    let base_path = match path.strip_prefix(VERSION) {
        Some(rest) if rest.starts_with('/') => base_path.strip_suffix(VERSION).unwrap_or(base_path),
        _ => base_path,
    };
    url.set_path(&format!("{base_path}{path}"));
    let query = match (base.query(), query) {
        (Some(one), Some(other)) => Some(format!("{one}&{other}")),
        (one, other) => one.or(other).map(ToOwned::to_owned),
    };
    url.set_query(query.as_deref());
    url
}

/// Whether a path matches the path of a route. A `*` at the end of the route's path stands for the name of a model.
fn matches_path(pattern: &str, path: &str) -> bool {
    let Some(prefix) = pattern.strip_suffix('*') else {
        return path == pattern;
    };
    path.strip_prefix(prefix).is_some_and(is_model_name)
}

/// Whether the text is one segment of a path, without characters that a server could read as more segments.
fn is_model_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@".contains(&byte);
    (1..=MAX_MODEL_NAME_SIZE).contains(&text.len())
        && text.bytes().all(is_allowed)
        && text.bytes().any(|byte| byte != b'.')
}

/// Compares two texts in a time that does not depend on the position of their first difference. Otherwise the response
/// time would help to guess a secret path.
fn is_equal_in_constant_time(one: &str, other: &str) -> bool {
    let pairs = one.bytes().zip(other.bytes());
    let difference = pairs.fold(0, |difference, (one, other)| difference | (one ^ other));
    one.len() == other.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ANTHROPIC, OPENAI};

    fn endpoints() -> Vec<Endpoint> {
        let endpoint = |provider, path: &str| Endpoint {
            provider,
            secret_path: path.to_owned(),
        };
        vec![endpoint(&ANTHROPIC, "aaaa"), endpoint(&OPENAI, "bbbb")]
    }

    fn forwarded(method: &Method, path: &str) -> Option<(usize, String, RoutePrice)> {
        match decide(&endpoints(), method, path) {
            Decision::Forward {
                service,
                path,
                price,
            } => Some((service, path, price)),
            _ => None,
        }
    }

    #[test]
    fn only_requests_that_the_table_of_routes_lists_are_forwarded() {
        for (path, target) in [
            ("/aaaa/v1/messages", "/v1/messages"),
            // Some clients have `/v1` in their base URL.
            ("/aaaa/messages", "/v1/messages"),
        ] {
            let expected = Some((0, target.to_owned(), RoutePrice::Tokens));
            assert_eq!(forwarded(&Method::POST, path), expected);
        }
        for (method, path, target) in [
            (
                Method::POST,
                "/aaaa/v1/messages/count_tokens",
                (0, "/v1/messages/count_tokens"),
            ),
            (
                Method::GET,
                "/aaaa/v1/models/claude-x_1.0:2@3",
                (0, "/v1/models/claude-x_1.0:2@3"),
            ),
            (Method::HEAD, "/aaaa", (0, "/")),
            (Method::GET, "/bbbb/models", (1, "/models")),
        ] {
            let (service, target) = target;
            let expected = Some((service, target.to_owned(), RoutePrice::Free));
            assert_eq!(forwarded(&method, path), expected);
        }
        for (method, path) in [
            (Method::GET, "/aaaa/v1/messages"),
            (Method::POST, "/aaaa/v1/messages/"),
            (Method::POST, "/aaaa/v1/messages/batches"),
            (Method::POST, "/aaaa//v1/messages"),
            (Method::POST, "/aaaa/v1/../v1/messages"),
            (Method::POST, "/aaaa/v1%2fmessages"),
            (Method::POST, "/aaaa"),
            (Method::GET, "/aaaa/v1/models/.."),
            (Method::GET, "/aaaa/v1/models/a/b"),
            (Method::GET, "/aaaa/v1/models/%2e%2e"),
            (Method::DELETE, "/bbbb/models/x"),
            (Method::GET, "/bbbb/files"),
        ] {
            let decision = decide(&endpoints(), &method, path);
            assert!(matches!(decision, Decision::NotForwarded { .. }), "{path}");
        }
    }

    #[test]
    fn a_request_without_a_secret_path_is_unknown() {
        for path in [
            "",
            "/",
            "/v1/messages",
            "/aaa",
            "/aaaab/v1/messages",
            "/AAAA/v1/messages",
            "/x/aaaa",
            "*",
        ] {
            assert_eq!(
                decide(&endpoints(), &Method::POST, path),
                Decision::Unknown,
                "{path}"
            );
        }
    }

    #[test]
    fn the_path_is_appended_to_the_base_url_and_contains_the_version_once() {
        let url =
            |base: &str, path, query| target_url(&base.parse().unwrap(), path, query).to_string();
        for (base, path, query, expected) in [
            (
                "https://a.example",
                "/v1/messages",
                None,
                "https://a.example/v1/messages",
            ),
            (
                "https://a.example/v1/",
                "/v1/messages",
                None,
                "https://a.example/v1/messages",
            ),
            (
                "https://a.example/x?k=1",
                "/v1/messages",
                Some("beta=true"),
                "https://a.example/x/v1/messages?k=1&beta=true",
            ),
            (
                "https://a.example/v1",
                "/responses",
                None,
                "https://a.example/v1/responses",
            ),
            (
                "https://a.example/v1",
                "/v1/responses",
                None,
                "https://a.example/v1/responses",
            ),
            (
                "https://a.example/api/v4",
                "/responses",
                Some("a"),
                "https://a.example/api/v4/responses?a",
            ),
            ("https://a.example/x", "/", None, "https://a.example/x/"),
        ] {
            assert_eq!(url(base, path, query), expected);
        }
    }
}
