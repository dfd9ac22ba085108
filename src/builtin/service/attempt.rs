//! The result of one attempt to send a request: the answer, or why there is none and whether to send the request again.

use std::time::Duration;

use reqwest::header::HeaderName;
use reqwest::{Response, Url};
use tokio::time::timeout;

use crate::builtin::messages::{Answer, ErrorDetails, error_of_body};
use crate::http::answer_body;
use crate::http::errors::{is_invalid_certificate, request_error};
use crate::http::retries::retry_after;
use crate::model::{Usage, is_temporary};

/// How long the body of an error may take.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// With this header the API says whether to retry, independent of the status.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Why there is no answer.
#[derive(Debug)]
pub enum ServiceError {
    /// The conversation is longer than the model can read.
    ConversationTooLong,
    /// Incomplete answers have used up the budget.
    BudgetUsedUp,
    /// The service rejected the request, or no retry got an answer.
    Failed(RequestFailure),
}

/// Why a request failed.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestFailure {
    /// `None` if there was no answer.
    pub status: Option<u16>,
    pub message: String,
    /// Whether a later request may succeed.
    pub is_temporary: bool,
}

/// The result of one attempt to send a request.
pub enum Attempt {
    Answered(Answer),
    /// A retry would not help.
    Rejected {
        error: ServiceError,
        partial: Partial,
    },
    Retry {
        failure: RequestFailure,
        retry_after: Option<Duration>,
        partial: Partial,
    },
}

/// How much of an answer a failed attempt received.
#[derive(Debug, Clone, Copy)]
pub enum Partial {
    /// The answer has begun, so it costs money.
    Begun {
        /// The usage so far.
        usage: Usage,
        has_content: bool,
    },
    None,
}

/// The result of an attempt after which a retry would not help.
fn rejected(error: ServiceError, partial: Partial) -> Attempt {
    Attempt::Rejected { error, partial }
}

/// The result of an attempt without a complete answer. A retry may get one.
pub fn retryable_failure(message: String, partial: Partial) -> Attempt {
    Attempt::Retry {
        failure: RequestFailure {
            status: None,
            message,
            is_temporary: true,
        },
        retry_after: None,
        partial,
    }
}

/// The result of an attempt with an answer that is larger than any model's answer. There is no retry, because it
/// would cost as much again.
pub fn answer_too_large(partial: Partial) -> Attempt {
    let error = ServiceError::Failed(RequestFailure {
        status: None,
        message: "its answer is larger than any model's answer can be".to_owned(),
        is_temporary: true,
    });
    rejected(error, partial)
}

/// The result of an attempt whose answer has an error event. The event has no HTTP status, but a type that corresponds to one.
pub fn error_event(error: ErrorDetails, partial: Partial) -> Attempt {
    let ErrorDetails { kind, message } = error;
    if is_too_long(&kind, &message) {
        return rejected(ServiceError::ConversationTooLong, partial);
    }
    let status = match kind.as_str() {
        "rate_limit_error" => 429,
        "api_error" => 500,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => {
            let error = ServiceError::Failed(RequestFailure {
                status: Some(400),
                message: format!("{kind}: {message}"),
                is_temporary: false,
            });
            return rejected(error, partial);
        }
    };
    Attempt::Retry {
        failure: RequestFailure {
            status: Some(status),
            message,
            is_temporary: true,
        },
        retry_after: None,
        partial,
    }
}

/// The result of an attempt whose response has a status that is not a success. Reads the response's body.
pub async fn error_response(response: Response, read_timeout: Duration) -> Attempt {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    // If the body does not arrive, the status is enough.
    let body = timeout(ERROR_BODY_TIMEOUT.min(read_timeout), answer_body(response)).await;
    let body = body.map_or_else(|_| Vec::new(), Result::unwrap_or_default);
    let ErrorDetails { kind, mut message } = error_of_body(&body);
    if message.is_empty() {
        message = format!("status {status} without a message");
    }
    if status == 413 || status == 400 && is_too_long(&kind, &message) {
        return rejected(ServiceError::ConversationTooLong, Partial::None);
    }
    let should_retry = headers
        .get(SHOULD_RETRY)
        .and_then(|value| value.to_str().ok());
    let is_temporary = is_temporary(status);
    let failure = RequestFailure {
        status: Some(status),
        message,
        is_temporary,
    };
    let should_retry = match should_retry {
        Some("true") => true,
        Some("false") => false,
        _ => is_temporary,
    };
    if should_retry {
        Attempt::Retry {
            failure,
            retry_after: retry_after(&headers, jiff::Timestamp::now()),
            partial: Partial::None,
        }
    } else {
        rejected(ServiceError::Failed(failure), Partial::None)
    }
}

/// Whether an error says that the conversation is longer than the model can read.
fn is_too_long(kind: &str, message: &str) -> bool {
    let phrases = ["too long", "exceed context limit"];
    kind == "invalid_request_error" && phrases.iter().any(|phrase| message.contains(phrase))
}

/// The result of an attempt whose connection failed.
pub fn connection_error(
    url: &Url,
    error: &(dyn std::error::Error + 'static),
    partial: Partial,
) -> Attempt {
    let message = request_error(url, error);
    if is_invalid_certificate(error) {
        // The certificate will not be trusted next time either.
        let error = ServiceError::Failed(RequestFailure {
            status: None,
            message,
            is_temporary: false,
        });
        return rejected(error, partial);
    }
    retryable_failure(message, partial)
}
