//! The state of a dispatch: the facts about every run in the journal, and facts that the dispatcher has learned since
//! it started.
//!
//! No I/O. [`State::apply`] adds one record of the journal. The modules `decide` and `claims` read the state.

mod run;

use std::collections::BTreeMap;

use super::journal::{Entry, Record, UserCommand};
use crate::clock::Millis;
use crate::report::{Interval, Samples};

pub use run::{End, Fence, Merge, Origin, Report, Run, Seen};

/// The longest time between two looks of a dispatcher that runs. Shorter than every lease.
const MAX_GAP_MS: Millis = 15_000;

/// Everything that is known about a dispatch.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub dispatch: String,
    pub branch: String,
    pub runs: Vec<Run>,
    /// The positions in `runs`, by the id of the run.
    by_id: BTreeMap<String, usize>,
    /// The runs and requests of each task, by `phase:id`.
    pub tasks: BTreeMap<String, TaskState>,
    /// How many runs there were when this dispatcher started. The failures of those runs do not halt it.
    pub earlier_runs: usize,
    /// Since when this dispatcher has heard its workers: since its start, or since the end of the last gap, for example
    /// while the machine was suspended. Silence before that says nothing about a worker.
    pub listening_since: Millis,
    /// When the dispatcher looked at the state last.
    looked_at: Millis,
    /// The address that the dispatcher listened on last.
    pub listen: Option<String>,
    /// The engines that the last dispatcher used.
    pub engines: Vec<String>,
    /// Why an engine rejects all runs; `None` if none does.
    pub engine_refusal: Option<String>,
    /// For each dispatcher, the time from its start to its last entry.
    pub sessions: Vec<Interval>,
    /// The commands of users: time, command, and task.
    pub commands: Vec<(Millis, UserCommand, Option<String>)>,
    /// How the last dispatcher has ended; `None` while it runs, and if it was killed.
    pub ended: Option<String>,
}

/// The runs of a task, and the requests of users about it.
#[derive(Debug, Clone, Default)]
pub struct TaskState {
    /// Positions in [`State::runs`], in the order of the attempts.
    pub runs: Vec<usize>,
    pub is_skipped: bool,
    /// Whether a user has cancelled the task.
    pub is_cancelled: bool,
    /// How many runs the task had at the last `retry`. They do not count as attempts.
    pub runs_before_retry: usize,
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

    /// The runs that may still work on their task.
    pub fn live_runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.is_live())
    }

    /// The runs that may still work on their task, mutably.
    pub fn live_runs_mut(&mut self) -> impl Iterator<Item = &mut Run> {
        self.runs.iter_mut().filter(|run| run.is_live())
    }

    /// The run with an id.
    pub fn run(&self, id: &str) -> Option<&Run> {
        self.by_id.get(id).map(|at| &self.runs[*at])
    }

    /// The run with an id, mutably.
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

    /// Notes that the dispatcher looks at the state now. It does so every few seconds, unless it was stopped or its clock was
    /// set.
    pub fn note_look(&mut self, now: Millis) {
        if !(0..=MAX_GAP_MS).contains(&(now - self.looked_at)) {
            self.listening_since = now;
        }
        self.looked_at = now;
    }

    /// Adds a record of the journal.
    pub fn apply(&mut self, record: &Record) {
        let at = record.at;
        // A user may give a command while no dispatcher runs.
        if !matches!(
            record.entry,
            Entry::Created { .. } | Entry::Begun { .. } | Entry::Asked { .. }
        ) && let Some(session) = self.sessions.last_mut()
        {
            session.to = at;
        }
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
                self.sessions.push(Interval { from: at, to: at });
                self.ended = None;
                self.earlier_runs = self.runs.len();
                self.listening_since = at;
                self.looked_at = at;
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
                engine: None,
                handle: None,
                started_at: None,
                grant: None,
                report: None,
                fence: None,
                merge: Merge::Open,
                settled_at: None,
                seen: Seen::Unknown,
                last_event_at: None,
                stop_requested_at: None,
                stop_reason: None,
                is_cancelled: false,
                progress: None,
                samples: Samples::default(),
            }),
            Entry::Asked { what, task } => {
                self.commands.push((at, *what, task.clone()));
                self.apply_command(*what, task.as_deref());
            }
            Entry::Ended { how } => self.ended = Some(how.clone()),
            Entry::Placed { run, .. }
            | Entry::Handle { run, .. }
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
