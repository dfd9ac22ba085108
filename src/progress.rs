//! The progress of a run: `runner` writes it; heartbeats and the status line read it.
//!
//! Memory use is constant, however much an agent prints: this module stores the first bytes, the last bytes and the
//! bytes that no heartbeat has sent yet, and only counts the others. The callers redact all output before they add it.

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
/// How many bytes of output one heartbeat carries at most (the protocol says 16 KiB).
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
    began: Instant,
    /// The phases so far, at most [`MAX_PHASES`].
    phases: Vec<PhaseStart>,
    /// The last time at which the agent showed activity.
    last_alive: Instant,
    activity: Option<String>,
    transfer: Option<Transfer>,
    spent: UsageAndCost,
    /// The usage that the model gateway has counted.
    metered: UsageAndCost,
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
    /// The position of `text`, in bytes of the whole redacted output.
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
            began: now,
            phases: vec![PhaseStart {
                phase: Phase::Preparing.word(),
                after: Duration::ZERO,
            }],
            last_alive: now,
            activity: None,
            transfer: None,
            spent: UsageAndCost::default(),
            metered: UsageAndCost::default(),
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
                after: state.began.elapsed(),
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
    pub fn set_metered(&self, metered: UsageAndCost) {
        self.state().metered = metered;
    }

    /// Adds output of the agent, which must be redacted.
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
        self.state().began.elapsed()
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
            elapsed: state.began.elapsed(),
            idle: state.last_alive.elapsed(),
            activity: state.activity.clone(),
            transfer: state.transfer,
            spent: state.spent.or_larger(state.metered),
            output_bytes: state.total_bytes,
        }
    }

    /// Removes and returns the output that no heartbeat has sent yet, at most [`OUTPUT_WINDOW_SIZE`] bytes.
    pub fn take_output_window(&self) -> OutputWindow {
        let mut state = self.state();
        let mut bytes = state.unsent.take();
        // An incomplete UTF-8 character at the end waits for the next window.
        let complete = bytes.len() - incomplete_suffix(&bytes);
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
fn incomplete_suffix(bytes: &[u8]) -> usize {
    for (back, byte) in bytes.iter().rev().take(3).enumerate() {
        let needed = match byte {
            0x80..=0xBF => continue,
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => 1,
        };
        let present = back + 1;
        return if needed > present { present } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn at_most_max_phases_are_stored_with_their_starts() {
        let progress = Progress::new();
        tokio::time::sleep(Duration::from_secs(3)).await;
        progress.enter(Phase::Agent);
        progress.enter(Phase::Agent);
        tokio::time::sleep(Duration::from_secs(4)).await;
        progress.enter(Phase::Checks);
        let found = progress.phases();
        let found: Vec<_> = found
            .iter()
            .map(|start| (start.phase, start.after.as_secs()))
            .collect();
        assert_eq!(found, [("preparing", 0), ("agent", 3), ("checks", 7)]);
        for _ in 0..MAX_PHASES {
            progress.enter(Phase::Agent);
            progress.enter(Phase::Checks);
        }
        assert_eq!(progress.phases().len(), MAX_PHASES);
    }

    #[test]
    fn the_larger_cost_and_usage_of_agent_and_gateway_is_reported() {
        let spent = |cost_usd, tokens| UsageAndCost {
            cost_usd: Some(cost_usd),
            usage: Some(crate::model::Usage {
                output_tokens: Some(tokens),
                ..crate::model::Usage::default()
            }),
            ..UsageAndCost::default()
        };
        let progress = Progress::new();
        // In the second round, the agent has reported only the first one so far.
        progress.set_spent(UsageAndCost {
            turns: Some(3),
            ..spent(0.25, 100)
        });
        progress.set_metered(spent(0.75, 300));
        let found = progress.snapshot().spent;
        assert_eq!(
            found,
            UsageAndCost {
                turns: Some(3),
                ..spent(0.75, 300)
            }
        );
        progress.set_spent(spent(1.0, 400));
        assert_eq!(progress.snapshot().spent, spent(1.0, 400));
    }

    #[test]
    fn short_output_is_only_in_the_tail() {
        let progress = Progress::new();
        progress.add_output(b"hello");
        let output = progress.output();
        assert_eq!((output.head.as_str(), output.tail.as_str()), ("", "hello"));
        assert_eq!((output.total_bytes, output.dropped_bytes), (5, 0));
    }

    #[test]
    fn both_ends_of_long_output_are_stored_and_the_middle_is_counted() {
        let progress = Progress::new();
        let all: Vec<u8> = (0..100_000u32).map(|n| b'a' + (n % 26) as u8).collect();
        for chunk in all.chunks(777) {
            progress.add_output(chunk);
        }
        let output = progress.output();
        assert_eq!(output.head.as_bytes(), &all[..HEAD_SIZE]);
        assert_eq!(output.tail.as_bytes(), &all[all.len() - TAIL_SIZE..]);
        assert_eq!(output.total_bytes, 100_000);
        assert_eq!(
            output.dropped_bytes,
            (100_000 - HEAD_SIZE - TAIL_SIZE) as u64
        );
    }

    #[test]
    fn head_and_tail_never_overlap_while_the_output_grows() {
        let progress = Progress::new();
        for total in 1..=(HEAD_SIZE + TAIL_SIZE + 100) as u64 {
            progress.add_output(b"x");
            let output = progress.output();
            let stored = (output.head.len() + output.tail.len()) as u64;
            assert_eq!(stored + output.dropped_bytes, total);
            assert_eq!(
                output.dropped_bytes,
                total.saturating_sub((HEAD_SIZE + TAIL_SIZE) as u64)
            );
        }
    }

    #[test]
    fn consecutive_windows_have_no_gap_and_no_overlap() {
        let progress = Progress::new();
        let mut sent = String::new();
        for (index, chunk) in "zwölf Boxkämpfer → jagen 😀 Viktor"
            .as_bytes()
            .chunks(1)
            .enumerate()
        {
            progress.add_output(chunk);
            if index % 3 == 0 {
                let window = progress.take_output_window();
                assert_eq!(window.offset, sent.len() as u64);
                sent += &window.text;
            }
        }
        sent += &progress.take_output_window().text;
        assert_eq!(sent, "zwölf Boxkämpfer → jagen 😀 Viktor");
    }

    #[test]
    fn a_window_counts_the_bytes_that_were_dropped_before_it() {
        let progress = Progress::new();
        progress.add_output(&vec![b'a'; OUTPUT_WINDOW_SIZE]);
        progress.add_output(&[b'b'; 100]);
        let window = progress.take_output_window();
        assert_eq!((window.offset, window.dropped_bytes), (100, 100));
        assert_eq!(window.text.len(), OUTPUT_WINDOW_SIZE);
        assert_eq!(progress.take_output_window().dropped_bytes, 0);
    }

    #[test]
    fn an_incomplete_character_is_recognized_by_its_length() {
        assert_eq!(incomplete_suffix(b"ab"), 0);
        assert_eq!(incomplete_suffix("ä".as_bytes()), 0);
        assert_eq!(incomplete_suffix(&"ä".as_bytes()[..1]), 1);
        assert_eq!(incomplete_suffix(&"€€".as_bytes()[..5]), 2);
        assert_eq!(incomplete_suffix(&"😀".as_bytes()[..3]), 3);
        assert_eq!(incomplete_suffix(&[0x80, 0x80, 0x80, 0x80]), 0);
        assert_eq!(incomplete_suffix(&[0xFF]), 0);
    }
}
