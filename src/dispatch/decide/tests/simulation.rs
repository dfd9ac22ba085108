//! Simulates a whole dispatch in memory. The dispatcher can be killed between any two steps. Then the journal, the
//! workers and the integration branch stay, and the dispatcher's state in memory is lost.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;
use crate::dispatch::claims::{record_event, reply};
use crate::dispatch::names::run_id;
use crate::receiver::Route;

/// A worker that the engine runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Worker {
    /// The worker repeats its claim until it gets an answer.
    Claiming,
    Working,
    /// The worker has pushed its branch, and has not printed its terminal event yet.
    Pushed,
    /// The worker repeats this terminal event until it gets an answer.
    Reporting(Value),
    /// The worker has exited by itself.
    Ended,
    Killed,
}

/// A simulated dispatch: one dispatcher, its workers, the journal and the integration branch.
pub struct Simulation {
    /// The state of the random number generator.
    random: u64,
    pub now: Millis,
    /// The journal.
    journal: Vec<Record>,
    /// The dispatcher's state in memory.
    pub state: State,
    /// The last worker of each run, by the id of the run.
    workers: BTreeMap<String, Worker>,
    /// How many workers each run has had.
    starts: BTreeMap<String, usize>,
    /// The terminal events that workers have printed.
    printed: BTreeMap<String, Value>,
    /// The runs whose finished work is on their branches.
    pushed: BTreeSet<String>,
    /// The runs on the integration branch, in the order of their merges.
    pub branch: Vec<String>,
    /// Runs whose `completed` was answered with 2xx.
    pub acknowledged: BTreeSet<String>,
    /// Whether crashes and failures happen.
    pub has_faults: bool,
}

impl Simulation {
    pub fn new(seed: u64) -> Self {
        let mut simulation = Self {
            random: seed | 1,
            now: 1,
            journal: Vec::new(),
            state: State::default(),
            workers: BTreeMap::new(),
            starts: BTreeMap::new(),
            printed: BTreeMap::new(),
            pushed: BTreeSet::new(),
            branch: Vec::new(),
            acknowledged: BTreeSet::new(),
            has_faults: true,
        };
        simulation.record(Entry::Created {
            dispatch: "d".to_owned(),
            branch: "b".to_owned(),
        });
        simulation.restart();
        simulation
    }

    /// Returns `true` once in `one_in` calls on average, at random.
    fn happens(&mut self, one_in: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.is_multiple_of(one_in)
    }

    /// Adds an entry to the journal and to the state.
    fn record(&mut self, entry: Entry) {
        let at = self.now;
        let record = Record { at, entry };
        self.state.apply(&record);
        self.journal.push(record);
    }

    /// The dispatcher is killed and started again.
    fn restart(&mut self) {
        self.state = State::of(&self.journal);
        // A dispatcher adopts the runs of the engine when it starts.
        for name in self.workers.keys().cloned().collect::<Vec<_>>() {
            let is_running = !matches!(self.workers[&name], Worker::Ended | Worker::Killed);
            let lacks_handle = self
                .state
                .run(&name)
                .is_some_and(|run| run.is_live() && run.handle.is_none());
            if is_running && lacks_handle {
                self.record(handle_entry(&name));
            }
        }
        self.record(Entry::Begun {
            version: String::new(),
            listen: String::new(),
            engines: Vec::new(),
        });
    }

    /// The graph at the tip of the integration branch.
    fn graph(&self) -> TaskGraph {
        diamond(&self.branch.iter().map(|run| task_of(run)).collect())
    }

    pub fn decide(&self) -> Decision {
        self.assert_derived_facts();
        decide(&self.state, &self.graph(), &policy(), self.now)
    }

    /// Asserts that the facts that the state updates with each entry are those that follow from all runs.
    fn assert_derived_facts(&self) {
        let open: Vec<usize> = self
            .state
            .open_runs()
            .map(|(position, _)| position)
            .collect();
        let runs = self.state.runs.iter().enumerate();
        let open_by_definition = runs.filter(|(_, run)| run.is_open());
        let open_by_definition: Vec<usize> =
            open_by_definition.map(|(position, _)| position).collect();
        assert_eq!(open, open_by_definition);
        let reports = self.state.runs.iter().filter_map(|run| run.report.as_ref());
        let cost: f64 = reports.map(|report| report.cost_usd).sum();
        assert!((self.state.cost_usd - cost).abs() < 1e-9);
    }

    /// One iteration of the main loop. The dispatcher may be killed after each side effect.
    fn run_main_loop_once(&mut self) {
        for position in 0..self.state.runs.len() {
            let is_unknown = self.has_faults && self.happens(4);
            let id = self.state.runs[position].id.clone();
            self.state.runs[position].worker_state = match self.workers.get(&id) {
                _ if is_unknown => WorkerState::Unknown,
                Some(Worker::Ended) => WorkerState::Ended(Some(0).into()),
                Some(Worker::Killed) => WorkerState::Ended(None.into()),
                Some(_) => WorkerState::Running,
                None => WorkerState::Gone,
            };
        }
        for action in self.decide().actions {
            if self.perform(action) {
                return self.restart();
            }
        }
    }

    /// Performs an action. Returns whether the dispatcher was killed during it.
    fn perform(&mut self, action: Action) -> bool {
        let crash = |simulation: &mut Self| simulation.has_faults && simulation.happens(12);
        match action {
            Action::Start { task, next } => {
                let run = run_id("d", &task, next.number);
                self.assert_no_work_is_ignored(&task);
                self.record(Entry::Intent {
                    run: run.clone(),
                    task: Some(task),
                    attempt: next.number,
                    base: String::new(),
                    note: next.note,
                    memory: next.memory,
                });
                if crash(self) {
                    return true;
                }
                self.start(&run);
                if crash(self) {
                    return true;
                }
                self.record(handle_entry(&run));
            }
            Action::StartAgain { run } => {
                if !self.record_result_of_lost_run(&run) {
                    self.start(&run);
                    if crash(self) {
                        return true;
                    }
                    self.record(handle_entry(&run));
                }
            }
            Action::Stop { run, .. } => {
                self.state.run_mut(&run).unwrap().stop_requested_at = Some(self.now);
                self.workers.insert(run, Worker::Killed);
            }
            Action::FindResult { run } => {
                if !self.record_result_of_lost_run(&run) {
                    self.record(fenced_entry(&run));
                }
            }
            Action::Fence { run, .. } | Action::GiveUp { run, .. } => {
                self.record(fenced_entry(&run));
            }
            Action::Merge { run } => return self.merge(run),
        }
        crash(self)
    }

    /// Records the report or the branch of a run. Returns `false` if there is neither.
    fn record_result_of_lost_run(&mut self, run: &str) -> bool {
        let run = run.to_owned();
        if let Some(event) = self.printed.get(&run).cloned() {
            self.record(Entry::Reported { run, event });
        } else if self.pushed.contains(&run) {
            let (branch, commit) = (String::new(), String::new());
            self.record(Entry::Harvested {
                run,
                branch,
                commit,
            });
        } else {
            return false;
        }
        true
    }

    /// Asserts that the pushed work of all earlier attempts was found. Otherwise a new attempt must not start.
    fn assert_no_work_is_ignored(&self, task: &str) {
        for run in self.state.runs_of(task) {
            let is_pushed = self.pushed.contains(&run.id);
            assert!(!is_pushed || run.report.is_some(), "{} is ignored", run.id);
        }
    }

    /// The engine starts a worker for a run.
    fn start(&mut self, run: &str) {
        let is_running = self
            .workers
            .get(run)
            .is_some_and(|worker| !matches!(worker, Worker::Ended | Worker::Killed));
        assert!(!is_running, "{run} was started twice");
        self.workers.insert(run.to_owned(), Worker::Claiming);
        *self.starts.entry(run.to_owned()).or_default() += 1;
    }

    /// Merges the work of a run. Returns whether the dispatcher was killed during it.
    fn merge(&mut self, run: String) -> bool {
        if !self.branch.contains(&run) {
            if self.has_faults && self.happens(5) {
                let note = String::new();
                self.record(Entry::Conflict { run, note });
                return false;
            }
            self.branch.push(run.clone());
            if self.has_faults && self.happens(3) {
                return true;
            }
        }
        let commit = String::new();
        self.record(Entry::Merged { run, commit });
        false
    }

    /// One step of one worker.
    fn step_worker(&mut self, run: &str) {
        match self.workers[run].clone() {
            Worker::Claiming => match self.send(run, Route::Started, "running", None) {
                Some(200) => drop(self.workers.insert(run.to_owned(), Worker::Working)),
                Some(_) => drop(self.workers.insert(run.to_owned(), Worker::Ended)),
                None => {}
            },
            Worker::Working if self.happens(2) => {
                if self.send(run, Route::Progress, "running", None) == Some(409) {
                    self.workers.insert(run.to_owned(), Worker::Ended);
                }
            }
            Worker::Working if self.has_faults && self.happens(4) => {
                self.print_terminal_event(run, "failed");
            }
            Worker::Working => {
                self.pushed.insert(run.to_owned());
                self.workers.insert(run.to_owned(), Worker::Pushed);
            }
            Worker::Pushed => self.print_terminal_event(run, "completed"),
            Worker::Reporting(event) => {
                let is_completed = event["status"] == "completed";
                let route = if is_completed {
                    Route::Completed
                } else {
                    Route::Failed
                };
                let answer = self.send(run, route, "", Some(event));
                if answer == Some(200) && is_completed {
                    self.acknowledged.insert(run.to_owned());
                }
                if answer.is_some() {
                    self.workers.insert(run.to_owned(), Worker::Ended);
                }
            }
            Worker::Ended | Worker::Killed => {}
        }
    }

    /// A worker prints its terminal event, and begins to send it.
    fn print_terminal_event(&mut self, run: &str, status: &str) {
        let event = json!({
            "run_id": run,
            "event_id": format!("{run}.end"),
            "status": status,
            "failure": { "reason": "agent_killed", "retryable": true },
            "result": { "agent": { "cost_usd": 0.25 } },
        });
        self.printed.insert(run.to_owned(), event.clone());
        self.workers
            .insert(run.to_owned(), Worker::Reporting(event));
    }

    /// Sends an event to the dispatcher; returns the HTTP status of the answer. `None` if the dispatcher was killed
    /// before it answered.
    fn send(&mut self, run: &str, route: Route, status: &str, event: Option<Value>) -> Option<u16> {
        let event = event.unwrap_or_else(|| {
            json!({
                "run_id": run,
                "event_id": format!("{run}.{route}"),
                "status": status,
                "timestamp": format!("worker {}", self.starts[run]),
            })
        });
        let reply = reply(&self.state, route, &event, 200);
        record_event(&mut self.state, route, &event, &reply.answer, self.now);
        if let Some(entry) = reply.entry {
            self.record(entry);
        }
        if self.has_faults && self.happens(8) {
            self.restart();
            return None;
        }
        Some(reply.answer.status.as_u16())
    }

    /// Lets some time pass, and lets workers and the dispatcher do one step each.
    pub fn step(&mut self) {
        self.now += 7;
        let names: Vec<String> = self.workers.keys().cloned().collect();
        for name in names {
            if self.has_faults && self.happens(25) && self.workers[&name] != Worker::Ended {
                self.workers.insert(name, Worker::Killed);
            } else if self.happens(2) {
                self.step_worker(&name);
            }
        }
        if self.has_faults && self.happens(15) {
            self.restart();
        }
        if self.has_faults && self.happens(20) {
            self.now += 400;
        }
        self.run_main_loop_once();
        self.assert_invariants();
    }

    /// Asserts that at most one run works on each task, and that no task is merged twice.
    fn assert_invariants(&self) {
        for id in TASKS {
            let working = self.state.runs_of(&format!("p:{id}"));
            let working = working.filter(|run| run.grant.is_some() && run.is_live());
            assert!(working.count() <= 1, "two runs work on {id}");
            let merged = self.branch.iter().filter(|run| task_of(run) == id);
            assert!(merged.count() <= 1, "{id} is merged twice");
        }
    }
}

/// The task of the run id `d-<task>-<hash>-<attempt>`.
pub fn task_of(run: &str) -> &str {
    run.split('-').nth(1).unwrap()
}
