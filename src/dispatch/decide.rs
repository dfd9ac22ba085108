//! Decides what to do next, from the state, the graph and the time. No I/O.

use std::time::Duration;

use super::attempts::{NextAttempt, attempt_after_pause};
use super::policy::Policy;
use super::standing::{Standing, halt_reason, standings, task_key};
use super::state::{Run, Seen, State};
use crate::clock::Millis;
use crate::receiver::CANCELLED_RUN_TIME;
use crate::scud::TaskGraph;

/// Something to do. Each action may be repeated after a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a new attempt at a task.
    Start { task: String, next: NextAttempt },
    /// Start a run that the last dispatcher was about to start when it ended. If the run exists already, adopt it.
    StartAgain { run: String },
    /// Ask the engine to end a run.
    Stop { run: String, why: String },
    /// The engine says that the run has ended: look for its report and its work, otherwise fence it.
    ReadReport { run: String },
    /// Forbid a run to work on its task any longer.
    Fence { run: String, why: String },
    /// End the start of a run that is not needed, or forbid the run to work on its task if it is not being started.
    GiveUp { run: String, why: String },
    /// Merge the work of a completed run.
    Merge { run: String },
}

/// The result of [`decide`].
#[derive(Debug, Clone)]
pub struct Decision {
    pub actions: Vec<Action>,
    /// The standing of every task, by its position in the graph.
    pub standings: Vec<Standing>,
    /// Why no new run may start; `None` if new runs may start.
    pub halted: Option<String>,
    /// Whether no run is live, no work waits for its merge, and no further run may start.
    pub is_over: bool,
    /// The end of the shortest pause before a next attempt.
    pub wake_at: Option<Millis>,
}

/// The actions and the standings that follow from the state.
///
/// Live runs come first. Finished work is merged in the order of the reports. New runs come last, the most important
/// task first, because they get the jobs that are left.
pub fn decide(state: &State, graph: &TaskGraph, policy: &Policy, now: Millis) -> Decision {
    let standings = standings(state, graph, policy);
    let halted = halt_reason(state, policy);
    let mut actions = Vec::new();
    for (position, run) in state.runs.iter().enumerate() {
        let is_earlier = position < state.earlier_runs;
        let action = || action_for(state, policy, run, is_earlier, halted.is_some(), now);
        actions.extend(run.is_live().then(action).flatten());
    }
    let mut reported: Vec<&Run> = state
        .runs
        .iter()
        .filter(|run| must_merge(state, run))
        .collect();
    reported.sort_by_key(|run| run.report.as_ref().map(|report| report.at));
    actions.extend(reported.iter().map(|run| Action::Merge {
        run: run.id.clone(),
    }));
    let running = state.live_runs().count();
    let mut wake_at = None;
    let mut startable = 0;
    let mut tasks: Vec<usize> = (0..standings.len()).collect();
    tasks.sort_by_key(|task| graph.rank(*task));
    for task in tasks {
        let key = || task_key(graph, task);
        let next = match &standings[task] {
            Standing::Ready(next) => next.clone(),
            Standing::Cooling { until } if *until <= now => {
                attempt_after_pause(state, policy, &key())
            }
            Standing::Cooling { until } => {
                wake_at = Some(wake_at.map_or(*until, |wake: Millis| wake.min(*until)));
                startable += 1;
                continue;
            }
            _ => continue,
        };
        startable += 1;
        if halted.is_none() && has_free_job(running, &actions, policy) {
            let task = key();
            actions.push(Action::Start { task, next });
        }
    }
    let no_start_is_possible = startable == 0 || halted.is_some();
    Decision {
        is_over: running == 0 && reported.is_empty() && no_start_is_possible,
        actions,
        standings,
        halted,
        wake_at,
    }
}

/// Whether fewer runs are live or about to start than the jobs allow.
fn has_free_job(running: usize, actions: &[Action], policy: &Policy) -> bool {
    let starting = actions
        .iter()
        .filter(|action| matches!(action, Action::Start { .. }));
    running + starting.count() < policy.jobs
}

/// Whether a run has finished work that is not merged, and no newer run has its task.
fn must_merge(state: &State, run: &Run) -> bool {
    let Some(task) = &run.task else { return false };
    let is_current = state
        .current_run(task)
        .is_some_and(|current| current.id == run.id);
    run.is_completed() && !run.is_merged() && is_current
}

/// The action that a live run needs. `is_earlier` says that an earlier dispatcher made the run.
fn action_for(
    state: &State,
    policy: &Policy,
    run: &Run,
    is_earlier: bool,
    is_halted: bool,
    now: Millis,
) -> Option<Action> {
    let id = || run.id.clone();
    let stop = |why: &str| {
        let why = why.to_owned();
        run.stop_requested_at
            .is_none()
            .then(|| Action::Stop { run: id(), why })
    };
    if matches!(run.seen, Seen::Ended(_) | Seen::Gone) && run.handle.is_some() {
        return Some(Action::ReadReport { run: id() });
    }
    let others = run.task.iter().flat_map(|task| state.runs_of(task));
    let is_superseded = { others }.any(|other| other.id != run.id && other.is_completed());
    // A run without a task only checks merged work. This dispatcher merges again, so a check that an earlier one has started is not needed.
    let is_old_check = run.task.is_none() && is_earlier;
    if run.handle.is_none() {
        let is_unwanted = is_superseded || is_old_check || run.is_cancelled;
        return match (is_earlier, is_unwanted, is_halted) {
            // A worker has claimed it and may go on working. The engine finds it by its name, and then it can be stopped.
            (true, ..) if run.grant.is_some() => Some(Action::StartAgain { run: id() }),
            (false, ..) if run.grant.is_some() => None,
            (_, true, _) => Some(Action::GiveUp {
                run: id(),
                why: if run.is_cancelled {
                    "it was cancelled".to_owned()
                } else {
                    "its result is not needed any more".to_owned()
                },
            }),
            (true, false, true) => Some(Action::Fence {
                run: id(),
                why: "it was not started".to_owned(),
            }),
            (true, false, false) => Some(Action::StartAgain { run: id() }),
            // The engine of this dispatcher is still starting the run.
            (false, ..) => None,
        };
    }
    if is_superseded || is_old_check {
        return stop("its result is not needed any more");
    }
    if run.is_cancelled && run.grant.is_none() {
        return stop("it was cancelled");
    }
    let since = |at: Millis| now - at.max(state.listening_since);
    match &run.grant {
        // An engine without capacity may have started the run long after the decision.
        None if since(run.started_at.unwrap_or(run.intended_at)) > policy.start_deadline_ms => {
            stop("it has not claimed its task within the start deadline")
        }
        None => None,
        Some(grant) => {
            let last_event_at = run.last_event_at.unwrap_or(grant.at);
            let lease = Duration::from_millis(grant.lease_ms);
            // A worker that was told to end its run sends nothing until it has pushed its work.
            let silence = if run.is_cancelled {
                lease.saturating_add(CANCELLED_RUN_TIME)
            } else {
                lease
            };
            let silence = Millis::try_from(silence.as_millis()).unwrap_or(Millis::MAX);
            // If the engine gives no answer, it is asked again instead of stopping the run.
            let is_running = run.seen == Seen::Running;
            (since(last_event_at) > silence && is_running)
                .then(|| stop("it has been silent for longer than its lease"))
                .flatten()
        }
    }
}

#[cfg(test)]
mod tests;
