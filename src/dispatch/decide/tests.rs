//! A whole dispatch in memory, with crashes between any two steps: the journal survives, and so do the
//! workers and the branch; nothing else does.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dispatch::claims::{note_event, reply};
use crate::dispatch::journal::{Entry, Handle, Record};
use crate::dispatch::names::run_id;
use crate::dispatch::standing::Stopping;
use crate::receiver::Route;

/// Four tasks: a diamond.
const EDGES: &str = "@edges\n2 -> 1\n3 -> 1\n4 -> 2\n4 -> 3\n";
const TASKS: [&str; 4] = ["1", "2", "3", "4"];

/// A worker that the engine runs.
#[derive(Debug, Clone, PartialEq)]
enum Worker {
    /// It has not been answered to its claim.
    Claiming,
    Working,
    /// It has pushed its branch, and not printed its terminal event yet.
    Pushed,
    /// It repeats its terminal event until it is answered.
    Reporting(Value),
    Ended,
    Killed,
}

struct World {
    random: u64,
    now: Millis,
    disk: Vec<Record>,
    state: State,
    workers: BTreeMap<String, Worker>,
    /// The terminal events that workers have printed.
    printed: BTreeMap<String, Value>,
    /// The runs whose finished work is on their branches.
    pushed: BTreeSet<String>,
    /// What the integration branch holds: the runs in the order of their merges.
    branch: Vec<String>,
    /// Runs whose `completed` was answered with 2xx.
    acknowledged: BTreeSet<String>,
    faults: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            random: seed | 1,
            now: 1,
            disk: Vec::new(),
            state: State::default(),
            workers: BTreeMap::new(),
            printed: BTreeMap::new(),
            pushed: BTreeSet::new(),
            branch: Vec::new(),
            acknowledged: BTreeSet::new(),
            faults: true,
        };
        world.write(Entry::Created {
            dispatch: "d".to_owned(),
            branch: "b".to_owned(),
        });
        world.restart();
        world
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.is_multiple_of(one_in)
    }

    fn write(&mut self, entry: Entry) {
        let at = self.now;
        let record = Record { at, entry };
        self.state.apply(&record);
        self.disk.push(record);
    }

    /// The dispatcher is killed and started again.
    fn restart(&mut self) {
        self.state = State::of(&self.disk);
        // As the dispatcher does when it begins: it adopts what the engine has.
        for name in self.workers.keys().cloned().collect::<Vec<_>>() {
            let is_running = !matches!(self.workers[&name], Worker::Ended | Worker::Killed);
            let unknown = self
                .state
                .run(&name)
                .is_some_and(|run| run.is_live() && run.handle.is_none());
            if is_running && unknown {
                self.write(handle(&name));
            }
        }
        self.write(Entry::Begun {
            version: String::new(),
            listen: String::new(),
            engines: Vec::new(),
        });
    }

    fn graph(&self) -> TaskGraph {
        let done: HashSet<&str> = self.branch.iter().map(|run| task_of(run)).collect();
        let letter = |id: &str| if done.contains(id) { "D" } else { "P" };
        let nodes = TASKS.map(|id| format!("{id} | t | {} | 1 | M\n", letter(id)));
        let text = format!(
            "# SCUD Graph v1\n# Phase: p\n@nodes\n{}{EDGES}",
            nodes.concat()
        );
        TaskGraph::parse(&text).unwrap()
    }

    fn terms() -> Terms {
        Terms {
            jobs: 2,
            attempts: 1000,
            max_budget_usd: None,
            start_deadline_ms: 300,
            retry_delay_ms: 10,
            memory: None,
            max_memory: 8 << 30,
            scope: (0..TASKS.len()).collect(),
            stopping: Stopping::No,
        }
    }

    fn decide(&self) -> Decision {
        decide(&self.state, &self.graph(), &Self::terms(), self.now)
    }

    /// One round of the dispatcher, which may be killed after each side effect.
    fn tick(&mut self) {
        for run in 0..self.state.runs.len() {
            let unknown = self.faults && self.chance(4);
            let id = self.state.runs[run].id.clone();
            self.state.runs[run].seen = match self.workers.get(&id) {
                _ if unknown => Seen::Unknown,
                Some(Worker::Ended) => Seen::Ended(Some(0).into()),
                Some(Worker::Killed) => Seen::Ended(None.into()),
                Some(_) => Seen::Running,
                None => Seen::Gone,
            };
        }
        for action in self.decide().actions {
            if self.act(action) {
                return self.restart();
            }
        }
    }

    /// Does one thing; says whether the dispatcher was killed in the middle of it.
    fn act(&mut self, action: Action) -> bool {
        let crash = |world: &mut Self| world.faults && world.chance(12);
        match action {
            Action::Start { task, next } => {
                let run = run_id("d", &task, next.number);
                self.assert_no_work_is_ignored(&task);
                self.write(Entry::Intent {
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
                self.write(handle(&run));
            }
            Action::StartAgain { run } => {
                if !self.harvest(&run) {
                    self.start(&run);
                    if crash(self) {
                        return true;
                    }
                    self.write(handle(&run));
                }
            }
            Action::Stop { run, .. } => {
                self.state.run_mut(&run).unwrap().stop_asked_at = Some(self.now);
                self.workers.insert(run, Worker::Killed);
            }
            Action::ReadReport { run } => {
                if !self.harvest(&run) {
                    self.write(fence(&run));
                }
            }
            Action::Fence { run, .. } => self.write(fence(&run)),
            Action::Merge { run } => return self.merge(run),
        }
        crash(self)
    }

    /// Notes what a worker has left behind; says whether it has left anything.
    fn harvest(&mut self, run: &str) -> bool {
        let run = run.to_owned();
        if let Some(event) = self.printed.get(&run).cloned() {
            self.write(Entry::Reported { run, event });
        } else if self.pushed.contains(&run) {
            let (branch, commit) = (String::new(), String::new());
            self.write(Entry::Harvested {
                run,
                branch,
                commit,
            });
        } else {
            return false;
        }
        true
    }

    /// No task is done again while finished work of it lies on a branch that nobody has looked at.
    fn assert_no_work_is_ignored(&self, task: &str) {
        for run in self.state.runs_of(task) {
            let is_pushed = self.pushed.contains(&run.id);
            assert!(!is_pushed || run.report.is_some(), "{} is ignored", run.id);
        }
    }

    fn start(&mut self, run: &str) {
        let is_running = self
            .workers
            .get(run)
            .is_some_and(|worker| !matches!(worker, Worker::Ended | Worker::Killed));
        assert!(!is_running, "{run} was started twice");
        self.workers.insert(run.to_owned(), Worker::Claiming);
    }

    fn merge(&mut self, run: String) -> bool {
        if !self.branch.contains(&run) {
            if self.faults && self.chance(5) {
                let note = String::new();
                self.write(Entry::Conflict { run, note });
                return false;
            }
            self.branch.push(run.clone());
            if self.faults && self.chance(3) {
                return true;
            }
        }
        let commit = String::new();
        self.write(Entry::Merged { run, commit });
        false
    }

    /// One step of one worker.
    fn work(&mut self, run: &str) {
        match self.workers[run].clone() {
            Worker::Claiming => match self.send(run, Route::Started, "running", None) {
                Some(200) => drop(self.workers.insert(run.to_owned(), Worker::Working)),
                Some(_) => drop(self.workers.insert(run.to_owned(), Worker::Ended)),
                None => {}
            },
            Worker::Working if self.chance(2) => {
                if self.send(run, Route::Progress, "running", None) == Some(409) {
                    self.workers.insert(run.to_owned(), Worker::Ended);
                }
            }
            Worker::Working if self.faults && self.chance(4) => self.print(run, "failed"),
            Worker::Working => {
                self.pushed.insert(run.to_owned());
                self.workers.insert(run.to_owned(), Worker::Pushed);
            }
            Worker::Pushed => self.print(run, "completed"),
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
    fn print(&mut self, run: &str, status: &str) {
        let event = json!({
            "run_id": run,
            "event_id": format!("{run}.end"),
            "status": status,
            "failure": { "reason": "agent_killed", "retryable": true },
        });
        self.printed.insert(run.to_owned(), event.clone());
        self.workers
            .insert(run.to_owned(), Worker::Reporting(event));
    }

    /// The answer to an event; `None` if the dispatcher was killed before it answered.
    fn send(&mut self, run: &str, route: Route, status: &str, event: Option<Value>) -> Option<u16> {
        let event = event.unwrap_or_else(
            || json!({ "run_id": run, "event_id": format!("{run}.{route}"), "status": status }),
        );
        note_event(&mut self.state, route, &event, self.now);
        let reply = reply(&self.state, route, &event, 200);
        if let Some(entry) = reply.entry {
            self.write(entry);
        }
        if self.faults && self.chance(8) {
            self.restart();
            return None;
        }
        Some(reply.answer.status.as_u16())
    }

    fn step(&mut self) {
        self.now += 7;
        let names: Vec<String> = self.workers.keys().cloned().collect();
        for name in names {
            if self.faults && self.chance(25) && self.workers[&name] != Worker::Ended {
                self.workers.insert(name, Worker::Killed);
            } else if self.chance(2) {
                self.work(&name);
            }
        }
        if self.faults && self.chance(15) {
            self.restart();
        }
        if self.faults && self.chance(20) {
            self.now += 400;
        }
        self.tick();
        self.assert_invariants();
    }

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

fn handle(run: &str) -> Entry {
    let (run, handle) = (
        run.to_owned(),
        Handle::Local {
            pid: 1,
            start_time: 1,
        },
    );
    Entry::Handle { run, handle }
}

fn fence(run: &str) -> Entry {
    Entry::Fenced {
        run: run.to_owned(),
        why: "lost".to_owned(),
        exit_code: None,
        is_out_of_memory: false,
    }
}

/// The task of `d-<task>-<hash>-<attempt>`.
fn task_of(run: &str) -> &str {
    run.split('-').nth(1).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_killed_one_run_has_a_task_and_every_reported_success_is_merged_once(
        seed in any::<u64>(),
        faulty_steps in 0_usize..150,
    ) {
        let mut world = World::new(seed);
        for _ in 0..faulty_steps {
            world.step();
        }
        world.faults = false;
        for _ in 0..600 {
            world.step();
            world.now += 13;
            let is_idle = world.state.runs.iter().all(|run| !run.is_live());
            let decision = world.decide();
            if decision.is_over && is_idle {
                break;
            }
            if let Some(wake_at) = decision.wake_at.filter(|_| is_idle) {
                world.now = wake_at;
            }
        }
        let decision = world.decide();
        // A second conflict blocks a task and what needs it; everything else is merged.
        prop_assert!(decision.is_over, "{:?}", decision);
        for (task, standing) in decision.standings.iter().enumerate() {
            let is_merged = world.branch.iter().any(|run| task_of(run) == TASKS[task]);
            let is_done = *standing == Standing::Done;
            let is_blocked = matches!(standing, Standing::Blocked(_));
            prop_assert!(is_done == is_merged && (is_done || is_blocked), "{:?}", standing);
        }
        for run in &world.acknowledged {
            let run = world.state.run(run).unwrap();
            let is_merged = world.branch.contains(&run.id);
            prop_assert!(is_merged || !run.is_completed(), "{} was forgotten", run.id);
        }
    }
}

fn state_with(entries: Vec<Entry>) -> State {
    let records = entries.into_iter().enumerate().map(|(at, entry)| Record {
        at: i64::try_from(at).unwrap(),
        entry,
    });
    State::of(&records.collect::<Vec<_>>())
}

fn intent(task: &str, attempt: u32) -> Entry {
    Entry::Intent {
        run: format!("{task}#{attempt}"),
        task: Some(format!("p:{task}")),
        attempt,
        base: "base".to_owned(),
        note: None,
        memory: None,
    }
}

fn failed(task: &str, attempt: u32, reason: &str, retryable: bool) -> Vec<Entry> {
    let run = format!("{task}#{attempt}");
    let event = json!({
        "status": "failed",
        "message": "it went wrong",
        "failure": { "reason": reason, "retryable": retryable },
        "result": { "work": { "branch": format!("{run}-wip") }, "agent": { "cost_usd": 0.25 } },
    });
    vec![
        intent(task, attempt),
        Entry::Granted {
            run: run.clone(),
            lease_ms: 60_000,
        },
        Entry::Reported { run, event },
    ]
}

fn begun() -> Entry {
    Entry::Begun {
        version: String::new(),
        listen: String::new(),
        engines: Vec::new(),
    }
}

fn standing_of_first(entries: Vec<Entry>) -> Standing {
    let world = World::new(1);
    let terms = Terms {
        attempts: 3,
        ..World::terms()
    };
    standings(&state_with(entries), &world.graph(), &terms)[0].clone()
}

#[test]
fn failures_that_may_pass_are_tried_again_after_a_pause_and_others_block() {
    for (reason, retryable, is_retried) in [
        ("agent_killed", true, true),
        ("interrupted", true, true),
        ("internal", true, true),
        ("workspace_failed", true, true),
        ("push_failed", true, true),
        ("push_failed", false, false),
        ("idle", true, true),
        ("api_error", true, true),
        ("api_error", false, false),
        ("out_of_memory", true, true),
        ("checks_failed", false, false),
        ("agent_failed", false, false),
        ("limit_reached", false, false),
        ("timed_out", false, false),
    ] {
        let standing = standing_of_first(failed("1", 1, reason, retryable));
        match (&standing, is_retried) {
            (Standing::Cooling { .. }, true) => {}
            (Standing::Blocked(why), false) => {
                assert!(why.contains("its work so far is on 1#1-wip"), "{why}");
            }
            _ => panic!("{reason}, retryable: {retryable}: {standing:?}"),
        }
    }
}

#[test]
fn a_task_is_idle_twice_at_most() {
    let entries = [failed("1", 1, "idle", true), failed("1", 2, "idle", true)].concat();
    assert!(matches!(standing_of_first(entries), Standing::Blocked(_)));
}

#[test]
fn an_attempt_after_one_that_ran_out_of_memory_gets_twice_the_memory_up_to_the_maximum() {
    const GIB: u64 = 1 << 30;
    let memory_after = |reasons: &[&str], first: Option<u64>| {
        let terms = Terms {
            memory: first,
            ..World::terms()
        };
        let mut entries: Vec<Entry> = Vec::new();
        for (attempt, reason) in (1..).zip(reasons) {
            let memory = attempt_after_pause(&state_with(entries.clone()), &terms, "p:1").memory;
            let mut failed = failed("1", attempt, reason, true);
            if let Entry::Intent { memory: of_run, .. } = &mut failed[0] {
                *of_run = memory;
            }
            entries.extend(failed);
        }
        attempt_after_pause(&state_with(entries), &terms, "p:1").memory
    };
    let (oom, other) = ("out_of_memory", "agent_killed");
    assert_eq!(memory_after(&[], Some(GIB)), Some(GIB));
    assert_eq!(memory_after(&[oom], Some(GIB)), Some(2 * GIB));
    assert_eq!(memory_after(&[oom, other], Some(GIB)), Some(2 * GIB));
    assert_eq!(memory_after(&[oom, other, oom], Some(GIB)), Some(4 * GIB));
    assert_eq!(memory_after(&[oom; 5], Some(3 * GIB)), Some(8 * GIB));
    assert_eq!(memory_after(&[oom; 2], None), None);
}

#[test]
fn a_cancelled_task_does_not_count_and_blocks_only_what_needs_it() {
    let text = "# SCUD Graph v1\n# Phase: p\n@nodes\n1 | t | C | 1 | M\n2 | t | P | 1 | M\n3 | t | R | 1 | M\n4 | t | P | 1 | M\n@edges\n2 -> 1\n";
    let graph = TaskGraph::parse(text).unwrap();
    let standings = standings(&state_with(vec![begun()]), &graph, &World::terms());
    let words: Vec<&str> = standings.iter().map(Standing::word).collect();
    assert_eq!(words, ["closed", "blocked", "blocked", "ready"]);
}

#[test]
fn attempts_are_counted_anew_after_a_retry() {
    let mut entries: Vec<Entry> = (1..=3)
        .flat_map(|attempt| failed("1", attempt, "internal", true))
        .collect();
    let Standing::Blocked(why) = standing_of_first(entries.clone()) else {
        panic!("three attempts are enough");
    };
    assert!(
        why.contains("has failed 3 times, the last time: internal: it went wrong"),
        "{why}"
    );
    entries.push(Entry::Asked {
        what: crate::dispatch::journal::Asked::Retry,
        task: Some("p:1".to_owned()),
    });
    let Standing::Ready(next) = standing_of_first(entries) else {
        panic!("a person has asked for another attempt");
    };
    assert_eq!(next.number, 4);
    assert!(
        next.note
            .unwrap()
            .contains("An earlier attempt at this task failed (internal)")
    );
}

#[test]
fn conflicting_work_is_done_again_once_with_a_note() {
    let completed = |attempt: u32| {
        let run = format!("1#{attempt}");
        let event = json!({ "status": "completed", "result": { "work": { "branch": run } } });
        vec![
            intent("1", attempt),
            Entry::Reported {
                run: run.clone(),
                event,
            },
            Entry::Conflict {
                run,
                note: "look at it".to_owned(),
            },
        ]
    };
    let Standing::Ready(next) = standing_of_first(completed(1)) else {
        panic!("the work is done again");
    };
    assert_eq!((next.number, next.note.as_deref()), (2, Some("look at it")));
    let Standing::Blocked(why) = standing_of_first([completed(1), completed(2)].concat()) else {
        panic!("once is enough");
    };
    assert!(why.contains("its work is on 1#1 and 1#2"), "{why}");
}

#[test]
fn a_missing_agent_and_a_used_budget_stop_everything_new_until_the_next_start() {
    let missing = state_with([vec![begun()], failed("1", 1, "agent_not_found", false)].concat());
    assert!(halt(&missing, &World::terms()).is_some());
    let next = [
        vec![begun()],
        failed("1", 1, "agent_not_found", false),
        vec![begun()],
    ]
    .concat();
    assert!(halt(&state_with(next.clone()), &World::terms()).is_none());
    assert!(matches!(
        standing_of_first(next),
        Standing::Ready(NextAttempt { number: 2, .. })
    ));

    let terms = |budget| Terms {
        max_budget_usd: Some(budget),
        ..World::terms()
    };
    let spent = state_with(failed("1", 1, "agent_failed", false));
    assert!(halt(&spent, &terms(0.26)).is_none());
    let why = halt(&spent, &terms(0.25)).unwrap();
    assert_eq!(why, "the budget is used up: 0.25 of 0.25 US dollars");
}

#[test]
fn three_tasks_in_a_row_with_one_systemic_reason_stop_everything_new() {
    let fail = |task: &str, reason: &str| failed(task, 1, reason, true);
    let two = [
        vec![begun()],
        fail("1", "api_error"),
        fail("2", "api_error"),
    ]
    .concat();
    assert!(halt(&state_with(two.clone()), &World::terms()).is_none());
    let three = [two.clone(), fail("3", "api_error")].concat();
    assert!(
        halt(&state_with(three), &World::terms())
            .unwrap()
            .contains("api_error")
    );
    let mixed = [two, fail("3", "agent_failed")].concat();
    assert!(halt(&state_with(mixed), &World::terms()).is_none());
}

#[test]
fn a_silent_run_is_stopped_only_while_the_engine_says_that_it_runs() {
    let entries = vec![
        begun(),
        intent("1", 1),
        handle("1#1"),
        Entry::Granted {
            run: "1#1".to_owned(),
            lease_ms: 60_000,
        },
    ];
    let world = World::new(1);
    let mut state = state_with(entries);
    let mut actions = |seen, now| {
        state.runs[0].seen = seen;
        decide(&state, &world.graph(), &World::terms(), now).actions
    };
    let stops = |actions: &[Action]| matches!(actions, [Action::Stop { .. }]);
    assert!(actions(Seen::Running, 60_000).is_empty());
    assert!(actions(Seen::Unknown, 70_000).is_empty());
    assert!(stops(&actions(Seen::Running, 70_000)));
    assert_eq!(
        actions(Seen::Gone, 5),
        [Action::ReadReport {
            run: "1#1".to_owned()
        }]
    );
}
