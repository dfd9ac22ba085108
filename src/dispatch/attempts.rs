//! Decides the next step after the ended runs of a task: the next attempt, a pause before it, or a block.
//!
//! No I/O. This is the table "When something fails" of docs/dispatch.md.

use std::fmt::Write as _;

use super::policy::Policy;
use super::state::{Fence, Merge, Report, Run, State};
use crate::clock::Millis;
use crate::task::Reason;

/// The next step for a task with ended runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextStep {
    Start(NextAttempt),
    /// The next attempt starts after a pause.
    Pause {
        until: Millis,
    },
    /// The task gets no further attempt.
    Block {
        why: String,
    },
}

/// An attempt at a task that may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextAttempt {
    /// The number of the attempt, counted from 1.
    pub number: u32,
    /// The text about the last attempt for the agent's prompt.
    pub note: Option<String>,
    /// The memory limit in bytes; `None` for no limit.
    pub memory: Option<u64>,
}

impl NextAttempt {
    /// The attempt that follows the earlier runs of a task.
    fn after(earlier: &[&Run], policy: &Policy, key: &str) -> Self {
        let last = earlier.iter().rev().find(|run| counts_as_attempt(run));
        Self {
            number: earlier.last().map_or(0, |run| run.attempt) + 1,
            note: last.and_then(|run| note_after(run)),
            memory: memory_after(earlier, policy, key),
        }
    }
}

/// Whether a run counts as an attempt. It does not if it was given up before it claimed its task.
fn counts_as_attempt(run: &Run) -> bool {
    run.report.is_some() || run.fence.as_ref().is_none_or(|fence| !fence.is_given_up)
}

/// The memory limit of the next attempt in bytes: twice the limit of a run that ran out of memory, up to the maximum,
/// and the same limit after any other failure.
fn memory_after(earlier: &[&Run], policy: &Policy, key: &str) -> Option<u64> {
    let needed = earlier.iter().filter_map(|run| match run.memory {
        Some(memory) if run.is_out_of_memory() => Some(memory.saturating_mul(2)),
        memory => memory,
    });
    let needed = needed.map(|memory| memory.min(policy.max_memory)).max();
    policy.first_memory(key).max(needed)
}

/// The next step for a task with ended runs and no other obstacle. `key` is the key of the task. Only the runs since
/// the user's last `dispatch retry` count.
pub fn after_ended_runs(state: &State, policy: &Policy, key: &str) -> NextStep {
    let all: Vec<&Run> = state.runs_of(key).collect();
    let runs_before_retry = state
        .tasks
        .get(key)
        .map_or(0, |task| task.runs_before_retry);
    let counted = all.iter().skip(runs_before_retry).copied();
    let counted: Vec<&Run> = counted.filter(|run| counts_as_attempt(run)).collect();
    let next = || NextAttempt::after(&all, policy, key);
    let Some(last) = counted.last() else {
        return NextStep::Start(next());
    };
    let attempts = u32::try_from(counted.len()).unwrap_or(u32::MAX);
    let rule = match (&last.report, &last.fence) {
        _ if last.merge.rejection_note().is_some() => after_rejected_work(&counted),
        (Some(report), _) => after_failure(report, &counted),
        (None, fence) => Rule::RetryAfterPause {
            why: fence
                .as_ref()
                .map_or("", |fence| fence.why.as_str())
                .to_owned(),
        },
    };
    let is_earlier = state.is_earlier(last);
    match rule {
        Rule::RetryNow => NextStep::Start(next()),
        // The dispatcher was started again after the failure, so a user has probably fixed the cause.
        Rule::BlockUntilNextStart { .. } if is_earlier => NextStep::Start(NextAttempt {
            note: None,
            ..next()
        }),
        Rule::Block { why } | Rule::BlockUntilNextStart { why } => NextStep::Block { why },
        Rule::RetryAfterPause { why } if attempts >= policy.attempts => NextStep::Block {
            why: format!(
                "has failed {attempts} times, the last time: {why}{}",
                branch_note(last)
            ),
        },
        Rule::RetryAfterPause { .. } => {
            let end_times = [
                last.report.as_ref().map(|report| report.at),
                last.fence.as_ref().map(|fence| fence.at),
            ];
            let ended_at = end_times
                .into_iter()
                .flatten()
                .max()
                .unwrap_or(last.intended_at);
            let until = ended_at + retry_delay_ms(policy.retry_delay_ms, attempts, &last.id);
            NextStep::Pause { until }
        }
    }
}

/// The next attempt at a task whose pause is over.
pub fn attempt_after_pause(state: &State, policy: &Policy, key: &str) -> NextAttempt {
    let all: Vec<&Run> = state.runs_of(key).collect();
    NextAttempt::after(&all, policy, key)
}

/// The longest pause between two attempts, in milliseconds.
const MAX_DELAY_MS: Millis = 5 * 60 * 1000;

/// The pause after a number of attempts, in milliseconds. It doubles with each attempt, up to [`MAX_DELAY_MS`], and is
/// shortened by up to a quarter depending on the id of the run, so that tasks that failed together do not start
/// together.
fn retry_delay_ms(first_delay_ms: Millis, attempts: u32, run_id: &str) -> Millis {
    let doubled = first_delay_ms.saturating_mul(1 << attempts.saturating_sub(1).min(20));
    let delay = doubled.min(MAX_DELAY_MS);
    let hash: Millis = run_id
        .bytes()
        .fold(7, |sum, byte| (sum * 31 + Millis::from(byte)) % 1000);
    delay - delay * hash / 4000
}

/// A row of the failure table.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    RetryNow,
    /// Starts the next attempt after a pause. Blocks the task if it has used all its attempts.
    RetryAfterPause {
        why: String,
    },
    Block {
        why: String,
    },
    /// Blocks the task until the dispatcher is started again: a user must fix the cause, and the task itself need not
    /// change.
    BlockUntilNextStart {
        why: String,
    },
}

/// The next step if the work of the last run was rejected at its merge: one further attempt, then a block.
fn after_rejected_work(counted: &[&Run]) -> Rule {
    let is_rejected = |run: &&&Run| run.merge.rejection_note().is_some();
    let rejected: Vec<&&Run> = counted.iter().filter(is_rejected).collect();
    let branches: Vec<&str> = rejected
        .iter()
        .filter_map(|run| run.report.as_ref()?.branch())
        .collect();
    match rejected.last() {
        Some(last) if rejected.len() > 1 => {
            let cause = match &last.merge {
                Merge::Conflict(_) => "it conflicts with merged work".to_owned(),
                Merge::Unusable { why, .. } => why.clone(),
                _ => "the checks fail on its merged work".to_owned(),
            };
            let count = rejected.len();
            let branches = branches.join(" and ");
            let why = format!(
                "its work was rejected {count} times, the last time because {cause}; its work is on {branches}"
            );
            Rule::Block { why }
        }
        _ => Rule::RetryNow,
    }
}

/// The failure table: the next step after a failure that a worker has reported.
fn after_failure(report: &Report, counted: &[&Run]) -> Rule {
    let word = report.reason.as_str();
    let message = &report.message;
    let why = format!("{word}: {message}");
    let why_with_branch = || {
        let branch = counted.last().map(|run| branch_note(run));
        format!("{why}{}", branch.unwrap_or_default())
    };
    let block = || Rule::Block {
        why: why_with_branch(),
    };
    let reason = Reason::ALL.into_iter().find(|reason| reason.word() == word);
    match reason {
        Some(Reason::AgentNotFound | Reason::Cancelled) => Rule::BlockUntilNextStart { why },
        // The cause is in the project's files or in the command of a check, which a user must correct.
        Some(Reason::WorkspaceFailed) if !report.is_retryable => Rule::BlockUntilNextStart {
            why: why_with_branch(),
        },
        _ if !report.is_retryable => block(),
        Some(
            Reason::AgentKilled
            | Reason::Interrupted
            | Reason::Internal
            | Reason::WorkspaceFailed
            | Reason::PushFailed
            | Reason::ApiError
            | Reason::Unclaimed
            | Reason::OutOfMemory,
        ) => Rule::RetryAfterPause { why },
        Some(Reason::Idle) => {
            let is_idle = |run: &&&Run| {
                let report = run.report.as_ref();
                report.is_some_and(|report| report.reason == Reason::Idle.word())
            };
            match counted.iter().filter(is_idle).count() {
                // The task gets one further attempt after its first idle one.
                0 | 1 => Rule::RetryAfterPause { why },
                _ => block(),
            }
        }
        _ => block(),
    }
}

/// The part of a message that names the branch with the unfinished work of a run; empty if there is no branch.
fn branch_note(run: &Run) -> String {
    let branch = run.report.as_ref().and_then(Report::branch);
    branch.map_or_else(String::new, |branch| {
        format!("; its work so far is on {branch}")
    })
}

/// The text about a run for the prompt of the next attempt.
fn note_after(run: &Run) -> Option<String> {
    if let Some(note) = run.merge.rejection_note() {
        return Some(note.to_owned());
    }
    match (&run.report, &run.fence) {
        (Some(report), _) if !report.is_completed() => {
            let mut note = format!(
                "An earlier attempt at this task failed ({}): {}",
                report.reason, report.message
            );
            if let Some(branch) = report.branch() {
                let _ = write!(note, "\nIts work so far is on the branch {branch}.");
            }
            Some(note)
        }
        (None, Some(Fence { why, .. })) => {
            Some(format!("An earlier attempt at this task was lost: {why}."))
        }
        _ => None,
    }
}
