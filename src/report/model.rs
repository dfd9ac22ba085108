//! The model of a report. The page shows it unchanged.

use super::samples::Samples;
use super::stage::StageInterval;
use super::text::{Cleaner, Text};
use super::text_limits::TextLimits;
use crate::clock::Millis;

/// Everything on the page.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub title: Text,
    pub outcome: Outcome,
    /// One sentence about the outcome.
    pub sentence: Text,
    /// Names and values, for example of the branch.
    pub facts: Vec<(&'static str, Text)>,
    pub written_at: Millis,
    /// The times in which a dispatcher or an orchestrator was running.
    pub sessions: Vec<Interval>,
    pub tasks: Vec<Task>,
    /// Runs that only check merged work.
    pub checks: Vec<Attempt>,
    /// Further sentences about the end.
    pub notes: Vec<Text>,
    /// Commands of the user during the dispatch, with their times.
    pub commands: Vec<(Millis, Text)>,
}

/// How a dispatch or a run has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    Done,
    Failed,
    Stopped,
    #[default]
    Running,
}

/// The time between two points in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    pub from: Millis,
    pub to: Millis,
}

/// A task of the graph.
#[derive(Debug, Clone, Default)]
pub struct Task {
    pub name: Text,
    pub title: Text,
    pub state: State,
    /// The state in words, such as `running`.
    pub word: &'static str,
    /// Whether the task was split. The totals count its subtasks instead.
    pub is_split: bool,
    /// Why the task is blocked.
    pub why: Option<Text>,
    pub priority: Text,
    pub request: Request,
    /// The positions of the tasks that it needs.
    pub needs: Vec<usize>,
    pub attempts: Vec<Attempt>,
}

/// The texts of the task that describe the work.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub description: Option<Text>,
    pub details: Option<Text>,
    pub test_strategy: Option<Text>,
}

impl Request {
    /// The request from a task's description, details and test strategy, in this order.
    pub fn of(texts: [&Option<String>; 3], cleaner: &Cleaner, limits: TextLimits) -> Self {
        let block =
            |text: &Option<String>| Some(cleaner.block(text.as_deref()?, limits.max_message()));
        let [description, details, test_strategy] = texts.map(block);
        Self {
            description,
            details,
            test_strategy,
        }
    }
}

/// The state of a task, which decides its color.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    Done,
    Failed,
    Active,
    #[default]
    Open,
    /// Skipped, cancelled, or split into subtasks.
    Excluded,
}

/// One run.
#[derive(Debug, Clone, Default)]
pub struct Attempt {
    pub run: Text,
    pub number: u32,
    /// The name of the engine; empty if it is unknown.
    pub engine: &'static str,
    pub base: Text,
    /// The prompts of the agent, each with the number of its round. A large page has only the last prompt after
    /// failed checks.
    pub prompts: Vec<(usize, Text)>,
    /// The note in the first prompt, for example about earlier attempts. The first prompt contains it too.
    pub note: Option<Text>,
    /// The memory limit in bytes.
    pub memory: Option<u64>,
    /// The stages in the order in which they began.
    pub stages: Vec<StageInterval>,
    pub end: End,
    /// The last message of the agent.
    pub summary: Option<Text>,
    pub agent: Option<Agent>,
    pub checks: Vec<Check>,
    pub work: Option<Work>,
    pub output: Option<Output>,
    /// The worker's log, which shows the actions of the agent.
    pub log: Option<Text>,
    pub samples: Samples,
    pub merge: MergeEnd,
    pub next_step: Option<NextStep>,
}

/// How an attempt has ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum End {
    #[default]
    Running,
    Completed {
        message: Text,
    },
    Failed {
        reason: Text,
        message: Text,
        detail: Option<Text>,
        is_retryable: bool,
    },
    /// The worker was lost without a report.
    Lost {
        why: Text,
        exit_code: Option<i32>,
        is_out_of_memory: bool,
    },
}

/// The end of the merge of completed work.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum MergeEnd {
    #[default]
    None,
    Waiting,
    /// The commit on the branch.
    Merged(Text),
    Conflict(Text),
    /// The merged work was rejected: the checks failed on it, or workers could not use the files in it.
    Rejected(Text),
}

/// The next step after an attempt that failed, was lost or was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextStep {
    /// The number of the next attempt, and the pause before it.
    Attempt { number: u32, pause: Millis },
    /// Another attempt will follow later.
    LaterAttempt,
    /// No further attempt will be made.
    None,
}

/// What the terminal event says about the agent.
#[derive(Debug, Clone, Default)]
pub struct Agent {
    pub kind: Text,
    pub model: Option<Text>,
    pub exit_code: Option<i64>,
    pub turns: Option<u64>,
    pub tool_calls: Option<u64>,
    pub cost_usd: Option<f64>,
    pub usage: Option<Usage>,
}

/// Numbers of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub input: u64,
    pub output: u64,
    /// Read from the model's cache or written to it.
    pub cached: u64,
}

impl Usage {
    pub fn total(self) -> u64 {
        self.input
            .saturating_add(self.output)
            .saturating_add(self.cached)
    }
}

/// The result of one check.
#[derive(Debug, Clone)]
pub struct Check {
    pub command: Text,
    pub exit_code: Option<i64>,
    pub duration: Millis,
    pub output: Text,
}

/// The agent's changes, as commits.
#[derive(Debug, Clone, Default)]
pub struct Work {
    pub base: Text,
    pub head: Text,
    pub branch: Option<Text>,
    pub files_changed: u64,
    pub insertions: u64,
    pub deletions: u64,
    pub files: Vec<File>,
    pub patch: Option<Text>,
    /// Whether the end of the patch is missing.
    pub is_truncated: bool,
}

/// A changed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub path: Text,
    pub insertions: u64,
    pub deletions: u64,
    pub is_binary: bool,
}

/// The output of the agent.
#[derive(Debug, Clone, Default)]
pub struct Output {
    pub text: Text,
    pub total_bytes: u64,
}

impl Attempt {
    /// The cost that the terminal event reports, or else the highest cost in a heartbeat.
    pub fn cost_usd(&self) -> Option<f64> {
        let reported = self.agent.as_ref().and_then(|agent| agent.cost_usd);
        let costs = self.samples.iter().filter_map(|sample| sample.cost_usd);
        reported.or_else(|| costs.reduce(f64::max))
    }

    /// Whether the page has the prompt of the first round. It contains the note.
    pub fn has_first_prompt(&self) -> bool {
        self.prompts.iter().any(|(round, _)| *round == 1)
    }

    /// When the first stage began.
    pub fn started_at(&self) -> Option<Millis> {
        self.stages.iter().map(|stage| stage.from).min()
    }

    /// When the last stage ended.
    pub fn ended_at(&self) -> Option<Millis> {
        self.stages.iter().map(|stage| stage.to).max()
    }

    pub fn duration(&self) -> Millis {
        match (self.started_at(), self.ended_at()) {
            (Some(from), Some(to)) => to - from,
            _ => 0,
        }
    }

    /// Whether the attempt failed, was lost, or its work was rejected.
    pub fn is_failed(&self) -> bool {
        matches!(self.end, End::Failed { .. } | End::Lost { .. })
            || matches!(self.merge, MergeEnd::Conflict(_) | MergeEnd::Rejected(_))
    }
}
