//! What follows from the ended runs of a task: the next attempt, a pause before it, or a block.
//!
//! Pure: the failure table of docs/dispatch.md is here.

use std::fmt::Write as _;

use super::state::{Fence, Merge, Millis, Report, Run, State};
use super::terms::Terms;
use crate::task::Reason;

/// What follows from the ended runs of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    Start(NextAttempt),
    /// The next attempt starts after a pause.
    Pause {
        until: Millis,
    },
    Block {
        why: String,
    },
}

/// An attempt at a task that may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextAttempt {
    pub number: u32,
    /// What its agent is told about the earlier ones.
    pub note: Option<String>,
    /// The memory that it may use, in bytes; `None` if nobody has set a limit.
    pub memory: Option<u64>,
}

impl NextAttempt {
    /// The attempt after all earlier ones of a task.
    fn after(earlier: &[&Run], terms: &Terms) -> Self {
        let last = earlier.last();
        Self {
            number: last.map_or(0, |run| run.attempt) + 1,
            note: last.and_then(|run| note_after(run)),
            memory: memory_after(earlier, terms),
        }
    }
}

/// Twice the memory of a run that had too little, but no more than the maximum; the same memory after any
/// other failure.
fn memory_after(earlier: &[&Run], terms: &Terms) -> Option<u64> {
    let needed = earlier.iter().filter_map(|run| match run.memory {
        Some(memory) if run.is_out_of_memory() => Some(memory.saturating_mul(2)),
        memory => memory,
    });
    let needed = needed.map(|memory| memory.min(terms.max_memory)).max();
    terms.memory.max(needed)
}

/// What follows from the ended runs of a task that could run.
pub fn after_ended_runs(state: &State, terms: &Terms, key: &str) -> After {
    let all: Vec<&Run> = state.runs_of(key).collect();
    let runs_before_retry = state
        .tasks
        .get(key)
        .map_or(0, |task| task.runs_before_retry);
    let counted: Vec<&Run> = all.iter().skip(runs_before_retry).copied().collect();
    let next = || NextAttempt::after(&all, terms);
    let Some(last) = counted.last() else {
        return After::Start(next());
    };
    let tried = u32::try_from(counted.len()).unwrap_or(u32::MAX);
    let after = match (&last.merge, &last.report, &last.fence) {
        (Merge::Conflict(_) | Merge::Red(_), ..) => after_rejected_work(&counted),
        (_, Some(report), _) => after_failure(report, &counted),
        (_, None, fence) => Rule::Retry {
            why: fence
                .as_ref()
                .map_or("", |fence| fence.why.as_str())
                .to_owned(),
        },
    };
    let position = state.runs.iter().position(|run| run.id == last.id);
    let is_earlier = position.is_some_and(|position| position < state.earlier_runs);
    match after {
        Rule::Now => After::Start(next()),
        // A person has started the dispatch again, presumably after setting it right.
        Rule::BlockUntilNextStart { .. } if is_earlier => After::Start(NextAttempt {
            note: None,
            ..next()
        }),
        Rule::Block { why } | Rule::BlockUntilNextStart { why } => After::Block { why },
        Rule::Retry { why } if tried >= terms.attempts => After::Block {
            why: format!(
                "has failed {tried} times, the last time: {why}{}",
                whereabouts(last)
            ),
        },
        Rule::Retry { .. } => {
            let ended = [
                last.report.as_ref().map(|report| report.at),
                last.fence.as_ref().map(|fence| fence.at),
            ];
            let ended = ended
                .into_iter()
                .flatten()
                .max()
                .unwrap_or(last.intended_at);
            let until = ended + delay(terms.retry_delay_ms, tried, &last.id);
            After::Pause { until }
        }
    }
}

/// The attempt that a task has after its pause.
pub fn attempt_after_pause(state: &State, terms: &Terms, key: &str) -> NextAttempt {
    let all: Vec<&Run> = state.runs_of(key).collect();
    NextAttempt::after(&all, terms)
}

/// The longest pause between two attempts.
const MAX_DELAY_MS: Millis = 5 * 60 * 1000;

/// The pause after a number of attempts: it doubles, up to five minutes, and differs between runs by up to a
/// quarter, so that tasks that failed together do not start together.
fn delay(first: Millis, tried: u32, run: &str) -> Millis {
    let doubled = first.saturating_mul(1 << tried.saturating_sub(1).min(20));
    let longest = doubled.min(MAX_DELAY_MS);
    let spread: Millis = run
        .bytes()
        .fold(7, |sum, byte| (sum * 31 + Millis::from(byte)) % 1000);
    longest - longest * spread / 4000
}

/// What the failure table says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// The next attempt, at once.
    Now,
    /// The next attempt, after a pause.
    Retry {
        why: String,
    },
    Block {
        why: String,
    },
    /// The task is not at fault: the next dispatcher tries it again.
    BlockUntilNextStart {
        why: String,
    },
}

/// Work that conflicts, or that makes the checks of others fail, is done again once.
fn after_rejected_work(counted: &[&Run]) -> Rule {
    let is_rejected = |run: &&&Run| matches!(run.merge, Merge::Conflict(_) | Merge::Red(_));
    let rejected: Vec<&&Run> = counted.iter().filter(is_rejected).collect();
    let branches: Vec<&str> = rejected
        .iter()
        .filter_map(|run| run.report.as_ref()?.branch())
        .collect();
    match rejected.last() {
        Some(last) if rejected.len() > 1 => {
            let what = match last.merge {
                Merge::Conflict(_) => "its work conflicts with merged work again",
                _ => "the checks fail on its merged work again",
            };
            let why = format!("{what}; its work is on {}", branches.join(" and "));
            Rule::Block { why }
        }
        _ => Rule::Now,
    }
}

/// The failure table: what to do after a failure that a worker has reported.
fn after_failure(report: &Report, counted: &[&Run]) -> Rule {
    let word = report.reason();
    let message = report.text("/message");
    let why = format!("{word}: {message}");
    let blocked = || Rule::Block {
        why: format!(
            "{why}{}",
            counted
                .last()
                .map_or_else(String::new, |run| whereabouts(run))
        ),
    };
    let reason = Reason::ALL.into_iter().find(|reason| reason.word() == word);
    match reason {
        Some(Reason::AgentNotFound | Reason::Cancelled) => Rule::BlockUntilNextStart { why },
        Some(
            Reason::AgentKilled
            | Reason::Interrupted
            | Reason::Internal
            | Reason::WorkspaceFailed
            | Reason::Unclaimed
            | Reason::OutOfMemory,
        ) => Rule::Retry { why },
        Some(Reason::PushFailed | Reason::ApiError) if report.is_retryable() => Rule::Retry { why },
        Some(Reason::Idle) => {
            let is_idle = |run: &&&Run| {
                let report = run.report.as_ref();
                report.is_some_and(|report| report.reason() == Reason::Idle.word())
            };
            match counted.iter().filter(is_idle).count() {
                // Two attempts in all.
                0 | 1 => Rule::Retry { why },
                _ => blocked(),
            }
        }
        _ => blocked(),
    }
}

/// Where the work of a run that is not done lies.
fn whereabouts(run: &Run) -> String {
    let branch = run.report.as_ref().and_then(Report::branch);
    branch.map_or_else(String::new, |branch| {
        format!("; its work so far is on {branch}")
    })
}

/// What the next attempt is told about a run.
fn note_after(run: &Run) -> Option<String> {
    match (&run.merge, &run.report, &run.fence) {
        (Merge::Conflict(note) | Merge::Red(note), ..) => Some(note.clone()),
        (_, Some(report), _) if !report.is_completed() => {
            let mut note = format!(
                "An earlier attempt at this task failed ({}): {}",
                report.reason(),
                report.text("/message")
            );
            if let Some(branch) = report.branch() {
                let _ = write!(note, "\nIts work so far is on the branch {branch}.");
            }
            Some(note)
        }
        (_, None, Some(Fence { why, .. })) => {
            Some(format!("An earlier attempt at this task was lost: {why}."))
        }
        _ => None,
    }
}
