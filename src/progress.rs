//! What a run has done so far: `runner` writes it, heartbeats and the status line read it.
//!
//! Constant memory however much an agent prints: the first bytes, the last bytes and what no
//! heartbeat has told yet are kept, everything else is counted. What comes in here is redacted.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::Spent;
use crate::ring_buffer::RingBuffer;
use crate::task::Output;

/// The first output kept for the final report; start-up messages are seldom longer.
pub const HEAD: usize = 4 * 1024;
/// The last output kept for the final report (the protocol says 8 KiB).
pub const TAIL: usize = 8 * 1024;
/// The most that one heartbeat carries (the protocol says 16 KiB).
pub const WINDOW: usize = 16 * 1024;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Preparing,
    Agent,
    Checks,
    /// What was made is on its way out.
    HandOver,
}

impl Phase {
    /// Every phase, in the order of a run.
    pub const ALL: [Self; 4] = [Self::Preparing, Self::Agent, Self::Checks, Self::HandOver];

    /// The word on the wire.
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

/// A run's progress; cheap to clone, all clones are the same one.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    phase: Phase,
    began: Instant,
    last_life: Instant,
    activity: Option<String>,
    spent: Spent,
    head: Vec<u8>,
    tail: RingBuffer,
    untold: RingBuffer,
    /// Bytes that left `untold` without having been told.
    untold_lost: u64,
    total: u64,
}

/// One look at a run's progress.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub phase: Phase,
    pub elapsed: Duration,
    /// How long there has been no sign of life.
    pub idle: Duration,
    /// The last thing the agent did or said, one line.
    pub activity: Option<String>,
    /// What the agent has taken so far, as far as it tells.
    pub spent: Spent,
    /// All that was heard so far.
    pub output_bytes: u64,
}

impl Snapshot {
    /// One line for people.
    pub fn message(&self) -> String {
        let phase = self.phase;
        match &self.activity {
            Some(activity) => format!("{phase}: {activity}"),
            None => phase.to_string(),
        }
    }
}

/// The output that no heartbeat has told yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Where `text` begins, in bytes of the whole redacted output.
    pub offset: u64,
    pub text: String,
    /// How many bytes `text` stands for.
    pub bytes: u64,
    /// What was cut between the previous window and this one.
    pub dropped_bytes: u64,
}

impl Progress {
    pub fn new() -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(State {
            phase: Phase::Preparing,
            began: now,
            last_life: now,
            activity: None,
            spent: Spent::default(),
            head: Vec::with_capacity(HEAD),
            tail: RingBuffer::new(TAIL),
            untold: RingBuffer::new(WINDOW),
            untold_lost: 0,
            total: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not take the last report with it.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A new phase begins; that is a sign of life.
    pub fn enter(&self, phase: Phase) {
        let mut state = self.state();
        state.phase = phase;
        state.activity = None;
        state.last_life = Instant::now();
    }

    /// A sign of life that is no output of its own.
    pub fn alive(&self) {
        self.state().last_life = Instant::now();
    }

    /// What the agent is about, one line.
    pub fn activity(&self, line: &str) {
        self.state().activity = Some(line.to_owned());
    }

    /// What the agent has taken so far.
    pub fn spent(&self, spent: Spent) {
        self.state().spent = spent;
    }

    /// The agent printed this (redacted already).
    pub fn heard(&self, bytes: &[u8]) {
        let mut state = self.state();
        let room = HEAD - state.head.len();
        state
            .head
            .extend_from_slice(&bytes[..room.min(bytes.len())]);
        state.tail.push(bytes);
        let lost = state.untold.push(bytes);
        state.untold_lost += lost;
        state.total += bytes.len() as u64;
    }

    pub fn last_life(&self) -> Instant {
        self.state().last_life
    }

    pub fn elapsed(&self) -> Duration {
        self.state().began.elapsed()
    }

    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        Snapshot {
            phase: state.phase,
            elapsed: state.began.elapsed(),
            idle: state.last_life.elapsed(),
            activity: state.activity.clone(),
            spent: state.spent,
            output_bytes: state.total,
        }
    }

    /// Takes what no heartbeat has told yet; what it gives is never given again.
    pub fn take_window(&self) -> Window {
        let mut state = self.state();
        let mut bytes = state.untold.take();
        // A character whose end has not come yet waits for the next window.
        let whole = bytes.len() - incomplete_suffix(&bytes);
        let rest = bytes.split_off(whole);
        let window = Window {
            offset: state.total - (bytes.len() + rest.len()) as u64,
            text: String::from_utf8_lossy(&bytes).into_owned(),
            bytes: bytes.len() as u64,
            dropped_bytes: std::mem::take(&mut state.untold_lost),
        };
        state.untold.push(&rest);
        window
    }

    /// A window was taken, but nobody got it: its bytes count as dropped before the next one.
    pub fn untold(&self, window: &Window) {
        self.state().untold_lost += window.dropped_bytes + window.bytes;
    }

    /// The first and the last of everything heard.
    pub fn output(&self) -> Output {
        let state = self.state();
        let tail = state.tail.bytes();
        let total = state.total;
        // The head is what the tail does not hold already.
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

/// How many bytes at the end are the beginning of a UTF-8 character that is not whole.
fn incomplete_suffix(bytes: &[u8]) -> usize {
    for (back, byte) in bytes.iter().rev().take(3).enumerate() {
        let needed = match byte {
            0x80..=0xBF => continue,
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => 1,
        };
        let there = back + 1;
        return if needed > there { there } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_output_is_all_tail() {
        let progress = Progress::new();
        progress.heard(b"hello");
        let output = progress.output();
        assert_eq!((output.head.as_str(), output.tail.as_str()), ("", "hello"));
        assert_eq!((output.total_bytes, output.dropped_bytes), (5, 0));
    }

    #[test]
    fn long_output_keeps_its_two_ends_and_counts_the_middle() {
        let progress = Progress::new();
        let all: Vec<u8> = (0..100_000u32).map(|n| b'a' + (n % 26) as u8).collect();
        for chunk in all.chunks(777) {
            progress.heard(chunk);
        }
        let output = progress.output();
        assert_eq!(output.head.as_bytes(), &all[..HEAD]);
        assert_eq!(output.tail.as_bytes(), &all[all.len() - TAIL..]);
        assert_eq!(output.total_bytes, 100_000);
        assert_eq!(output.dropped_bytes, (100_000 - HEAD - TAIL) as u64);
    }

    #[test]
    fn head_and_tail_never_overlap_while_the_output_grows() {
        let progress = Progress::new();
        for total in 1..=(HEAD + TAIL + 100) as u64 {
            progress.heard(b"x");
            let output = progress.output();
            let kept = (output.head.len() + output.tail.len()) as u64;
            assert_eq!(kept + output.dropped_bytes, total);
            assert_eq!(
                output.dropped_bytes,
                total.saturating_sub((HEAD + TAIL) as u64)
            );
        }
    }

    #[test]
    fn windows_follow_each_other_without_gap_or_overlap() {
        let progress = Progress::new();
        let mut told = String::new();
        for (index, chunk) in "zwölf Boxkämpfer → jagen 😀 Viktor"
            .as_bytes()
            .chunks(1)
            .enumerate()
        {
            progress.heard(chunk);
            if index % 3 == 0 {
                let window = progress.take_window();
                assert_eq!(window.offset, told.len() as u64);
                told += &window.text;
            }
        }
        told += &progress.take_window().text;
        assert_eq!(told, "zwölf Boxkämpfer → jagen 😀 Viktor");
    }

    #[test]
    fn a_window_counts_what_was_cut_before_it() {
        let progress = Progress::new();
        progress.heard(&vec![b'a'; WINDOW]);
        progress.heard(&[b'b'; 100]);
        let window = progress.take_window();
        assert_eq!((window.offset, window.dropped_bytes), (100, 100));
        assert_eq!(window.text.len(), WINDOW);
        assert_eq!(progress.take_window().dropped_bytes, 0);
    }

    #[test]
    fn a_character_that_is_not_whole_yet_waits() {
        assert_eq!(incomplete_suffix(b"ab"), 0);
        assert_eq!(incomplete_suffix("ä".as_bytes()), 0);
        assert_eq!(incomplete_suffix(&"ä".as_bytes()[..1]), 1);
        assert_eq!(incomplete_suffix(&"€€".as_bytes()[..5]), 2);
        assert_eq!(incomplete_suffix(&"😀".as_bytes()[..3]), 3);
        assert_eq!(incomplete_suffix(&[0x80, 0x80, 0x80, 0x80]), 0);
        assert_eq!(incomplete_suffix(&[0xFF]), 0);
    }
}
