//! Decides the answer to a worker's event, and the journal entry that must be on disk before the answer is sent. No
//! I/O.

use hyper::StatusCode;
use serde_json::Value;

use super::journal::Entry;
use super::state::{Report, Run, State};
use crate::clock::Millis;
use crate::receiver::{Answer, Route};

/// An answer to a worker, and the journal entry that must be on disk before the answer is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub answer: Answer,
    pub entry: Option<Entry>,
}

impl Reply {
    /// A reply with an answer that needs no journal entry.
    fn without_entry(answer: Answer) -> Self {
        Self {
            answer,
            entry: None,
        }
    }

    /// A reply with a status and a message for the log of the worker, and without a journal entry.
    fn status(status: StatusCode, message: &str) -> Self {
        Self::without_entry(Answer::new(status, message))
    }
}

/// Decides the answer to an event of a run. `lease_ms` is the lease that a claim would get.
pub fn reply(state: &State, route: Route, event: &Value, lease_ms: u64) -> Reply {
    let text = |pointer| event.pointer(pointer).and_then(Value::as_str);
    let run_id = text("/run_id").unwrap_or_default();
    let Some(run) = state.run(run_id) else {
        return Reply::status(StatusCode::GONE, "this dispatch has no such run");
    };
    let runs_of_task = || run.task.iter().flat_map(|task| state.runs_of(task));
    let others = || runs_of_task().filter(|other| other.id != run.id);
    match route {
        Route::Started => {
            let is_first_claim = run.grant.is_none();
            let claimed_at = text("/timestamp");
            if run.fence.is_some() || others().any(Run::is_completed) {
                Reply::status(StatusCode::GONE, "another run has the task")
            } else if run.report.is_some() {
                Reply::status(StatusCode::CONFLICT, "the run has ended already")
            } else if run.is_cancelled {
                Reply::status(StatusCode::GONE, "the run is cancelled")
            } else if is_of_another_worker(run, claimed_at) {
                Reply::status(StatusCode::GONE, "another worker of this run has the task")
            } else {
                Reply {
                    answer: Answer::new(StatusCode::OK, "ok"),
                    entry: is_first_claim.then(|| Entry::Granted {
                        run: run.id.clone(),
                        lease_ms,
                        claimed_at: claimed_at.map(str::to_owned),
                    }),
                }
            }
        }
        Route::Progress => {
            if run.fence.is_some() {
                Reply::status(StatusCode::CONFLICT, "another run has the task")
            } else if run.is_cancelled {
                Reply::without_entry(Answer::cancellation("cancelled by the dispatcher"))
            } else {
                Reply::status(StatusCode::OK, "ok")
            }
        }
        Route::Completed | Route::Failed => {
            let is_fenced = run.fence.is_some();
            let is_repeated = |report: &Report| Some(report.event_id.as_str()) == text("/event_id");
            match &run.report {
                Some(report) if is_repeated(report) => Reply::status(StatusCode::OK, "ok"),
                Some(_) => Reply::status(StatusCode::CONFLICT, "the run has ended already"),
                // A fenced run may still report, so that its finished work is used, unless a newer run has the task.
                None if is_fenced && others().any(|other| has_taken_over(other, run)) => {
                    Reply::status(StatusCode::CONFLICT, "another run has the task")
                }
                None => Reply {
                    answer: Answer::new(StatusCode::OK, "ok"),
                    entry: Some(Entry::Reported {
                        run: run.id.clone(),
                        event: event.clone(),
                    }),
                },
            }
        }
    }
}

/// Whether a claim comes from another worker than the claim that was accepted. A worker repeats its claim with the same
/// time. The ids of claims do not distinguish workers: all workers of a run number their events in the same way.
fn is_of_another_worker(run: &Run, claimed_at: Option<&str>) -> bool {
    let grant = run.grant.as_ref();
    // `None` in the journal of an older version.
    let time_of_granted_claim = grant.and_then(|grant| grant.claimed_at.as_deref());
    time_of_granted_claim.is_some() && time_of_granted_claim != claimed_at
}

/// Whether another run has completed the task of a run, or is a later attempt that has claimed it or has ended.
fn has_taken_over(other: &Run, run: &Run) -> bool {
    other.attempt > run.attempt && (other.grant.is_some() || other.report.is_some())
        || other.is_completed()
}

/// Stores the time of an event, and the progress of a heartbeat, in the state. They are not written to the journal. Ignores an
/// event that `answer` rejects: it can come from a second worker of the run, and says nothing about the first one.
pub fn record_event(state: &mut State, route: Route, event: &Value, answer: &Answer, now: Millis) {
    if !answer.status.is_success() {
        return;
    }
    let run_id = event.pointer("/run_id").and_then(Value::as_str);
    if let Some(run) = run_id.and_then(|id| state.run_mut(id)) {
        run.last_event_at = Some(now);
        if route == Route::Progress {
            run.progress = event.get("progress").cloned();
            if let Some(progress) = &run.progress {
                run.samples.add(now, progress);
            }
        }
    }
}

#[cfg(test)]
mod tests;
