//! The state of a dispatch: the facts in the journal about every run, and facts that the dispatcher has learned since
//! it started and that are not in the journal.
//!
//! No I/O. [`State::apply`] adds one record of the journal. The modules `decide` and `claims` read the state.

mod report;
mod run;

use std::collections::{BTreeSet, HashMap};

use super::journal::{Entry, Record, UserCommand};
use crate::clock::Millis;
use crate::report::{Interval, Samples};

pub use report::{Origin, Report};
pub use run::{Fence, Merge, Run, WorkerEnd, WorkerState};

/// The longest time between two iterations of the main loop of a dispatcher that was not suspended. Shorter than every
/// lease.
const MAX_ITERATION_GAP_MS: Millis = 15_000;

/// Everything that is known about a dispatch.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The id of the dispatch.
    pub dispatch: String,
    /// The integration branch.
    pub branch: String,
    /// All runs, in the order of their intents.
    pub runs: Vec<Run>,
    /// The positions in `runs`, by the id of the run.
    positions: HashMap<String, usize>,
    /// The positions in `runs` of the runs for which [`Run::is_open`] holds. Every event needs only these, and a
    /// dispatch can have thousands of other runs.
    open_runs: BTreeSet<usize>,
    /// The cost of all runs in US dollars. Agents that report no cost count as 0.
    pub cost_usd: f64,
    /// The runs and requests of each task, by `phase:id`.
    pub tasks: HashMap<String, TaskState>,
    /// How many runs there were when this dispatcher started. The failures of these runs do not keep this dispatcher
    /// from starting new runs.
    pub earlier_run_count: usize,
    /// Since when this dispatcher has received the events of workers without a gap: since its start, or since it
    /// continued after the machine was suspended. A worker without events before that time was not necessarily silent.
    pub listening_since: Millis,
    /// The time of the last iteration of the main loop.
    last_iteration_at: Millis,
    /// The address that the newest dispatcher, which may still run, listens on.
    pub listen_address: Option<String>,
    /// The engines that the newest dispatcher uses.
    pub engines: Vec<String>,
    /// Why an engine rejects all runs; `None` if none does.
    pub engine_refusal: Option<String>,
    /// A session for each dispatcher: the time from its start to its last journal entry.
    pub sessions: Vec<Interval>,
    /// The commands of users, in the order in which they were given.
    pub commands: Vec<RecordedCommand>,
    /// The word for the result of the newest dispatcher ([`super::DispatchResult::word`]); `None` while it runs, and if
    /// it was killed.
    pub result_word: Option<String>,
}

/// A command that a user has given.
#[derive(Debug, Clone)]
pub struct RecordedCommand {
    pub at: Millis,
    pub command: UserCommand,
    /// The key of the task; `None` for all tasks.
    pub task: Option<String>,
}

/// The runs of a task, and the requests of users about it.
#[derive(Debug, Clone, Default)]
pub struct TaskState {
    /// Positions in [`State::runs`], in the order of the attempts.
    pub runs: Vec<usize>,
    /// Whether a user has skipped the task.
    pub is_skipped: bool,
    /// Whether a user has cancelled the task.
    pub is_cancelled: bool,
    /// How many runs the task had at the last `dispatch retry`. These runs do not count as attempts.
    pub runs_before_retry: usize,
}

impl State {
    /// The state that follows from the records of a journal.
    pub fn of(records: &[Record]) -> Self {
        let mut state = Self::default();
        for record in records {
            state.apply(record);
        }
        state
    }

    /// The runs that may still work, and those whose work waits for the merge, with their positions in `runs`.
    pub fn open_runs(&self) -> impl Iterator<Item = (usize, &Run)> {
        let positions = self.open_runs.iter();
        positions.map(|position| (*position, &self.runs[*position]))
    }

    /// The runs that may still work on their task.
    pub fn live_runs(&self) -> impl Iterator<Item = &Run> {
        self.open_runs()
            .map(|(_, run)| run)
            .filter(|run| run.is_live())
    }

    /// Changes each run that may still work on its task.
    pub fn change_live_runs(&mut self, mut change: impl FnMut(&mut Run)) {
        for position in &self.open_runs {
            let run = &mut self.runs[*position];
            if run.is_live() {
                change(run);
            }
        }
    }

    /// Whether the last dispatcher, and not this one, has decided to start a run.
    pub fn is_earlier(&self, run: &Run) -> bool {
        let position = self.positions.get(&run.id);
        position.is_some_and(|position| *position < self.earlier_run_count)
    }

    /// The run with an id.
    pub fn run(&self, id: &str) -> Option<&Run> {
        self.positions.get(id).map(|position| &self.runs[*position])
    }

    /// The run with an id, mutably.
    pub fn run_mut(&mut self, id: &str) -> Option<&mut Run> {
        self.positions
            .get(id)
            .map(|position| &mut self.runs[*position])
    }

    /// The runs of a task, in the order of the attempts.
    pub fn runs_of(&self, task: &str) -> impl DoubleEndedIterator<Item = &Run> + use<'_> {
        let runs = self.tasks.get(task).map(|task| task.runs.as_slice());
        let positions = runs.unwrap_or_default().iter();
        positions.map(|position| &self.runs[*position])
    }

    /// The run whose result counts for a task: one that has completed, else the latest.
    pub fn current_run(&self, task: &str) -> Option<&Run> {
        let completed = self.runs_of(task).find(|run| run.is_completed());
        completed.or_else(|| self.runs_of(task).next_back())
    }

    /// Notes that an iteration of the main loop begins. If the last one was too long ago, or is in the future, the
    /// machine was suspended or its clock was set, so the silence of workers is measured from now on.
    pub fn note_iteration(&mut self, now: Millis) {
        if !(0..=MAX_ITERATION_GAP_MS).contains(&(now - self.last_iteration_at)) {
            self.listening_since = now;
        }
        self.last_iteration_at = now;
    }

    /// Adds a record of the journal.
    pub fn apply(&mut self, record: &Record) {
        let at = record.at;
        // These entries do not extend the session of the last dispatcher: a user may give a command while no dispatcher
        // runs.
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
                self.result_word = None;
                self.earlier_run_count = self.runs.len();
                self.listening_since = at;
                self.last_iteration_at = at;
                self.listen_address = Some(listen.clone());
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
                merge_ended_at: None,
                worker_state: WorkerState::Unknown,
                last_event_at: None,
                stop_requested_at: None,
                stop_reason: None,
                is_cancelled: false,
                progress: None,
                samples: Samples::default(),
            }),
            Entry::Asked { what, task } => {
                self.commands.push(RecordedCommand {
                    at,
                    command: *what,
                    task: task.clone(),
                });
                self.apply_command(*what, task.as_deref());
            }
            Entry::Ended { how } => self.result_word = Some(how.clone()),
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
                self.apply_to_run(run, at, &record.entry);
            }
        }
    }

    /// Adds a record of the journal about a run.
    fn apply_to_run(&mut self, id: &str, at: Millis, entry: &Entry) {
        let Some(position) = self.positions.get(id).copied() else {
            return;
        };
        let run = &mut self.runs[position];
        let had_report = run.report.is_some();
        run.apply(at, entry);
        if let Some(report) = run.report.as_ref().filter(|_| !had_report) {
            self.cost_usd += report.cost_usd;
        }
        if run.is_open() {
            self.open_runs.insert(position);
        } else {
            self.open_runs.remove(&position);
        }
    }

    fn add_run(&mut self, run: Run) {
        let position = self.runs.len();
        self.open_runs.insert(position);
        self.positions.insert(run.id.clone(), position);
        if let Some(task) = &run.task {
            let task = self.tasks.entry(task.clone()).or_default();
            task.runs.push(position);
        }
        self.runs.push(run);
    }

    fn apply_command(&mut self, command: UserCommand, task: Option<&str>) {
        // The dispatcher itself cancels everything if a command names no task.
        let Some(task) = task else { return };
        let task = self.tasks.entry(task.to_owned()).or_default();
        match command {
            UserCommand::Retry => {
                task.is_skipped = false;
                task.is_cancelled = false;
                task.runs_before_retry = task.runs.len();
            }
            UserCommand::Skip => task.is_skipped = true,
            UserCommand::Cancel => {
                task.is_cancelled = true;
                for position in &task.runs {
                    let run = &mut self.runs[*position];
                    run.is_cancelled |= run.is_live();
                }
            }
        }
    }
}
