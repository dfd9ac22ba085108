//! The state of one run.

use serde_json::Value;

use super::report::{Origin, Report};
use crate::clock::Millis;
use crate::dispatch::journal::{Entry, Handle};
use crate::report::Samples;
use crate::task::Reason;

/// One attempt at a task, or one check of a commit.
#[derive(Debug, Clone)]
pub struct Run {
    pub id: String,
    /// `phase:id`; `None` for a run that only checks a commit.
    pub task: Option<String>,
    /// The number of the attempt, counted from 1.
    pub attempt: u32,
    /// The commit on which the run works.
    pub base: String,
    /// The text about the last attempt for the agent's prompt.
    pub note: Option<String>,
    /// The memory limit in bytes.
    pub memory: Option<u64>,
    /// When the dispatcher decided to start the run.
    pub intended_at: Millis,
    /// The word of the engine that starts the run; `None` while the run waits for a free slot.
    pub engine: Option<String>,
    /// The identity with which the engine finds the run again; `None` until the engine has confirmed the start.
    pub handle: Option<Handle>,
    /// When the engine confirmed the start.
    pub started_at: Option<Millis>,
    /// `None` until the worker has claimed the task.
    pub grant: Option<Grant>,
    pub report: Option<Report>,
    pub fence: Option<Fence>,
    pub merge: Merge,
    /// When the work of the run was merged or rejected.
    pub merge_ended_at: Option<Millis>,
    /// Whether a user has cancelled the run, or its task.
    pub is_cancelled: bool,
    /// The state that the engine reported last. This field and the following ones are not in the journal.
    pub worker_state: WorkerState,
    /// When the last event of the worker arrived.
    pub last_event_at: Option<Millis>,
    /// When the dispatcher asked the engine to end the run.
    pub stop_requested_at: Option<Millis>,
    /// Why the dispatcher asked the engine to end the run.
    pub stop_reason: Option<String>,
    /// The field `progress` of the last heartbeat.
    pub progress: Option<Value>,
    /// Some of the heartbeats, for the report.
    pub samples: Samples,
}

/// The acceptance of the claim of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// When the dispatcher accepted the claim.
    pub at: Millis,
    /// A worker without events for this long counts as lost, in milliseconds.
    pub lease_ms: u64,
    /// When the worker made the claim, according to the claim; `None` in the journal of an older version.
    pub claimed_at: Option<String>,
}

/// The mark of a run that may not work on its task any longer. Its claims and heartbeats are rejected, so that another
/// run can get the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    pub at: Millis,
    pub why: String,
    /// How the worker has ended, as far as the engine knows.
    pub end: WorkerEnd,
    /// Whether the run was given up before it claimed its task.
    pub is_given_up: bool,
}

/// The merge of the work of a completed run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Merge {
    /// Not merged yet.
    #[default]
    Open,
    /// Merged by this commit on the integration branch.
    Merged(String),
    /// Rejected because of a conflict. The text is for the prompt of the next attempt.
    Conflict(String),
    /// Rejected because checks fail on the merged work. The text is for the prompt of the next attempt.
    ChecksFailed(String),
    /// Rejected because workers could not use files in the merged work, for example a definition of an agent.
    Unusable {
        /// For the prompt of the next attempt.
        note: String,
        /// Which workers could not use which files, and why.
        why: String,
    },
}

impl Merge {
    /// The text for the prompt of the next attempt, if the work was rejected.
    pub fn rejection_note(&self) -> Option<&str> {
        match self {
            Self::Open | Self::Merged(_) => None,
            Self::Conflict(note) | Self::ChecksFailed(note) | Self::Unusable { note, .. } => {
                Some(note)
            }
        }
    }
}

/// The state of the process, container or machine of a run, according to its engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WorkerState {
    /// The engine gave no answer. This never means that the run has ended.
    #[default]
    Unknown,
    Running,
    Ended(WorkerEnd),
    /// The engine has no such process, container or machine.
    Gone,
}

/// How the process, container or machine of a run has ended, according to its engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkerEnd {
    /// The exit code of the worker, if the engine knows it.
    pub code: Option<i32>,
    /// Whether the worker was killed because it ran out of memory.
    pub is_out_of_memory: bool,
}

impl From<Option<i32>> for WorkerEnd {
    fn from(code: Option<i32>) -> Self {
        Self {
            code,
            is_out_of_memory: false,
        }
    }
}

impl Run {
    /// Whether the run may still work on its task: it has not reported and is not fenced.
    pub fn is_live(&self) -> bool {
        self.report.is_none() && self.fence.is_none()
    }

    /// Whether the dispatcher still has to do something about the run: it may still work, or its work waits for the
    /// merge. A run that only checks a commit has no work.
    pub fn is_open(&self) -> bool {
        let has_unmerged_work = self.task.is_some() && self.merge == Merge::Open;
        self.is_live() || has_unmerged_work && self.is_completed()
    }

    /// Whether the run has reported success, and its work is not rejected.
    pub fn is_completed(&self) -> bool {
        let completed = self.report.as_ref().is_some_and(Report::is_completed);
        completed && self.merge.rejection_note().is_none()
    }

    /// Whether the run has failed because it ran out of memory.
    pub fn is_out_of_memory(&self) -> bool {
        let (report, fence) = (self.report.as_ref(), self.fence.as_ref());
        report.is_some_and(|report| report.reason == Reason::OutOfMemory.word())
            || fence.is_some_and(|fence| fence.end.is_out_of_memory)
    }

    /// Whether the work of the run is on the integration branch.
    pub fn is_merged(&self) -> bool {
        matches!(self.merge, Merge::Merged(_))
    }
}

impl Run {
    /// Adds a record of the journal about this run.
    pub fn apply(&mut self, at: Millis, entry: &Entry) {
        match entry {
            Entry::Placed { engine, .. } => self.engine = Some(engine.clone()),
            Entry::Handle { handle, .. } => {
                self.handle = Some(handle.clone());
                self.started_at = Some(at);
            }
            Entry::NotStarted {
                why, is_given_up, ..
            } => {
                self.fence = Some(Fence {
                    at,
                    why: why.clone(),
                    end: WorkerEnd::default(),
                    is_given_up: *is_given_up,
                });
            }
            Entry::Granted {
                lease_ms,
                claimed_at,
                ..
            } => {
                self.grant = Some(Grant {
                    at,
                    lease_ms: *lease_ms,
                    claimed_at: claimed_at.clone(),
                });
            }
            Entry::Reported { event, .. } => {
                self.report
                    .get_or_insert_with(|| Report::new(at, Origin::Worker, event));
            }
            Entry::Harvested { branch, commit, .. } => {
                self.report
                    .get_or_insert_with(|| Report::of_branch(at, branch, commit));
            }
            Entry::Fenced {
                why,
                exit_code,
                is_out_of_memory,
                is_given_up,
                ..
            } => {
                self.fence = Some(Fence {
                    at,
                    why: why.clone(),
                    end: WorkerEnd {
                        code: *exit_code,
                        is_out_of_memory: *is_out_of_memory,
                    },
                    is_given_up: *is_given_up,
                });
            }
            Entry::Merged { commit, .. } => self.end_merge(at, Merge::Merged(commit.clone())),
            Entry::Conflict { note, .. } => self.end_merge(at, Merge::Conflict(note.clone())),
            Entry::Red { note, unusable, .. } => {
                let note = note.clone();
                let merge = match unusable.clone() {
                    Some(why) => Merge::Unusable { note, why },
                    None => Merge::ChecksFailed(note),
                };
                self.end_merge(at, merge);
            }
            _ => {}
        }
    }

    /// Records that the work of the run was merged or rejected.
    fn end_merge(&mut self, at: Millis, merge: Merge) {
        self.merge = merge;
        self.merge_ended_at = Some(at);
    }
}
