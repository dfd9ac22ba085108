//! The messages for HTTP requests that got no answer: the URL and one cause in plain words.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::iter::successors;
use std::time::Duration;

use reqwest::Url;

use super::tls;

/// The message for a request that got no answer: its URL and the cause.
pub fn request_error(url: &Url, error: &(dyn Error + 'static)) -> String {
    let is_not_http = find_cause::<hyper::Error>(error).is_some_and(hyper::Error::is_parse);
    let cause = if is_not_http && url.scheme() == "http" {
        "the server does not speak plain HTTP: is it https://?".to_owned()
    } else {
        plain_cause(error)
    };
    format!("{}: {cause}", without_query(url))
}

/// The message for a request that got no answer within a time limit.
pub fn no_answer_within(url: &Url, limit: Duration) -> String {
    let (url, seconds) = (without_query(url), limit.as_secs_f64());
    format!("{url}: no answer within {seconds:.1} s")
}

/// The most useful one of an error's nested causes, in plain words.
pub fn plain_cause(error: &(dyn Error + 'static)) -> String {
    if let Some(tls) = find_cause::<rustls::Error>(error) {
        return tls::plain_cause(tls);
    }
    let innermost = chain(error).last().unwrap_or(error).to_string();
    if chain(error).any(|cause| cause.to_string() == "dns error") {
        return format!("the host name cannot be resolved ({innermost})");
    }
    if let Some(http) = find_cause::<hyper::Error>(error) {
        if http.is_parse() {
            return "the server's answer is not HTTP".to_owned();
        }
        if http.is_incomplete_message() {
            return "the server closed the connection before the answer was complete".to_owned();
        }
    }
    let io_errors = chain(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
    match io_errors.last().map(io::Error::kind) {
        Some(ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(ErrorKind::ConnectionReset) => "the server reset the connection".to_owned(),
        Some(ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe) => {
            "the server closed the connection".to_owned()
        }
        _ => innermost,
    }
}

/// Whether the server's certificate is invalid or not trusted. A retry would not help.
pub fn is_invalid_certificate(error: &(dyn Error + 'static)) -> bool {
    let error = find_cause::<rustls::Error>(error);
    matches!(error, Some(rustls::Error::InvalidCertificate(_)))
}

/// The first error of the type `T` among an error and its causes.
fn find_cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// The error and its causes. The `source` of an [`io::Error`] skips the error that it wraps, so `get_ref` is used
/// instead.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// The URL without its query, because a query may contain a token.
pub fn without_query(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_a_url_is_not_shown() {
        let url: Url = "http://o.example/cb/started?token=abc".parse().unwrap();
        let refused = io::Error::from(ErrorKind::ConnectionRefused);
        assert_eq!(
            request_error(&url, &refused),
            "http://o.example/cb/started: connection refused"
        );
        assert_eq!(
            no_answer_within(&url, Duration::from_millis(400)),
            "http://o.example/cb/started: no answer within 0.4 s"
        );
    }

    #[test]
    fn the_innermost_cause_is_shown_if_no_other_cause_is_known() {
        let inner = io::Error::other("the cable is unplugged");
        let outer = io::Error::other(inner);
        assert_eq!(plain_cause(&outer), "the cable is unplugged");
    }
}
