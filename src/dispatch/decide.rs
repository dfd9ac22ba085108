//! Decides what to do next, from the state, the graph and the time. No I/O.

use std::time::Duration;

use super::attempts::{NextAttempt, attempt_after_pause};
use super::policy::Policy;
use super::standing::{Standing, halt_reason, standings};
use super::state::{Run, State, WorkerState};
use crate::clock::Millis;
use crate::receiver::CANCELLED_RUN_TIME;
use crate::scud::TaskGraph;

/// While this many finished runs wait for their merge, no new run starts. A run that starts before the waiting work is
/// merged begins at an old commit, so its own merge takes longer: git looks for the merge base in all commits since.
/// This takes about 3 ms with 20 commits and 50 ms with 500. A smaller number would make all jobs wait for the search of
/// the run whose merged work fails its checks, which can take as long as several runs.
const MAX_UNMERGED_RUNS: usize = 64;
/// With many jobs, so many finished runs for each job may wait: the next batch can finish while one is merged and checked.
const MAX_UNMERGED_RUNS_PER_JOB: usize = 2;

/// An action of the dispatcher. `task` is the key of a task, and `run` the id of a run. Each action may be repeated
/// after a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a new attempt at a task.
    Start { task: String, next: NextAttempt },
    /// Start a run that an earlier dispatcher was about to start when it ended. If the engine has the run already, use
    /// that one.
    StartAgain { run: String },
    /// Ask the engine to end a run.
    Stop { run: String, why: String },
    /// The engine says that the run has ended: look for its report and its finished work, and fence it if there is
    /// neither.
    FindResult { run: String },
    /// Forbid a run to work on its task: an earlier dispatcher was about to start it, and now no run may start.
    Fence { run: String, why: String },
    /// The result of a run is not needed: cancel its start. If no engine is starting it, forbid the run to work on its task.
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
    pub halt_reason: Option<String>,
    /// Whether tasks are ready and do not start, because much finished work waits for its merge.
    pub waits_for_merges: bool,
    /// Whether no run is live, no work waits for its merge, and no further run may start.
    pub is_over: bool,
    /// The earliest end of a pause before a next attempt; `None` if no task pauses.
    pub wake_at: Option<Millis>,
}

/// The actions and the standings that follow from the state.
///
/// The actions for live runs come first, then merges in the order of the reports. New runs come last, the most
/// important task first, because they use the jobs that live runs leave free.
pub fn decide(state: &State, graph: &TaskGraph, policy: &Policy, now: Millis) -> Decision {
    let standings = standings(state, graph, policy);
    let halt_reason = halt_reason(state, policy);
    let mut actions = Vec::new();
    for (position, run) in state.open_runs() {
        let is_earlier = position < state.earlier_run_count;
        let action = || action_for(state, policy, run, is_earlier, halt_reason.is_some(), now);
        actions.extend(run.is_live().then(action).flatten());
    }
    let open_runs = state.open_runs().map(|(_, run)| run);
    let mut runs_to_merge: Vec<&Run> = open_runs.filter(|run| must_merge(state, run)).collect();
    runs_to_merge.sort_by_key(|run| run.report.as_ref().map(|report| report.at));
    actions.extend(runs_to_merge.iter().map(|run| Action::Merge {
        run: run.id.clone(),
    }));
    let live = state.live_runs().count();
    let is_backlog_full = runs_to_merge.len() >= max_unmerged_runs(policy)
        && !state
            .live_runs()
            .any(|run| is_stuck_check(policy, run, now));
    let free_jobs = if halt_reason.is_some() || is_backlog_full {
        0
    } else {
        policy.jobs.saturating_sub(live)
    };
    let mut wake_at = None;
    let mut startable = Vec::new();
    for (task, standing) in standings.iter().enumerate() {
        match standing {
            Standing::Cooling { until } if *until > now => {
                wake_at = Some(wake_at.map_or(*until, |wake: Millis| wake.min(*until)));
            }
            Standing::Ready(_) | Standing::Cooling { .. } => startable.push(task),
            _ => {}
        }
    }
    let no_start_is_possible = startable.is_empty() && wake_at.is_none() || halt_reason.is_some();
    let waits_for_merges = is_backlog_full && halt_reason.is_none() && !startable.is_empty();
    for task in most_important(startable, free_jobs, graph) {
        let task_key = graph.tasks[task].key.clone();
        let next = match &standings[task] {
            Standing::Ready(next) => next.clone(),
            _ => attempt_after_pause(state, policy, &task_key),
        };
        actions.push(Action::Start {
            task: task_key,
            next,
        });
    }
    Decision {
        is_over: live == 0 && runs_to_merge.is_empty() && no_start_is_possible,
        actions,
        standings,
        halt_reason,
        waits_for_merges,
        wake_at,
    }
}

/// How many finished runs may wait for their merge while new runs start.
///
/// Nothing that a merge needs waits for a start that this limit prevents: merges and the runs of checks start anyway,
/// and a rejected run no longer waits for its merge. So the number of waiting runs always falls again.
fn max_unmerged_runs(policy: &Policy) -> usize {
    let of_jobs = policy.jobs.saturating_mul(MAX_UNMERGED_RUNS_PER_JOB);
    of_jobs.max(MAX_UNMERGED_RUNS)
}

/// Whether a run that checks merged work has not begun its work for longer than the start deadline, for example because
/// its engine has no capacity. Merges wait for it, but tasks on other engines must not.
fn is_stuck_check(policy: &Policy, run: &Run, now: Millis) -> bool {
    run.task.is_none() && run.grant.is_none() && now - run.intended_at > policy.start_deadline_ms
}

/// The first `count` tasks in the order of their ranks. Does not sort the other tasks: this function runs after every
/// event, and a graph can have thousands of tasks.
fn most_important(mut tasks: Vec<usize>, count: usize, graph: &TaskGraph) -> Vec<usize> {
    if count < tasks.len() {
        if count > 0 {
            tasks.select_nth_unstable_by_key(count, |task| graph.rank(*task));
        }
        tasks.truncate(count);
    }
    tasks.sort_unstable_by_key(|task| graph.rank(*task));
    tasks
}

/// Whether a run has finished work that is not merged, and its result counts for its task.
fn must_merge(state: &State, run: &Run) -> bool {
    let Some(task) = &run.task else { return false };
    let is_current = || {
        state
            .current_run(task)
            .is_some_and(|current| current.id == run.id)
    };
    run.is_completed() && !run.is_merged() && is_current()
}

/// The action that a live run needs. `is_earlier` says whether an earlier dispatcher decided to start the run;
/// `is_halted`, whether no new run may start.
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
    if matches!(run.worker_state, WorkerState::Ended(_) | WorkerState::Gone) && run.handle.is_some()
    {
        return Some(Action::FindResult { run: id() });
    }
    let mut runs_of_task = run.task.iter().flat_map(|task| state.runs_of(task));
    let is_superseded = runs_of_task.any(|other| other.id != run.id && other.is_completed());
    // A run without a task only checks merged work. This dispatcher makes the merges of an earlier one again, so it
    // does not need the checks of the earlier one.
    let is_old_check = run.task.is_none() && is_earlier;
    if run.handle.is_none() {
        let is_unwanted = is_superseded || is_old_check || run.is_cancelled;
        return match (is_earlier, is_unwanted, is_halted) {
            // A worker has claimed the task and may go on working. A repeated start finds this worker by its name, and
            // gives the handle with which it can be stopped.
            (true, ..) if run.grant.is_some() => Some(Action::StartAgain { run: id() }),
            // This dispatcher is still starting the run, and gets its handle when the engine answers.
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
            // This dispatcher is still starting the run.
            (false, ..) => None,
        };
    }
    if is_superseded || is_old_check {
        return stop("its result is not needed any more");
    }
    if run.is_cancelled && run.grant.is_none() {
        return stop("it was cancelled");
    }
    let time_since = |at: Millis| now - at.max(state.listening_since);
    match &run.grant {
        // If the engine had no free slot, the run was started long after the decision.
        None if time_since(run.started_at.unwrap_or(run.intended_at))
            > policy.start_deadline_ms =>
        {
            stop("it has not claimed its task within the start deadline")
        }
        None => None,
        Some(grant) => {
            let last_event_at = run.last_event_at.unwrap_or(grant.at);
            let lease = Duration::from_millis(grant.lease_ms);
            // A worker whose run is cancelled sends nothing until it has pushed its work.
            let max_silence = if run.is_cancelled {
                lease.saturating_add(CANCELLED_RUN_TIME)
            } else {
                lease
            };
            let max_silence = Millis::try_from(max_silence.as_millis()).unwrap_or(Millis::MAX);
            // If the engine gives no answer, the run may have ended, so it is not stopped; the engine is asked again.
            let is_running = run.worker_state == WorkerState::Running;
            (time_since(last_event_at) > max_silence && is_running)
                .then(|| stop("it has been silent for longer than its lease"))
                .flatten()
        }
    }
}

#[cfg(test)]
mod tests;
