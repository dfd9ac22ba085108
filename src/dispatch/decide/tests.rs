//! Tests of decisions. `crashes` tests a simulated dispatch that is killed at any step, `attempts` the next step after
//! failures, `backlog` the starts while finished work waits for its merge, and `halts` the reasons for which no new run
//! starts. This file tests everything else.

mod attempts;
mod backlog;
mod crashes;
mod halts;
mod simulation;

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::*;
use crate::dispatch::journal::{Entry, Handle, Record, UserCommand};
use crate::dispatch::policy::Stopping;

/// Four tasks: 2 and 3 depend on 1, and 4 depends on both.
const TASKS: [&str; 4] = ["1", "2", "3", "4"];
/// The dependencies of [`TASKS`] in the graph file.
const EDGES: &str = "@edges\n2 -> 1\n3 -> 1\n4 -> 2\n4 -> 3\n";

/// The graph of [`TASKS`], which has the shape of a diamond, with these tasks marked as done.
fn diamond(done: &HashSet<&str>) -> TaskGraph {
    let letter = |id: &str| if done.contains(id) { "D" } else { "P" };
    let nodes = TASKS.map(|id| format!("{id} | t | {} | 1 | M\n", letter(id)));
    let text = format!(
        "# SCUD Graph v1\n# Phase: p\n@nodes\n{}{EDGES}",
        nodes.concat()
    );
    TaskGraph::parse(&text).unwrap()
}

/// A policy with two jobs and almost no limit for attempts.
fn policy() -> Policy {
    Policy {
        jobs: 2,
        attempts: 1000,
        max_budget_usd: None,
        start_deadline_ms: 300,
        retry_delay_ms: 10,
        memory: None,
        max_memory: 8 << 30,
        needs: HashMap::new(),
        broken_definitions: HashMap::new(),
        scope: (0..TASKS.len()).collect(),
        stopping: Stopping::No,
    }
}

/// The engine has started a run.
fn handle_entry(run: &str) -> Entry {
    let (run, handle) = (
        run.to_owned(),
        Handle::Local {
            pid: 1,
            start_time: 1,
        },
    );
    Entry::Handle { run, handle }
}

/// A run may not work any longer.
fn fenced_entry(run: &str) -> Entry {
    Entry::Fenced {
        run: run.to_owned(),
        why: "lost".to_owned(),
        exit_code: None,
        is_out_of_memory: false,
        is_given_up: false,
    }
}

/// The state after these journal entries, with one millisecond between two entries.
fn state_with(entries: Vec<Entry>) -> State {
    let records = entries.into_iter().enumerate().map(|(at, entry)| Record {
        at: i64::try_from(at).unwrap(),
        entry,
    });
    State::of(&records.collect::<Vec<_>>())
}

/// The start of the run `<task>#<attempt>`.
fn intent_entry(task: &str, attempt: u32) -> Entry {
    Entry::Intent {
        run: format!("{task}#{attempt}"),
        task: Some(format!("p:{task}")),
        attempt,
        base: "base".to_owned(),
        note: None,
        memory: None,
    }
}

/// A run that fails for a reason that can be temporary.
fn retryable_failure(task: &str, attempt: u32, reason: &str) -> Vec<Entry> {
    failed_run(task, attempt, reason, true)
}

/// A run that fails for a reason that another attempt would not remove.
fn permanent_failure(task: &str, attempt: u32, reason: &str) -> Vec<Entry> {
    failed_run(task, attempt, reason, false)
}

/// The entries of a run from its intent to its failure.
fn failed_run(task: &str, attempt: u32, reason: &str, is_retryable: bool) -> Vec<Entry> {
    let run = format!("{task}#{attempt}");
    let event = json!({
        "status": "failed",
        "message": "it went wrong",
        "failure": { "reason": reason, "retryable": is_retryable },
        "result": { "work": { "branch": format!("{run}-wip") }, "agent": { "cost_usd": 0.25 } },
    });
    vec![
        intent_entry(task, attempt),
        Entry::Granted {
            run: run.clone(),
            lease_ms: 60_000,
            claimed_at: None,
        },
        Entry::Reported { run, event },
    ]
}

/// A dispatcher starts.
fn begun_entry() -> Entry {
    Entry::Begun {
        version: String::new(),
        listen: String::new(),
        engines: Vec::new(),
    }
}

/// The standing of task 1 after these entries, with at most three attempts.
fn standing_of_task_1(entries: Vec<Entry>) -> Standing {
    let policy = Policy {
        attempts: 3,
        ..policy()
    };
    standings(&state_with(entries), &diamond(&HashSet::new()), &policy)[0].clone()
}

#[test]
fn a_task_that_is_cancelled_in_the_graph_is_closed_and_blocks_only_its_dependents() {
    let text = "# SCUD Graph v1\n# Phase: p\n@nodes\n1 | t | C | 1 | M\n2 | t | P | 1 | M\n3 | t | R | 1 | M\n4 | t | P | 1 | M\n@edges\n2 -> 1\n";
    let graph = TaskGraph::parse(text).unwrap();
    let standings = standings(&state_with(vec![begun_entry()]), &graph, &policy());
    let words: Vec<&str> = standings.iter().map(Standing::word).collect();
    assert_eq!(words, ["closed", "blocked", "blocked", "ready"]);
}

#[test]
fn a_run_without_a_handle_is_given_up_by_a_halted_dispatcher_only_if_no_worker_has_claimed_it() {
    let graph = diamond(&HashSet::new());
    let halted_policy = Policy {
        stopping: Stopping::Cancelling,
        ..policy()
    };
    let actions = |claims: Vec<Entry>| {
        let state = state_with([vec![intent_entry("1", 1)], claims, vec![begun_entry()]].concat());
        decide(&state, &graph, &halted_policy, 5).actions
    };
    assert!(matches!(actions(Vec::new())[..], [Action::Fence { .. }]));
    let granted = Entry::Granted {
        run: "1#1".to_owned(),
        lease_ms: 60_000,
        claimed_at: None,
    };
    let run = "1#1".to_owned();
    assert_eq!(actions(vec![granted]), [Action::StartAgain { run }]);
}

#[test]
fn the_start_of_a_run_that_is_not_needed_any_more_is_given_up() {
    let graph = diamond(&HashSet::new());
    let is_given_up = |later: Vec<Entry>| {
        let state = state_with(
            [
                vec![begun_entry(), intent_entry("1", 1), intent_entry("1", 2)],
                later,
            ]
            .concat(),
        );
        let actions = decide(&state, &graph, &policy(), 5).actions;
        let gives_up =
            |action: &Action| matches!(action, Action::GiveUp { run, .. } if run == "1#2");
        actions.iter().any(gives_up)
    };
    assert!(!is_given_up(Vec::new()));
    let event = json!({ "status": "completed" });
    let run = "1#1".to_owned();
    assert!(is_given_up(vec![Entry::Reported { run, event }]));
    let task = Some("p:1".to_owned());
    let what = UserCommand::Cancel;
    assert!(is_given_up(vec![Entry::Asked { what, task }]));
}

#[test]
fn a_silent_run_is_stopped_only_if_the_engine_reports_it_as_running() {
    let (mut state, graph) = (silent_run(), diamond(&HashSet::new()));
    let mut actions = |worker_state, now| {
        state.runs[0].worker_state = worker_state;
        decide(&state, &graph, &policy(), now).actions
    };
    let stops = |actions: &[Action]| matches!(actions, [Action::Stop { .. }]);
    assert!(actions(WorkerState::Running, 60_000).is_empty());
    assert!(actions(WorkerState::Unknown, 70_000).is_empty());
    assert!(stops(&actions(WorkerState::Running, 70_000)));
    assert_eq!(
        actions(WorkerState::Gone, 5),
        [Action::FindResult {
            run: "1#1".to_owned()
        }]
    );
}

/// A state with one run that works and has sent nothing since its claim.
fn silent_run() -> State {
    let mut state = state_with(vec![
        begun_entry(),
        intent_entry("1", 1),
        handle_entry("1#1"),
        Entry::Granted {
            run: "1#1".to_owned(),
            lease_ms: 60_000,
            claimed_at: None,
        },
    ]);
    state.runs[0].worker_state = WorkerState::Running;
    state
}

#[test]
fn a_run_is_not_stopped_for_its_silence_while_the_machine_was_suspended() {
    let (mut state, graph) = (silent_run(), diamond(&HashSet::new()));
    let mut actions_at = |now| {
        state.note_iteration(now);
        decide(&state, &graph, &policy(), now).actions
    };
    // The main loop iterates every second for 20 seconds, and then not for an hour.
    for second in 0..20 {
        assert!(actions_at(second * 1000).is_empty());
    }
    let resumed_at = 3_600_000;
    for second in 0..60 {
        assert!(
            actions_at(resumed_at + second * 1000).is_empty(),
            "{second}"
        );
    }
    assert!(matches!(
        actions_at(resumed_at + 61_000).as_slice(),
        [Action::Stop { .. }]
    ));
}

#[test]
fn a_silent_run_is_stopped_even_if_the_clock_was_set_back() {
    let (mut state, graph) = (silent_run(), diamond(&HashSet::new()));
    let hour = 3_600_000;
    state.note_iteration(hour);
    state.note_iteration(0);
    for second in 1..=61 {
        state.note_iteration(second * 1000);
    }
    let actions = decide(&state, &graph, &policy(), 61_000).actions;
    assert!(matches!(actions.as_slice(), [Action::Stop { .. }]));
}

#[test]
fn a_cancelled_run_may_be_silent_for_longer_because_it_pushes_its_work() {
    let (mut state, graph) = (silent_run(), diamond(&HashSet::new()));
    state.runs[0].is_cancelled = true;
    let actions = |now| decide(&state, &graph, &policy(), now).actions;
    assert!(actions(180_000).is_empty());
    assert!(matches!(actions(200_000).as_slice(), [Action::Stop { .. }]));
}
