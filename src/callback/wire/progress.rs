//! The field `progress` of a heartbeat.

use serde::Serialize;

use super::text::{milliseconds, one_line};
use super::usage::Usage;
use crate::progress::{OutputWindow, Snapshot};
use crate::redact::Redactor;

#[derive(Debug, Clone, Serialize)]
pub struct Progress {
    phase: &'static str,
    elapsed_ms: u64,
    idle_ms: u64,
    turns: Option<u64>,
    tool_calls: Option<u64>,
    cost_usd: Option<f64>,
    usage: Option<Usage>,
    activity: Option<String>,
    transfer: Option<Transfer>,
    output: Option<NewOutput>,
}

/// The progress of a clone or a push.
#[derive(Debug, Clone, Serialize)]
struct Transfer {
    phase: &'static str,
    percent: u8,
    bytes: Option<u64>,
}

/// The output since the last heartbeat.
#[derive(Debug, Clone, Serialize)]
struct NewOutput {
    offset: u64,
    text: String,
    dropped_bytes: u64,
}

impl Progress {
    pub fn new(snapshot: &Snapshot, window: Option<&OutputWindow>, redactor: &Redactor) -> Self {
        Self {
            phase: snapshot.phase.word(),
            elapsed_ms: milliseconds(snapshot.elapsed),
            idle_ms: milliseconds(snapshot.idle),
            turns: snapshot.spent.turns,
            tool_calls: snapshot.spent.tool_calls,
            cost_usd: snapshot.spent.cost_usd,
            usage: snapshot.spent.usage.map(Usage::new),
            activity: snapshot
                .activity
                .as_deref()
                .map(|activity| one_line(&redactor.mask(activity))),
            transfer: snapshot.transfer.map(|transfer| Transfer {
                phase: transfer.step,
                percent: transfer.percent,
                bytes: transfer.bytes,
            }),
            output: window.map(|window| NewOutput {
                offset: window.offset,
                text: window.text.clone(),
                dropped_bytes: window.dropped_bytes,
            }),
        }
    }
}
