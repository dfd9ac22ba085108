//! Computes the standing of each task (its state in this dispatch) from the graph at the tip of the integration branch
//! and from the runs. No I/O. The module `attempts` decides the next step after ended runs.

use super::attempts::{NextAttempt, NextStep, after_ended_runs};
use super::policy::{Policy, Stopping};
use super::state::{Run, State};
use crate::amounts::dollars;
use crate::clock::Millis;
use crate::scud::{Standing as StandingInGraph, TaskGraph};
use crate::task::{Reason, Status};

/// The standing of a task. The texts of `Launching`, `Working` and `Merging` are the ids of the runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Done,
    /// Tasks that this task needs are not done yet.
    Waiting,
    /// The next attempt may start now.
    Ready(NextAttempt),
    /// The task pauses before its next attempt.
    Cooling {
        until: Millis,
    },
    /// A run of the task was started, or is being started, and has not claimed it yet.
    Launching(String),
    /// A run has claimed the task.
    Working(String),
    /// The run has completed, and its work is not merged yet.
    Merging(String),
    /// The task cannot be done, for this reason.
    Blocked(String),
    /// A user has skipped the task with `dispatch skip`.
    Skipped,
    /// The task is cancelled or deferred in the graph.
    Closed,
    /// The task is split into subtasks.
    Split,
    /// The task is not part of this dispatch.
    Outside,
}

impl Standing {
    /// The word in the table of the terminal and in `dispatch status`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Waiting => "waiting",
            Self::Ready(_) => "ready",
            Self::Cooling { .. } => "cooling",
            Self::Launching(_) => "launching",
            Self::Working(_) => "working",
            Self::Merging(_) => "merging",
            Self::Blocked(_) => "blocked",
            Self::Skipped => "skipped",
            Self::Closed => "closed",
            Self::Split => "split",
            Self::Outside => "outside",
        }
    }
}

/// The standing of every task, by its position in the graph.
pub fn standings(state: &State, graph: &TaskGraph, policy: &Policy) -> Vec<Standing> {
    let mut all = vec![Standing::Outside; graph.tasks.len()];
    for task in graph.order.iter().copied() {
        all[task] = standing(state, graph, policy, task, &all);
    }
    all
}

/// The standing of one task. `known` has the standings of all tasks that it needs, and of its subtasks.
///
/// Runs have priority over requests of the user, because finished work counts even if the task is skipped. Obstacles in
/// the graph have priority over failures of runs, because a further attempt would not remove the obstacles.
fn standing(
    state: &State,
    graph: &TaskGraph,
    policy: &Policy,
    task: usize,
    known: &[Standing],
) -> Standing {
    let node = &graph.tasks[task];
    if node.is_done {
        return Standing::Done;
    }
    let key = &node.key;
    let run = state.current_run(key);
    if run.is_some_and(Run::is_merged) {
        return Standing::Done;
    }
    if !policy.scope.contains(&task) {
        return match &node.standing {
            StandingInGraph::Split => standing_of_expanded(graph, task, known),
            _ => Standing::Outside,
        };
    }
    let requests = state.tasks.get(key);
    if let Some(run) = run {
        if run.is_completed() {
            return Standing::Merging(run.id.clone());
        }
        if run.is_live() {
            return match run.grant {
                Some(_) => Standing::Working(run.id.clone()),
                None => Standing::Launching(run.id.clone()),
            };
        }
    }
    if requests.is_some_and(|requests| requests.is_skipped) {
        return Standing::Skipped;
    }
    match &node.standing {
        StandingInGraph::Blocked(why) => {
            let why: Vec<String> = why.iter().map(|why| graph.describe(why)).collect();
            return Standing::Blocked(why.join("; "));
        }
        StandingInGraph::Closed if matches!(node.status, Status::Cancelled | Status::Deferred) => {
            return Standing::Closed;
        }
        StandingInGraph::Closed => return Standing::Blocked(format!("is {}", node.status)),
        StandingInGraph::Split => return standing_of_expanded(graph, task, known),
        StandingInGraph::Done | StandingInGraph::Ready | StandingInGraph::Waiting(_) => {}
    }
    if let Some(mistake) = policy.broken_definitions.get(key) {
        return Standing::Blocked(format!(
            "its worker could not start, because of a mistake on the branch {}: {mistake}",
            state.branch
        ));
    }
    if let Some(obstacle) = first_obstacle(graph, &node.needs, known) {
        return Standing::Blocked(obstacle);
    }
    if node
        .needs
        .iter()
        .any(|needed| known[*needed] != Standing::Done)
    {
        return Standing::Waiting;
    }
    if requests.is_some_and(|requests| requests.is_cancelled) {
        return Standing::Blocked(
            "was cancelled; `descartes-worker dispatch retry` gives it new attempts".to_owned(),
        );
    }
    match after_ended_runs(state, policy, key) {
        NextStep::Start(next) => Standing::Ready(next),
        NextStep::Pause { until } => Standing::Cooling { until },
        NextStep::Block { why } => Standing::Blocked(why),
    }
}

/// Why a task is blocked by one that it needs; `None` if no needed task blocks it.
fn first_obstacle(graph: &TaskGraph, needs: &[usize], known: &[Standing]) -> Option<String> {
    needs.iter().find_map(|needed| {
        let name = graph.name(*needed);
        match &known[*needed] {
            Standing::Blocked(_) => Some(format!("needs {name}, which is blocked")),
            Standing::Skipped => Some(format!("needs {name}, which is skipped")),
            Standing::Closed => Some(format!(
                "needs {name}, which is {}",
                graph.tasks[*needed].status
            )),
            Standing::Outside => Some(format!(
                "needs {name}, which is not done and not part of this dispatch"
            )),
            _ => None,
        }
    })
}

/// The standing of an expanded task, which is done when all its subtasks are done. The standings of the subtasks count
/// and not their marks in the graph: a merged subtask may not be marked yet.
fn standing_of_expanded(graph: &TaskGraph, task: usize, known: &[Standing]) -> Standing {
    let subtasks = &graph.tasks[task].subtasks;
    if subtasks
        .iter()
        .all(|subtask| known[*subtask] == Standing::Done)
    {
        return Standing::Done;
    }
    match first_obstacle(graph, subtasks, known) {
        Some(obstacle) => Standing::Blocked(obstacle),
        None => Standing::Split,
    }
}

/// Why no new run may start; `None` if runs may start.
pub fn halt_reason(state: &State, policy: &Policy) -> Option<String> {
    if policy.stopping > Stopping::No {
        return Some("stopped by a signal".to_owned());
    }
    if let Some(why) = &state.engine_refusal {
        return Some(why.clone());
    }
    let cost = state.cost_usd;
    if let Some(budget) = policy.max_budget_usd.filter(|budget| cost >= *budget) {
        return Some(format!(
            "the budget is used up: {} of {}",
            dollars(cost),
            dollars(budget)
        ));
    }
    let mut ended_runs: Vec<&Run> = state.runs.iter().skip(state.earlier_run_count).collect();
    ended_runs.retain(|run| run.task.is_some() && !run.is_live());
    for run in &ended_runs {
        let report = run.report.as_ref();
        if let Some(report) = report.filter(|report| report.reason == Reason::AgentNotFound.word())
        {
            return Some(report.message.clone());
        }
        // A worker ends with exit code 2 if a setting is invalid.
        if let Some(fence) = run.fence.as_ref().filter(|fence| fence.end.code == Some(2)) {
            return Some(format!("a worker rejects its settings: {}", fence.why));
        }
    }
    systemic_failure(&mut ended_runs)
}

/// A message if the last three tasks failed for the same reason, and that reason would affect every task.
/// Sorts the runs by time.
fn systemic_failure(ended_runs: &mut [&Run]) -> Option<String> {
    const SYSTEMIC_REASONS: [Reason; 4] = [
        Reason::WorkspaceFailed,
        Reason::PushFailed,
        Reason::ApiError,
        Reason::Internal,
    ];
    ended_runs.sort_by_key(|run| {
        run.report
            .as_ref()
            .map_or(run.intended_at, |report| report.at)
    });
    let mut tasks: Vec<&str> = Vec::new();
    let mut reason = None;
    for run in ended_runs.iter().rev() {
        let (Some(report), Some(task)) = (&run.report, run.task.as_deref()) else {
            break;
        };
        let word = report.reason.as_str();
        let is_systemic = SYSTEMIC_REASONS.iter().any(|known| known.word() == word);
        if !is_systemic || *reason.get_or_insert(word) != word {
            break;
        }
        if !tasks.contains(&task) {
            tasks.push(task);
        }
        if tasks.len() == 3 {
            let message = &report.message;
            return Some(format!(
                "three tasks in a row failed with {word}: {message}"
            ));
        }
    }
    None
}
