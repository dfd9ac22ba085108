//! What a worker is answered, and what the journal must hold before it is. No I/O.

use hyper::StatusCode;
use serde_json::Value;

use super::journal::Entry;
use super::state::{Millis, State};
use crate::receiver::{Answer, Route};

/// An answer, and the entry that must be on disk before it is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub answer: Answer,
    pub entry: Option<Entry>,
}

impl Reply {
    fn plain(answer: Answer) -> Self {
        Self {
            answer,
            entry: None,
        }
    }

    fn status(status: StatusCode, why: &str) -> Self {
        Self::plain(Answer::new(status, why))
    }
}

/// Decides the answer to an event of a run. `lease_ms` is the lease that a claim would get.
pub fn reply(state: &State, route: Route, event: &Value, lease_ms: u64) -> Reply {
    let text = |pointer| event.pointer(pointer).and_then(Value::as_str);
    let run_id = text("/run_id").unwrap_or_default();
    let Some(run) = state.run(run_id) else {
        return Reply::status(StatusCode::GONE, "this dispatch has no such run");
    };
    let runs = || run.task.iter().flat_map(|task| state.runs_of(task));
    let others = || runs().filter(|other| other.id != run.id);
    match route {
        Route::Started => {
            let is_first = run.grant.is_none();
            if run.fence.is_some() || others().any(super::state::Run::is_completed) {
                Reply::status(StatusCode::GONE, "another run has the task")
            } else if run.report.is_some() {
                Reply::status(StatusCode::CONFLICT, "the run has ended already")
            } else {
                let run = run.id.clone();
                Reply {
                    answer: Answer::new(StatusCode::OK, "ok"),
                    entry: is_first.then_some(Entry::Granted { run, lease_ms }),
                }
            }
        }
        Route::Progress => {
            if run.fence.is_some() {
                Reply::status(StatusCode::CONFLICT, "another run has the task")
            } else if run.is_cancelled {
                Reply::plain(Answer::cancellation("cancelled by the dispatcher"))
            } else {
                Reply::status(StatusCode::OK, "ok")
            }
        }
        Route::Completed | Route::Failed => {
            let is_late = run.fence.is_some();
            let is_repeated =
                |report: &super::state::Report| Some(report.text("/event_id")) == text("/event_id");
            match &run.report {
                Some(report) if is_repeated(report) => Reply::status(StatusCode::OK, "ok"),
                Some(_) => Reply::status(StatusCode::CONFLICT, "the run has ended already"),
                // Finished work is not thrown away, unless another run works or has worked on the task.
                None if is_late && others().any(|other| is_newer(other, run)) => {
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

fn is_newer(other: &super::state::Run, run: &super::state::Run) -> bool {
    other.attempt > run.attempt && (other.grant.is_some() || other.report.is_some())
        || other.is_completed()
}

/// Notes that a run was heard.
pub fn note_event(state: &mut State, route: Route, event: &Value, now: Millis) {
    let run_id = event.pointer("/run_id").and_then(Value::as_str);
    if let Some(run) = run_id.and_then(|id| state.run_mut(id)) {
        run.heard_at = Some(now);
        if route == Route::Progress {
            run.progress = event.get("progress").cloned();
        }
    }
}
