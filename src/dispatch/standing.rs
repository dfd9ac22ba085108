//! Where each task of the dispatch stands: the graph at the integration tip, and the runs.
//!
//! Pure: the failure table of docs/dispatch.md is here.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::state::{Fence, Merge, Millis, Report, Run, State};
use crate::scud::{Standing as InGraph, TaskGraph};
use crate::task::Reason;

/// What the person has asked for, and what time there is.
#[derive(Debug, Clone)]
pub struct Terms {
    pub jobs: usize,
    /// How many attempts a task has.
    pub attempts: u32,
    pub max_budget_usd: Option<f64>,
    pub start_deadline_ms: Millis,
    /// The pause before the second attempt; it doubles with every further one.
    pub retry_delay_ms: Millis,
    /// The positions of the tasks to work on.
    pub scope: HashSet<usize>,
    /// What the person has asked for with Ctrl-C.
    pub stopping: Stopping,
}

impl Terms {
    pub fn new(settings: &super::settings::Settings, scope: HashSet<usize>) -> Self {
        let millis = |duration: std::time::Duration| {
            Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
        };
        Self {
            jobs: settings.jobs,
            attempts: settings.attempts,
            max_budget_usd: settings.max_budget_usd,
            start_deadline_ms: millis(settings.start_deadline),
            retry_delay_ms: millis(settings.retry_delay),
            scope,
            stopping: Stopping::No,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stopping {
    #[default]
    No,
    /// Nothing new starts.
    AfterRunning,
    /// What runs is cancelled.
    Cancelling,
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Done,
    /// Another task must be done first, and can be.
    Waiting,
    Ready {
        attempt: u32,
        note: Option<String>,
    },
    /// Waits before the next attempt.
    Cooling {
        until: Millis,
    },
    /// A run that the engine has started, or is about to.
    Launching(String),
    Working(String),
    /// The run has completed, and its work is not merged yet.
    Reported(String),
    Blocked(String),
    Skipped,
    /// Split into subtasks.
    Split,
    /// Not part of this dispatch.
    Outside,
}

impl Standing {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Waiting => "waiting",
            Self::Ready { .. } => "ready",
            Self::Cooling { .. } => "cooling",
            Self::Launching(_) => "launching",
            Self::Working(_) => "working",
            Self::Reported(_) => "merging",
            Self::Blocked(_) => "blocked",
            Self::Skipped => "skipped",
            Self::Split => "split",
            Self::Outside => "outside",
        }
    }

    /// The run that works on the task.
    pub fn run(&self) -> Option<&str> {
        match self {
            Self::Launching(run) | Self::Working(run) | Self::Reported(run) => Some(run),
            _ => None,
        }
    }
}

/// The name of a task in the journal.
pub fn task_key(graph: &TaskGraph, task: usize) -> String {
    let node = &graph.tasks[task];
    format!("{}:{}", node.phase, node.id)
}

/// Where every task stands, by its position in the graph.
pub fn standings(state: &State, graph: &TaskGraph, terms: &Terms) -> Vec<Standing> {
    let mut all = vec![Standing::Outside; graph.tasks.len()];
    for task in graph.order.iter().copied() {
        all[task] = standing(state, graph, terms, task, &all);
    }
    all
}

fn standing(
    state: &State,
    graph: &TaskGraph,
    terms: &Terms,
    task: usize,
    known: &[Standing],
) -> Standing {
    let node = &graph.tasks[task];
    let key = task_key(graph, task);
    let run = state.current_run(&key);
    if node.is_done || run.is_some_and(Run::is_merged) {
        return Standing::Done;
    }
    if !terms.scope.contains(&task) {
        return match &node.standing {
            InGraph::Split => split(graph, task, known),
            _ => Standing::Outside,
        };
    }
    let asked = state.tasks.get(&key);
    if let Some(run) = run {
        if run.is_completed() {
            return Standing::Reported(run.id.clone());
        }
        if run.is_live() {
            return match run.grant {
                Some(_) => Standing::Working(run.id.clone()),
                None => Standing::Launching(run.id.clone()),
            };
        }
    }
    if asked.is_some_and(|asked| asked.is_skipped) {
        return Standing::Skipped;
    }
    match &node.standing {
        InGraph::Blocked(why) => {
            let why: Vec<String> = why.iter().map(|why| graph.describe(why)).collect();
            return Standing::Blocked(why.join("; "));
        }
        InGraph::Closed => return Standing::Blocked(format!("is {}", node.status)),
        InGraph::Split => return split(graph, task, known),
        InGraph::Done | InGraph::Ready | InGraph::Waiting(_) => {}
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
    if asked.is_some_and(|asked| asked.is_cancelled) {
        return Standing::Blocked("was cancelled".to_owned());
    }
    next_attempt(state, terms, &key)
}

/// Why a task cannot be done because of one that it needs.
fn first_obstacle(graph: &TaskGraph, needs: &[usize], known: &[Standing]) -> Option<String> {
    needs.iter().find_map(|needed| {
        let name = graph.name(*needed);
        match &known[*needed] {
            Standing::Blocked(_) => Some(format!("needs {name}, which is blocked")),
            Standing::Skipped => Some(format!("needs {name}, which is skipped")),
            Standing::Outside => Some(format!(
                "needs {name}, which is not done and not part of this dispatch"
            )),
            _ => None,
        }
    })
}

/// An expanded task is done when its subtasks are, also those whose merge is newer than the graph.
fn split(graph: &TaskGraph, task: usize, known: &[Standing]) -> Standing {
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

/// What follows from the ended runs of a task that could run.
fn next_attempt(state: &State, terms: &Terms, key: &str) -> Standing {
    let all: Vec<&Run> = state.runs_of(key).collect();
    let runs_before_retry = state
        .tasks
        .get(key)
        .map_or(0, |task| task.runs_before_retry);
    let counted: Vec<&Run> = all.iter().skip(runs_before_retry).copied().collect();
    let attempt = all.last().map_or(0, |run| run.attempt) + 1;
    let Some(last) = counted.last() else {
        let note = all.last().and_then(|run| note_after(run));
        return Standing::Ready { attempt, note };
    };
    let tried = u32::try_from(counted.len()).unwrap_or(u32::MAX);
    let after = match (&last.merge, &last.report, &last.fence) {
        (Merge::Conflict(_) | Merge::Red(_), ..) => after_rejected_work(&counted),
        (_, Some(report), _) => after_failure(report, &counted),
        (_, None, fence) => After::Retry {
            why: fence
                .as_ref()
                .map_or("", |fence| fence.why.as_str())
                .to_owned(),
        },
    };
    let position = state.runs.iter().position(|run| run.id == last.id);
    let is_earlier = position.is_some_and(|position| position < state.earlier_runs);
    match after {
        After::Now => Standing::Ready {
            attempt,
            note: note_after(last),
        },
        // A person has started the dispatch again, presumably after setting it right.
        After::BlockUntilNextStart { .. } if is_earlier => Standing::Ready {
            attempt,
            note: None,
        },
        After::Block { why } | After::BlockUntilNextStart { why } => Standing::Blocked(why),
        After::Retry { why } if tried >= terms.attempts => Standing::Blocked(format!(
            "has failed {tried} times, the last time: {why}{}",
            whereabouts(last)
        )),
        After::Retry { .. } => {
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
            Standing::Cooling { until }
        }
    }
}

/// The attempt that a task has after its pause.
pub fn attempt_after_pause(state: &State, key: &str) -> (u32, Option<String>) {
    let last = state.runs_of(key).next_back();
    let attempt = last.map_or(0, |run| run.attempt) + 1;
    (attempt, last.and_then(note_after))
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

/// What to do after a run that has ended without success.
#[derive(Debug, Clone, PartialEq, Eq)]
enum After {
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
fn after_rejected_work(counted: &[&Run]) -> After {
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
            After::Block { why }
        }
        _ => After::Now,
    }
}

/// The failure table: what to do after a failure that a worker has reported.
fn after_failure(report: &Report, counted: &[&Run]) -> After {
    let word = report.reason();
    let message = report.text("/message");
    let why = format!("{word}: {message}");
    let blocked = || After::Block {
        why: format!(
            "{why}{}",
            counted
                .last()
                .map_or_else(String::new, |run| whereabouts(run))
        ),
    };
    let reason = Reason::ALL.into_iter().find(|reason| reason.word() == word);
    match reason {
        Some(Reason::AgentNotFound | Reason::Cancelled) => After::BlockUntilNextStart { why },
        Some(
            Reason::AgentKilled
            | Reason::Interrupted
            | Reason::Internal
            | Reason::WorkspaceFailed
            | Reason::Unclaimed
            | Reason::OutOfMemory,
        ) => After::Retry { why },
        Some(Reason::PushFailed | Reason::ApiError) if report.is_retryable() => {
            After::Retry { why }
        }
        Some(Reason::Idle) => {
            let is_idle = |run: &&&Run| {
                let report = run.report.as_ref();
                report.is_some_and(|report| report.reason() == Reason::Idle.word())
            };
            match counted.iter().filter(is_idle).count() {
                // Two attempts in all.
                0 | 1 => After::Retry { why },
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

/// Why nothing new may start, if so.
pub fn halt(state: &State, terms: &Terms) -> Option<String> {
    if terms.stopping > Stopping::No {
        return Some("stopped by a signal".to_owned());
    }
    if let Some(why) = &state.engine_refusal {
        return Some(why.clone());
    }
    let cost = state.cost_usd();
    if let Some(budget) = terms.max_budget_usd.filter(|budget| cost >= *budget) {
        return Some(format!(
            "the budget is used up: {cost:.2} of {budget:.2} US dollars"
        ));
    }
    let mut ended: Vec<&Run> = state.runs.iter().skip(state.earlier_runs).collect();
    ended.retain(|run| run.task.is_some() && !run.is_live());
    for run in &ended {
        let report = run.report.as_ref();
        if let Some(report) =
            report.filter(|report| report.reason() == Reason::AgentNotFound.word())
        {
            return Some(report.text("/message").to_owned());
        }
        if let Some(fence) = run
            .fence
            .as_ref()
            .filter(|fence| fence.exit_code == Some(2))
        {
            return Some(format!("a worker rejects its settings: {}", fence.why));
        }
    }
    systemic(&mut ended)
}

/// Three tasks in a row with one reason that is not the tasks' fault.
fn systemic(ended: &mut [&Run]) -> Option<String> {
    const SYSTEMIC: [Reason; 4] = [
        Reason::WorkspaceFailed,
        Reason::PushFailed,
        Reason::ApiError,
        Reason::Internal,
    ];
    ended.sort_by_key(|run| {
        run.report
            .as_ref()
            .map_or(run.intended_at, |report| report.at)
    });
    let mut tasks: Vec<&str> = Vec::new();
    let mut reason = None;
    for run in ended.iter().rev() {
        let (Some(report), Some(task)) = (&run.report, run.task.as_deref()) else {
            break;
        };
        let word = report.reason();
        let is_systemic = SYSTEMIC.iter().any(|known| known.word() == word);
        if !is_systemic || *reason.get_or_insert(word) != word {
            break;
        }
        if !tasks.contains(&task) {
            tasks.push(task);
        }
        if tasks.len() == 3 {
            let message = report.text("/message");
            return Some(format!(
                "three tasks in a row failed with {word}: {message}"
            ));
        }
    }
    None
}
