//! The gateway's own errors, in the form of the API that the client speaks. No I/O.

use hyper::StatusCode;
use serde_json::json;

use super::ledger::Refusal;
use crate::model::Api;

/// An error that the gateway answers itself.
#[derive(Debug, Clone, PartialEq)]
pub enum GatewayError {
    /// The table of routes does not list the request.
    NotForwarded {
        method: String,
        path: String,
    },
    TooLarge {
        max_bytes: usize,
    },
    /// The client did not send the whole body in time.
    TooSlow,
    /// The cost cannot be read from the request; the text says why.
    Unreadable(String),
    /// The bodies of other requests use all the memory that the gateway has for bodies.
    Busy,
    /// A limit is reached, or the request's cost cannot be limited.
    Refused(Refusal),
}

impl GatewayError {
    /// The status, and the type of the error for [`Api::Anthropic`] and for [`Api::OpenAi`].
    fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        let invalid = "invalid_request_error";
        match self {
            Self::NotForwarded { .. } => (StatusCode::NOT_FOUND, "not_found_error", invalid),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", invalid),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "timeout_error", invalid),
            Self::Unreadable(_) => (StatusCode::BAD_REQUEST, invalid, invalid),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded_error",
                "server_error",
            ),
            // Clients do not retry a request that was answered with this status.
            Self::Refused(_) => (
                StatusCode::PAYMENT_REQUIRED,
                "billing_error",
                "insufficient_quota",
            ),
        }
    }

    /// The HTTP status of the gateway's answer.
    pub fn status(&self) -> StatusCode {
        self.kind().0
    }

    /// The JSON body of the gateway's answer.
    pub fn body(&self, api: Api) -> String {
        let (_, anthropic, openai) = self.kind();
        let message = format!("descartes-worker's model gateway: {self}");
        let body = match api {
            Api::Anthropic => json!({
                "type": "error",
                "error": { "type": anthropic, "message": message },
            }),
            Api::OpenAi => json!({
                "error": { "message": message, "type": openai, "param": null, "code": openai },
            }),
        };
        body.to_string()
    }
}

impl std::fmt::Display for GatewayError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotForwarded { method, path } => {
                write!(f, "{method} {path} is not forwarded")
            }
            Self::TooLarge { max_bytes } => {
                write!(f, "the request is larger than {max_bytes} bytes")
            }
            Self::TooSlow => f.write_str("the request did not arrive in time"),
            Self::Unreadable(why) => f.write_str(why),
            Self::Busy => f.write_str("too many large requests at the same time; try again"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

/// One clause without a full stop. It is a part of the gateway's error and of the run's failure message.
impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Budget {
                spent_usd,
                limit_usd,
            } => write!(
                f,
                "the agent's budget is used up: {spent_usd:.4} of {limit_usd} US dollars are spent"
            ),
            Self::Tokens { spent, limit } => write!(
                f,
                "the agent's tokens are used up: {spent} of {limit} tokens are spent"
            ),
            Self::PriceUnknown { model } => write!(
                f,
                "DESCARTES_MAX_BUDGET_USD is set, but the price of {model:?} is not known; set \
                 DESCARTES_MAX_TOKENS instead"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_form_of_the_clients_api() {
        let refusal = Refusal::Tokens {
            spent: 12,
            limit: 10,
        };
        let error = GatewayError::Refused(refusal);
        assert_eq!(error.status(), 402);
        let message = "descartes-worker's model gateway: the agent's tokens are used up: 12 of 10 tokens are spent";
        assert_eq!(
            error.body(Api::Anthropic),
            json!({ "type": "error", "error": { "type": "billing_error", "message": message } })
                .to_string()
        );
        let body: serde_json::Value = serde_json::from_str(&error.body(Api::OpenAi)).unwrap();
        assert_eq!(body["error"]["message"], message);
        assert_eq!(body["error"]["code"], "insufficient_quota");
    }
}
