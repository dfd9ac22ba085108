//! What to do next: one pure function of state, graph and time.

use super::attempts::{NextAttempt, attempt_after_pause};
use super::standing::{Standing, Terms, halt, standings, task_key};
use super::state::{Millis, Run, Seen, State};
use crate::scud::TaskGraph;

/// One thing to do. Each may be repeated after a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a new attempt at a task.
    Start {
        task: String,
        next: NextAttempt,
    },
    /// Start a run that was about to be started when the last dispatcher ended, or adopt it.
    StartAgain {
        run: String,
    },
    /// Ask the engine to end a run.
    Stop {
        run: String,
        why: String,
    },
    /// The engine says that the run has ended: look for its report in its output, else fence it.
    ReadReport {
        run: String,
    },
    Fence {
        run: String,
        why: String,
    },
    /// Merge the work of a completed run.
    Merge {
        run: String,
    },
}

#[derive(Debug, Clone)]
pub struct Decision {
    pub actions: Vec<Action>,
    /// Where every task stands, by its position in the graph.
    pub standings: Vec<Standing>,
    /// Why nothing new starts, if so.
    pub halted: Option<String>,
    /// Nothing runs, nothing is left to merge, and nothing may start any more.
    pub is_over: bool,
    /// When a pause ends, if one does.
    pub wake_at: Option<Millis>,
}

pub fn decide(state: &State, graph: &TaskGraph, terms: &Terms, now: Millis) -> Decision {
    let standings = standings(state, graph, terms);
    let halted = halt(state, terms);
    let mut actions = Vec::new();
    for (position, run) in state.runs.iter().enumerate() {
        let is_earlier = position < state.earlier_runs;
        let live = || look_after(state, terms, run, is_earlier, halted.is_some(), now);
        actions.extend(run.is_live().then(live).flatten());
    }
    let mut reported: Vec<&Run> = state
        .runs
        .iter()
        .filter(|run| is_to_merge(state, run))
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
                attempt_after_pause(state, terms, &key())
            }
            Standing::Cooling { until } => {
                wake_at = Some(wake_at.map_or(*until, |wake: Millis| wake.min(*until)));
                startable += 1;
                continue;
            }
            _ => continue,
        };
        startable += 1;
        if halted.is_none() && startable_now(running, &actions, terms) {
            let task = key();
            actions.push(Action::Start { task, next });
        }
    }
    let nothing_starts = startable == 0 || halted.is_some();
    Decision {
        is_over: running == 0 && reported.is_empty() && nothing_starts,
        actions,
        standings,
        halted,
        wake_at,
    }
}

fn startable_now(running: usize, actions: &[Action], terms: &Terms) -> bool {
    let starting = actions
        .iter()
        .filter(|action| matches!(action, Action::Start { .. }));
    running + starting.count() < terms.jobs
}

fn is_to_merge(state: &State, run: &Run) -> bool {
    let Some(task) = &run.task else { return false };
    let is_current = state
        .current_run(task)
        .is_some_and(|current| current.id == run.id);
    run.is_completed() && !run.is_merged() && is_current
}

/// What a run needs that has neither reported nor lost its task.
fn look_after(
    state: &State,
    terms: &Terms,
    run: &Run,
    is_earlier: bool,
    is_halted: bool,
    now: Millis,
) -> Option<Action> {
    let id = || run.id.clone();
    let stop = |why: &str| {
        let why = why.to_owned();
        run.stop_asked_at
            .is_none()
            .then(|| Action::Stop { run: id(), why })
    };
    if matches!(run.seen, Seen::Ended(_) | Seen::Gone) && run.handle.is_some() {
        return Some(Action::ReadReport { run: id() });
    }
    let others = run.task.iter().flat_map(|task| state.runs_of(task));
    let is_superseded = { others }.any(|other| other.id != run.id && other.is_completed());
    // The candidate that an earlier dispatcher checked is made anew.
    let is_old_check = run.task.is_none() && is_earlier;
    if run.handle.is_none() {
        let is_unwanted = is_superseded || is_old_check;
        return match (is_earlier, is_unwanted, is_halted) {
            (true, true, _) => Some(Action::Fence {
                run: id(),
                why: "its result is not needed any more".to_owned(),
            }),
            (true, false, true) => Some(Action::Fence {
                run: id(),
                why: "it was not started".to_owned(),
            }),
            (true, false, false) => Some(Action::StartAgain { run: id() }),
            // It is being started.
            (false, ..) => None,
        };
    }
    if is_superseded || is_old_check {
        return stop("its result is not needed any more");
    }
    if run.is_cancelled && run.grant.is_none() {
        return stop("it was cancelled");
    }
    let since = |at: Millis| now - at.max(state.begun_at);
    match &run.grant {
        // An engine can have no room for long.
        None if since(run.started_at.unwrap_or(run.intended_at)) > terms.start_deadline_ms => {
            stop("it has not claimed its task within the start deadline")
        }
        None => None,
        Some(grant) => {
            let heard_at = run.heard_at.unwrap_or(grant.at);
            let lease = Millis::try_from(grant.lease_ms).unwrap_or(Millis::MAX);
            // An engine that does not know is asked again.
            let is_running = run.seen == Seen::Running;
            (since(heard_at) > lease && is_running)
                .then(|| stop("it has been silent for longer than its lease"))
                .flatten()
        }
    }
}

#[cfg(test)]
mod tests;
