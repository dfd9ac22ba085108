//! The run's limits in a `started` event, so that an orchestrator can compute a lease.

use serde::Serialize;

use super::text::milliseconds;
use crate::callback::settings::Settings;

/// The fields that only a `started` event has.
#[derive(Debug, Clone, Serialize)]
pub struct StartedFields {
    /// `null` if heartbeats are off.
    heartbeat_interval_ms: Option<u64>,
    limits: Limits,
}

/// The limits. Each field is named like its setting.
#[derive(Debug, Clone, Serialize)]
struct Limits {
    callback_timeout_ms: u64,
    claim_deadline_ms: u64,
    finish_deadline_ms: u64,
    task_timeout_ms: u64,
    idle_timeout_ms: Option<u64>,
    stop_window_ms: u64,
    max_turns: Option<u32>,
    max_budget_usd: Option<f64>,
    max_tokens: Option<u64>,
}

impl StartedFields {
    pub fn new(settings: &Settings) -> Self {
        let limits = &settings.limits;
        Self {
            heartbeat_interval_ms: settings.heartbeat_interval.map(milliseconds),
            limits: Limits {
                callback_timeout_ms: milliseconds(settings.request_timeout),
                claim_deadline_ms: milliseconds(settings.claim_timeout),
                finish_deadline_ms: milliseconds(settings.finish_timeout),
                task_timeout_ms: milliseconds(limits.task_timeout),
                idle_timeout_ms: limits.idle_timeout.map(milliseconds),
                stop_window_ms: milliseconds(limits.stop_window),
                max_turns: limits.max_turns,
                max_budget_usd: limits.max_budget_usd,
                max_tokens: limits.max_tokens,
            },
        }
    }
}
