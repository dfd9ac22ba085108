//! Records the events that workers have sent, and the run to which each task belongs.
//! Checks the order of events and their common fields according to docs/protocol.md.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::Value;
use tokio::time::Instant;

use super::envelope;
use super::leases::Lease;
use super::notice::{Answer, Notice, ReceivedEvent};
use super::route::Route;

/// Identifies a task: task ids are unique only within a project.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TaskKey {
    project_id: String,
    task_id: String,
}

/// One run, with the events that it has sent.
#[derive(Debug)]
struct Run {
    task: TaskKey,
    lease: Lease,
    last_sequence: Option<u64>,
    /// The ids of the events that it has sent.
    event_ids: HashSet<String>,
    end: Option<RunEnd>,
}

/// Why a task does not belong to a run any more.
#[derive(Debug)]
enum RunEnd {
    /// Its terminal event arrived.
    Event { id: String, task: TaskEnd },
    /// Its lease was over, and the task was granted to the run with this id.
    Replaced(String),
}

/// The meaning of a terminal event for the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TaskEnd {
    /// The task is completed, or failed in a way that another run would not change.
    Final,
    /// Another run may claim the task.
    Retryable,
}

/// Whether a task may be claimed again after a terminal event that is final.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Repetition {
    #[default]
    Refuse,
    Grant,
}

/// The runs that have sent events.
#[derive(Debug)]
pub struct Ledger {
    /// The runs by their ids.
    runs: HashMap<String, Run>,
    repetition: Repetition,
    /// The length of every lease, if the user has set one.
    fixed_lease: Option<Duration>,
    /// The ids of tasks and runs whose heartbeats are answered with a cancellation.
    cancelled_ids: Vec<String>,
}

impl Ledger {
    pub fn new(
        fixed_lease: Option<Duration>,
        cancelled_ids: Vec<String>,
        repetition: Repetition,
    ) -> Self {
        Self {
            runs: HashMap::new(),
            repetition,
            fixed_lease,
            cancelled_ids,
        }
    }

    /// Handles one request. `scripted_status` replaces the status that the orchestrator would answer.
    ///
    /// # Errors
    /// The answer to a request that is not an event of a run.
    pub fn receive(
        &mut self,
        route: Route,
        body: &[u8],
        scripted_status: Option<StatusCode>,
        now: Instant,
    ) -> Result<ReceivedEvent, Answer> {
        let event: Value = serde_json::from_slice(body)
            .map_err(|error| bad_request(format!("the body is not JSON: {error}")))?;
        let mut received = ReceivedEvent {
            route,
            problems: envelope::problems(route, &event),
            event,
            is_repeated: false,
            answer: Answer::new(StatusCode::OK, "ok"),
        };
        if received.text("/run_id").is_empty() || received.text("/event_id").is_empty() {
            return Err(bad_request(received.problems.join("; ")));
        }
        let scripted = scripted_status.map(|status| Answer::new(status, "scripted by --answer"));
        // An event is not recorded if the scripted answer makes the worker send it again. A claim is not
        // recorded if the scripted answer refuses it.
        let is_recorded = scripted.as_ref().is_none_or(|answer| {
            answer.status.is_success() || route != Route::Started && answer.ends_delivery()
        });
        if is_recorded {
            received.answer = self.add(&mut received, now);
        }
        if let Some(scripted) = scripted {
            received.answer = scripted;
        }
        let answer = &received.answer;
        if route == Route::Progress
            && (answer.cancels || matches!(answer.status.as_u16(), 409 | 410))
            && let Some(run) = self.runs.get_mut(received.text("/run_id"))
        {
            run.lease.extend_for_cancellation();
        }
        Ok(received)
    }

    /// Adds an event to its run, and decides the answer.
    fn add(&mut self, received: &mut ReceivedEvent, now: Instant) -> Answer {
        let (run_id, event_id) = (
            received.text("/run_id").to_owned(),
            received.text("/event_id").to_owned(),
        );
        let task = TaskKey {
            project_id: received.text("/project_id").to_owned(),
            task_id: received.text("/task_id").to_owned(),
        };
        let is_claim = received.route == Route::Started;
        let is_known = self.runs.contains_key(&run_id);
        // A run that was never granted the task is refused while another run works on it.
        if let Some(other) = self.working_run(&task, &run_id, now)
            && (is_claim || !is_known)
        {
            return Answer::new(
                StatusCode::CONFLICT,
                format!("run {other} is working on this task"),
            );
        }
        if is_claim
            && self.repetition == Repetition::Refuse
            && let Some(other) = self.run_with_final_end(&task, &run_id)
        {
            return Answer::new(
                StatusCode::GONE,
                format!("run {other} has ended this task for good"),
            );
        }
        let end = self.runs.get(&run_id).and_then(|run| run.end.as_ref());
        if let Some(RunEnd::Replaced(other)) = end {
            let why = format!("the lease is over, and run {other} has the task now");
            return Answer::new(StatusCode::CONFLICT, why);
        }
        // A repeated claim of a run that has ended grants nothing.
        if is_claim && end.is_none() {
            self.replace_runs_without_lease(&task, &run_id);
        }
        let is_first = !self.runs.contains_key(&run_id);
        let lease = Lease::new(&received.event, self.fixed_lease, now);
        let run = self
            .runs
            .entry(run_id.clone())
            .or_insert_with(|| Run::new(task, lease));
        run.lease.renew(now);
        if run.event_ids.contains(&event_id) {
            received.is_repeated = true;
        } else if let Some(answer) = run.add(event_id, is_first, received) {
            return answer;
        }
        let ids = [received.text("/task_id"), &run_id];
        let is_cancelled = ids
            .iter()
            .any(|id| self.cancelled_ids.iter().any(|other| other == id));
        if received.route == Route::Progress && is_cancelled {
            return Answer::cancellation("cancelled by --cancel");
        }
        Answer::new(StatusCode::OK, "ok")
    }

    /// The id of another run that works on the task and whose lease is not over.
    fn working_run(&self, task: &TaskKey, run_id: &str, now: Instant) -> Option<&str> {
        let mut others = self.runs.iter().filter(|(id, _)| *id != run_id);
        let (id, _) = others
            .find(|(_, run)| run.task == *task && run.end.is_none() && !run.lease.is_over(now))?;
        Some(id)
    }

    /// The id of another run that has ended this task for good.
    fn run_with_final_end(&self, task: &TaskKey, run_id: &str) -> Option<&str> {
        let is_final = |run: &Run| {
            matches!(
                run.end,
                Some(RunEnd::Event {
                    task: TaskEnd::Final,
                    ..
                })
            )
        };
        let mut others = self.runs.iter().filter(|(id, _)| *id != run_id);
        let (id, _) = others.find(|(_, run)| run.task == *task && is_final(run))?;
        Some(id)
    }

    /// Records that the task is now granted to this run, and not to earlier runs, whose leases are over.
    fn replace_runs_without_lease(&mut self, task: &TaskKey, run_id: &str) {
        for (id, run) in &mut self.runs {
            if id != run_id && run.task == *task && run.end.is_none() {
                run.end = Some(RunEnd::Replaced(run_id.to_owned()));
            }
        }
    }

    /// Notices about the leases that ended since the last call.
    pub fn report_ended_leases(&mut self, now: Instant) -> Vec<Notice> {
        let runs = self.runs.iter_mut().filter(|(_, run)| run.end.is_none());
        let ended = runs.filter_map(|(run_id, run)| {
            Some(Notice::LeaseOver {
                silence: run.lease.report_end(now)?,
                task_id: run.task.task_id.clone(),
                run_id: run_id.clone(),
            })
        });
        ended.collect()
    }
}

impl Run {
    fn new(task: TaskKey, lease: Lease) -> Self {
        Self {
            task,
            lease,
            last_sequence: None,
            event_ids: HashSet::new(),
            end: None,
        }
    }

    /// Adds a new event; returns an answer that refuses it if the run has ended.
    fn add(
        &mut self,
        event_id: String,
        is_first: bool,
        received: &mut ReceivedEvent,
    ) -> Option<Answer> {
        if is_first != (received.route == Route::Started) {
            let problem = "a run begins with one started event";
            received.problems.push(problem.to_owned());
        }
        let (sequence, last) = (received.number("/sequence"), self.last_sequence);
        // The server may read an aborted heartbeat after the events that follow it.
        let is_late_heartbeat =
            received.route == Route::Progress && sequence.is_some() && sequence < last;
        if let Some(RunEnd::Event { id, .. }) = &self.end {
            if !is_late_heartbeat {
                let problem = format!("the run ended already, with event {id}");
                received.problems.push(problem);
            }
            return Some(Answer::new(StatusCode::CONFLICT, "the run ended already"));
        }
        if sequence.is_none() || sequence <= last && last.is_some() && !is_late_heartbeat {
            let number = |number: Option<u64>| number.map_or("none".to_owned(), |n| n.to_string());
            let problem = format!(
                "sequence is {}, after {}: it must rise",
                number(sequence),
                number(last)
            );
            received.problems.push(problem);
        }
        self.last_sequence = sequence.max(last);
        if received.route.is_terminal() {
            let retryable = &received.event["failure"]["retryable"];
            let task = match received.route {
                Route::Failed if *retryable != false => TaskEnd::Retryable,
                _ => TaskEnd::Final,
            };
            self.end = Some(RunEnd::Event {
                id: event_id.clone(),
                task,
            });
        }
        self.event_ids.insert(event_id);
        None
    }
}

fn bad_request(message: String) -> Answer {
    Answer::new(StatusCode::BAD_REQUEST, message)
}

#[cfg(test)]
mod tests;
