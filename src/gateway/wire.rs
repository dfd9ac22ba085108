//! The lines between the worker and the gateway: JSON, one object per line.

use serde::{Deserialize, Serialize};

/// The only line from the worker. The worker then leaves the pipe open, and the gateway ends when the pipe is closed.
#[derive(Serialize, Deserialize)]
pub struct Configuration {
    pub services: Vec<Service>,
    pub max_budget_usd: Option<f64>,
    pub max_tokens: Option<u64>,
}

/// A service and its real credentials.
#[derive(Serialize, Deserialize)]
pub struct Service {
    pub provider: String,
    pub url: String,
    pub key: Option<String>,
    pub token: Option<String>,
}

/// A line from the gateway.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// Other processes cannot read the gateway's memory and its pipes any more, so it may get the keys.
    Ready,
    Listening {
        port: u16,
        /// The secret path of each service, in the order of the configuration.
        paths: Vec<String>,
    },
    Request(Request),
    Totals(Totals),
    /// A request was refused, because a limit is reached or a price is unknown. The text completes "the run has
    /// failed: …".
    Refused {
        why: String,
    },
    /// The service could not be reached.
    Unreachable {
        why: String,
    },
}

/// A request that has ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub model: Option<String>,
    /// `None` if there was no answer.
    pub status: Option<u16>,
    /// The time from the request to the first byte of the answer's body.
    pub first_byte_ms: Option<f64>,
    pub total_ms: f64,
    pub output_tokens: Option<u64>,
}

/// The totals so far.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Totals {
    pub requests: u64,
    pub answers: u64,
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub cache_read_input_tokens: Option<u64>,
    pub cache_creation_input_tokens: Option<u64>,
    pub cost_usd: Option<f64>,
}
