//! The progress of a run: `runner` writes it; heartbeats and the status line read it.
//!
//! Memory use is constant, however much an agent prints: this module stores the first bytes, the last bytes and the
//! bytes that no heartbeat has sent yet, and only counts the others. The callers mask the secrets in all output before
//! they add it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::excerpt::visible;
use crate::model::UsageAndCost;
use crate::ring_buffer::RingBuffer;
use crate::task::{Output, PhaseStart};

/// How many bytes from the start of the output are stored for the final report; start-up messages are
/// seldom longer.
pub const HEAD_SIZE: usize = 4 * 1024;
/// How many bytes from the end of the output are stored for the final report (the protocol says 8 KiB).
pub const TAIL_SIZE: usize = 8 * 1024;
/// How many bytes of output one heartbeat carries at most (the protocol says 16 KiB), before invalid UTF-8 is replaced:
/// the text has at most as many characters, and at most three times as many bytes.
pub const OUTPUT_WINDOW_SIZE: usize = 16 * 1024;

/// The maximum number of phases whose starts are stored. Every repair adds two phases.
pub const MAX_PHASES: usize = 100;

/// The phase that a run is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Preparing,
    Agent,
    Checks,
    /// The worker commits and pushes the work.
    HandOver,
}

impl Phase {
    /// Every phase, in the order of a run.
    pub const ALL: [Self; 4] = [Self::Preparing, Self::Agent, Self::Checks, Self::HandOver];

    /// The word for the phase in events.
    pub fn word(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Agent => "agent",
            Self::Checks => "checks",
            Self::HandOver => "hand_over",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A run's progress; cheap to clone, and all clones share one state.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Mutex<State>>);

/// How far a clone or a push is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// The current step of git, in git's words.
    pub step: &'static str,
    /// The completed share of this step.
    pub percent: u8,
    /// The number of bytes that were transferred in this step, if git prints it.
    pub bytes: Option<u64>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    started_at: Instant,
    /// The phases so far, at most [`MAX_PHASES`].
    phases: Vec<PhaseStart>,
    /// The last time at which the agent showed activity.
    last_alive: Instant,
    activity: Option<String>,
    transfer: Option<Transfer>,
    spent: UsageAndCost,
    /// The usage that the model gateway has counted.
    gateway_totals: UsageAndCost,
    head: Vec<u8>,
    tail: RingBuffer,
    /// The output that no heartbeat has sent yet.
    unsent: RingBuffer,
    /// How many bytes were dropped from `unsent` since the last window.
    unsent_dropped: u64,
    /// The size of the whole output so far.
    total_bytes: u64,
}

/// A run's progress at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub phase: Phase,
    pub elapsed: Duration,
    /// How long the agent has shown no activity.
    pub idle: Duration,
    /// The last thing that the agent did or said, in one line.
    pub activity: Option<String>,
    /// The progress of git's transfer, while there is one.
    pub transfer: Option<Transfer>,
    /// The agent's usage so far: the numbers that the agent or the model gateway reports.
    pub spent: UsageAndCost,
    /// The size of the whole output so far.
    pub output_bytes: u64,
}

impl Snapshot {
    /// The snapshot in one line.
    pub fn message(&self) -> String {
        let phase = self.phase;
        match (&self.activity, &self.transfer) {
            (_, Some(transfer)) => format!("{phase}: {}, {} %", transfer.step, transfer.percent),
            (Some(activity), None) => format!("{phase}: {activity}"),
            (None, None) => phase.to_string(),
        }
    }
}

/// The part of the output that one heartbeat sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputWindow {
    /// The position of `text`, in bytes of the whole masked output.
    pub offset: u64,
    pub text: String,
    /// The number of output bytes in `text`, before invalid UTF-8 was replaced.
    pub bytes: u64,
    /// How many bytes were dropped between the previous window and this one.
    pub dropped_bytes: u64,
}

impl Progress {
    /// The progress of a run that begins now.
    pub fn new() -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(State {
            phase: Phase::Preparing,
            started_at: now,
            phases: vec![PhaseStart {
                phase: Phase::Preparing.word(),
                since_claim: Duration::ZERO,
            }],
            last_alive: now,
            activity: None,
            transfer: None,
            spent: UsageAndCost::default(),
            gateway_totals: UsageAndCost::default(),
            head: Vec::with_capacity(HEAD_SIZE),
            tail: RingBuffer::new(TAIL_SIZE),
            unsent: RingBuffer::new(OUTPUT_WINDOW_SIZE),
            unsent_dropped: 0,
            total_bytes: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock is ignored, because the worker reports even after a panic.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Begins a new phase, which counts as activity.
    pub fn enter(&self, phase: Phase) {
        let mut state = self.state();
        if state.phase != phase && state.phases.len() < MAX_PHASES {
            let start = PhaseStart {
                phase: phase.word(),
                since_claim: state.started_at.elapsed(),
            };
            state.phases.push(start);
        }
        state.phase = phase;
        state.activity = None;
        state.last_alive = Instant::now();
    }

    /// Restarts the idle timeout.
    pub fn mark_alive(&self) {
        self.state().last_alive = Instant::now();
    }

    /// Sets what the agent is doing, in one line.
    pub fn set_activity(&self, line: &str) {
        self.state().activity = Some(visible(line));
    }

    /// Sets the progress of git's transfer; `None` if there is no transfer.
    pub fn set_transfer(&self, transfer: Option<Transfer>) {
        self.state().transfer = transfer;
    }

    /// Sets the agent's usage so far.
    pub fn set_spent(&self, spent: UsageAndCost) {
        self.state().spent = spent;
    }

    /// Sets the usage that the model gateway has counted. It replaces the agent's numbers if it is larger.
    pub fn set_gateway_totals(&self, gateway_totals: UsageAndCost) {
        self.state().gateway_totals = gateway_totals;
    }

    /// Adds output of the agent, in which secrets must be masked.
    pub fn add_output(&self, bytes: &[u8]) {
        let mut state = self.state();
        let room = HEAD_SIZE - state.head.len();
        state
            .head
            .extend_from_slice(&bytes[..room.min(bytes.len())]);
        state.tail.push(bytes);
        let dropped = state.unsent.push(bytes);
        state.unsent_dropped += dropped;
        state.total_bytes += bytes.len() as u64;
    }

    /// The last time at which the agent showed activity; the idle timeout counts from it.
    pub fn last_alive(&self) -> Instant {
        self.state().last_alive
    }

    /// The time since the run began.
    pub fn elapsed(&self) -> Duration {
        self.state().started_at.elapsed()
    }

    /// The phases so far, in order.
    pub fn phases(&self) -> Vec<PhaseStart> {
        self.state().phases.clone()
    }

    /// The progress at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        Snapshot {
            phase: state.phase,
            elapsed: state.started_at.elapsed(),
            idle: state.last_alive.elapsed(),
            activity: state.activity.clone(),
            transfer: state.transfer,
            spent: state.spent.or_larger(state.gateway_totals),
            output_bytes: state.total_bytes,
        }
    }

    /// Removes and returns the output that no heartbeat has sent yet, at most [`OUTPUT_WINDOW_SIZE`] bytes.
    pub fn take_output_window(&self) -> OutputWindow {
        let mut state = self.state();
        let mut bytes = state.unsent.take();
        // An incomplete UTF-8 character at the end waits for the next window.
        let complete = bytes.len() - incomplete_suffix_length(&bytes);
        let rest = bytes.split_off(complete);
        let window = OutputWindow {
            offset: state.total_bytes - (bytes.len() + rest.len()) as u64,
            text: String::from_utf8_lossy(&bytes).into_owned(),
            bytes: bytes.len() as u64,
            dropped_bytes: std::mem::take(&mut state.unsent_dropped),
        };
        state.unsent.push(&rest);
        window
    }

    /// Counts a window that was not delivered as dropped: the next window reports its bytes as `dropped_bytes`.
    pub fn count_as_dropped(&self, window: &OutputWindow) {
        self.state().unsent_dropped += window.dropped_bytes + window.bytes;
    }

    /// The start and the end of the whole output.
    pub fn output(&self) -> Output {
        let state = self.state();
        let tail = state.tail.bytes();
        let total = state.total_bytes;
        // `head` must not contain the bytes that are in `tail`.
        let before_tail = usize::try_from(total - tail.len() as u64).unwrap_or(usize::MAX);
        let head = &state.head[..state.head.len().min(before_tail)];
        Output {
            head: String::from_utf8_lossy(head).into_owned(),
            tail: String::from_utf8_lossy(&tail).into_owned(),
            total_bytes: total,
            dropped_bytes: total - (head.len() + tail.len()) as u64,
        }
    }
}

/// How many bytes at the end of `bytes` belong to an incomplete UTF-8 character.
fn incomplete_suffix_length(bytes: &[u8]) -> usize {
    for (bytes_after, byte) in bytes.iter().rev().take(3).enumerate() {
        let needed = match byte {
            0x80..=0xBF => continue,
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => 1,
        };
        let present = bytes_after + 1;
        return if needed > present { present } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests;
