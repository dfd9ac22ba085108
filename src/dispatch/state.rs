//! The state of a dispatch: what the journal says about every run, and what the dispatcher has seen since it started.
//!
//! No I/O. [`State::apply`] adds one record of the journal. The modules `decide` and `claims` read the state.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::journal::{Entry, Handle, Record, UserCommand};
use crate::task::Reason;

/// A point in time, in milliseconds since 1970.
pub type Millis = i64;

/// Everything that is known about a dispatch.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub dispatch: String,
    pub branch: String,
    pub runs: Vec<Run>,
    by_id: BTreeMap<String, usize>,
    /// By `phase:id`.
    pub tasks: BTreeMap<String, TaskState>,
    /// How many runs there were when this dispatcher started. The failures of those runs do not halt it.
    pub earlier_runs: usize,
    /// When this dispatcher started.
    pub begun_at: Millis,
    /// The address that the dispatcher listened on last.
    pub listen: Option<String>,
    /// The engines that the last dispatcher used.
    pub engines: Vec<String>,
    /// The reason of an engine that refuses all runs.
    pub engine_refusal: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub struct TaskState {
    /// Positions in [`State::runs`], in the order of the attempts.
    pub runs: Vec<usize>,
    pub is_skipped: bool,
    /// Whether a user has cancelled it.
    pub is_cancelled: bool,
    /// How many runs the task had at the last `retry`. They do not count as attempts.
    pub runs_before_retry: usize,
}

/// One attempt at a task, or one check of a commit.
#[derive(Debug, Clone)]
pub struct Run {
    pub id: String,
    /// `phase:id`; `None` for a run that only checks a commit.
    pub task: Option<String>,
    pub attempt: u32,
    /// The commit that it works on.
    pub base: String,
    /// What the prompt says about earlier attempts.
    pub note: Option<String>,
    /// The memory limit in bytes.
    pub memory: Option<u64>,
    pub intended_at: Millis,
    pub handle: Option<Handle>,
    /// When the engine had started it.
    pub started_at: Option<Millis>,
    pub grant: Option<Grant>,
    pub report: Option<Report>,
    pub fence: Option<Fence>,
    pub merge: Merge,
    /// The user has cancelled the run, or its task.
    pub is_cancelled: bool,
    /// What the engine said last. This field and the following ones are not in the journal.
    pub seen: Seen,
    pub last_event_at: Option<Millis>,
    pub stop_requested_at: Option<Millis>,
    pub stop_reason: Option<String>,
    /// `progress` of the last heartbeat.
    pub progress: Option<Value>,
}

/// The claim of a run was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub at: Millis,
    pub lease_ms: u64,
}

/// The report of a run that has ended.
#[derive(Debug, Clone)]
pub struct Report {
    pub at: Millis,
    pub origin: Origin,
    /// The terminal event.
    pub event: Value,
}

/// Where a report comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The worker has sent or printed it.
    Worker,
    /// The worker was lost, and finished work was found on its branch. The event holds only the branch and the commit.
    Branch,
}

/// The mark of a run that may not work on its task any longer: its claims and heartbeats are rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    pub at: Millis,
    pub why: String,
    pub end: End,
}

/// The merge of the work of a completed run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Merge {
    /// Not merged yet.
    #[default]
    Open,
    /// The commit on the integration branch.
    Merged(String),
    /// Rejected because of a conflict. The text is for the prompt of the next attempt.
    Conflict(String),
    /// Rejected because checks fail on the merged work. The text is for the prompt of the next attempt.
    Red(String),
}

/// What the engine says about the process or machine of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Seen {
    /// The engine gave no answer. This never means that the run has ended.
    #[default]
    Unknown,
    Running,
    /// It has ended.
    Ended(End),
    /// There is no such process or machine.
    Gone,
}

/// How a run has ended, according to its engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    /// The exit code, if the engine knows it.
    pub code: Option<i32>,
    /// Whether it was killed because its memory was not enough.
    pub is_out_of_memory: bool,
}

impl From<Option<i32>> for End {
    fn from(code: Option<i32>) -> Self {
        Self {
            code,
            is_out_of_memory: false,
        }
    }
}

impl Report {
    /// The report that follows from a branch with finished work.
    fn of_branch(at: Millis, branch: &str, commit: &str) -> Self {
        let event = json!({
            "status": "completed",
            "message": "the work was found on its branch",
            "result": { "work": { "branch": branch, "head_commit": commit } },
        });
        Self {
            at,
            origin: Origin::Branch,
            event,
        }
    }

    /// The string at a JSON pointer, or the empty string.
    pub fn text(&self, pointer: &str) -> &str {
        let value = self.event.pointer(pointer);
        value.and_then(Value::as_str).unwrap_or_default()
    }

    pub fn is_completed(&self) -> bool {
        self.text("/status") == "completed"
    }

    pub fn reason(&self) -> &str {
        self.text("/failure/reason")
    }

    pub fn is_retryable(&self) -> bool {
        self.event.pointer("/failure/retryable") == Some(&Value::Bool(true))
    }

    /// The branch that the work was pushed to.
    pub fn branch(&self) -> Option<&str> {
        let branch = self.event.pointer("/result/work/branch");
        branch.and_then(Value::as_str)
    }

    pub fn cost_usd(&self) -> f64 {
        let cost = self.event.pointer("/result/agent/cost_usd");
        cost.and_then(Value::as_f64).unwrap_or_default()
    }
}

impl Run {
    /// Whether the run may still work: it has neither reported nor lost its task.
    pub fn is_live(&self) -> bool {
        self.report.is_none() && self.fence.is_none()
    }

    /// Whether the run has reported success, and its work is not rejected.
    pub fn is_completed(&self) -> bool {
        let completed = self.report.as_ref().is_some_and(Report::is_completed);
        completed && matches!(self.merge, Merge::Open | Merge::Merged(_))
    }

    /// Whether the run has failed because its memory was not enough.
    pub fn is_out_of_memory(&self) -> bool {
        let (report, fence) = (self.report.as_ref(), self.fence.as_ref());
        report.is_some_and(|report| report.reason() == Reason::OutOfMemory.word())
            || fence.is_some_and(|fence| fence.end.is_out_of_memory)
    }

    pub fn is_merged(&self) -> bool {
        matches!(self.merge, Merge::Merged(_))
    }
}

impl State {
    /// The state after some records.
    pub fn of(records: &[Record]) -> Self {
        let mut state = Self::default();
        for record in records {
            state.apply(record);
        }
        state
    }

    /// The runs that still hold their task.
    pub fn live_runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.is_live())
    }

    /// The runs that still hold their task, mutably.
    pub fn live_runs_mut(&mut self) -> impl Iterator<Item = &mut Run> {
        self.runs.iter_mut().filter(|run| run.is_live())
    }

    pub fn run(&self, id: &str) -> Option<&Run> {
        self.by_id.get(id).map(|at| &self.runs[*at])
    }

    pub fn run_mut(&mut self, id: &str) -> Option<&mut Run> {
        self.by_id.get(id).map(|at| &mut self.runs[*at])
    }

    /// The runs of a task, in the order of the attempts.
    pub fn runs_of(&self, task: &str) -> impl DoubleEndedIterator<Item = &Run> + use<'_> {
        let runs = self.tasks.get(task).map(|task| task.runs.as_slice());
        runs.unwrap_or_default().iter().map(|at| &self.runs[*at])
    }

    /// The run whose result counts for a task: one that has completed, else the latest.
    pub fn current_run(&self, task: &str) -> Option<&Run> {
        let completed = self.runs_of(task).find(|run| run.is_completed());
        completed.or_else(|| self.runs_of(task).next_back())
    }

    /// The cost of all runs in US dollars. Agents that report no cost count as 0.
    pub fn cost_usd(&self) -> f64 {
        let reports = self.runs.iter().filter_map(|run| run.report.as_ref());
        reports.map(Report::cost_usd).sum()
    }

    /// Adds a record of the journal.
    pub fn apply(&mut self, record: &Record) {
        let at = record.at;
        match &record.entry {
            Entry::Created { dispatch, branch } => {
                self.dispatch.clone_from(dispatch);
                self.branch.clone_from(branch);
            }
            Entry::Begun {
                listen, engines, ..
            } => {
                self.engines.clone_from(engines);
                self.engine_refusal = None;
                self.earlier_runs = self.runs.len();
                self.begun_at = at;
                self.listen = Some(listen.clone());
            }
            Entry::Intent {
                run,
                task,
                attempt,
                base,
                note,
                memory,
            } => self.add_run(Run {
                id: run.clone(),
                task: task.clone(),
                attempt: *attempt,
                base: base.clone(),
                note: note.clone(),
                memory: *memory,
                intended_at: at,
                handle: None,
                started_at: None,
                grant: None,
                report: None,
                fence: None,
                merge: Merge::Open,
                seen: Seen::Unknown,
                last_event_at: None,
                stop_requested_at: None,
                stop_reason: None,
                is_cancelled: false,
                progress: None,
            }),
            Entry::Asked { what, task } => self.apply_command(*what, task.as_deref()),
            Entry::Ended { .. } => {}
            Entry::Handle { run, .. }
            | Entry::NotStarted { run, .. }
            | Entry::Granted { run, .. }
            | Entry::Reported { run, .. }
            | Entry::Harvested { run, .. }
            | Entry::Fenced { run, .. }
            | Entry::Merged { run, .. }
            | Entry::Conflict { run, .. }
            | Entry::Red { run, .. } => {
                if let Entry::NotStarted {
                    why,
                    is_refused: true,
                    ..
                } = &record.entry
                {
                    self.engine_refusal = Some(why.clone());
                }
                if let Some(run) = self.run_mut(run) {
                    run.apply(at, &record.entry);
                }
            }
        }
    }

    fn add_run(&mut self, run: Run) {
        let at = self.runs.len();
        self.by_id.insert(run.id.clone(), at);
        if let Some(task) = &run.task {
            let task = self.tasks.entry(task.clone()).or_default();
            task.runs.push(at);
        }
        self.runs.push(run);
    }

    fn apply_command(&mut self, what: UserCommand, task: Option<&str>) {
        let Some(task) = task else { return };
        let task = self.tasks.entry(task.to_owned()).or_default();
        match what {
            UserCommand::Retry => {
                task.is_skipped = false;
                task.is_cancelled = false;
                task.runs_before_retry = task.runs.len();
            }
            UserCommand::Skip => task.is_skipped = true,
            UserCommand::Cancel => {
                task.is_cancelled = true;
                for run in &task.runs {
                    self.runs[*run].is_cancelled |= self.runs[*run].is_live();
                }
            }
        }
    }
}

impl Run {
    fn apply(&mut self, at: Millis, entry: &Entry) {
        match entry {
            Entry::Handle { handle, .. } => {
                self.handle = Some(handle.clone());
                self.started_at = Some(at);
            }
            Entry::NotStarted { why, .. } => {
                self.fence = Some(Fence {
                    at,
                    why: why.clone(),
                    end: End::default(),
                });
            }
            Entry::Granted { lease_ms, .. } => {
                self.grant = Some(Grant {
                    at,
                    lease_ms: *lease_ms,
                });
            }
            Entry::Reported { event, .. } => {
                let (origin, event) = (Origin::Worker, event.clone());
                self.report.get_or_insert(Report { at, origin, event });
            }
            Entry::Harvested { branch, commit, .. } => {
                self.report
                    .get_or_insert_with(|| Report::of_branch(at, branch, commit));
            }
            Entry::Fenced {
                why,
                exit_code,
                is_out_of_memory,
                ..
            } => {
                self.fence = Some(Fence {
                    at,
                    why: why.clone(),
                    end: End {
                        code: *exit_code,
                        is_out_of_memory: *is_out_of_memory,
                    },
                });
            }
            Entry::Merged { commit, .. } => self.merge = Merge::Merged(commit.clone()),
            Entry::Conflict { note, .. } => self.merge = Merge::Conflict(note.clone()),
            Entry::Red { note, .. } => self.merge = Merge::Red(note.clone()),
            _ => {}
        }
    }
}
