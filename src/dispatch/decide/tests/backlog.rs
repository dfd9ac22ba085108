//! Tests of the starts while finished work waits for its merge, and of the order of starts.

use super::*;

/// Independent tasks with these priorities. The first one has the id 1.
fn independent_tasks(priorities: &str) -> TaskGraph {
    let rows = (1..).zip(priorities.chars());
    let rows = rows.map(|(id, priority)| format!("{id} | t | P | 1 | {priority}\n"));
    let rows = rows.collect::<Vec<_>>().concat();
    TaskGraph::parse(&format!("# SCUD Graph v1\n# Phase: p\n@nodes\n{rows}")).unwrap()
}

/// The decision after these entries, with two jobs.
fn decision_after(entries: Vec<Entry>, graph: &TaskGraph) -> Decision {
    let policy = Policy {
        scope: (0..graph.tasks.len()).collect(),
        ..policy()
    };
    decide(&state_with(entries), graph, &policy, 100)
}

/// The tasks that the decision starts.
fn started_tasks(decision: &Decision) -> Vec<&str> {
    let tasks = decision.actions.iter().filter_map(|action| match action {
        Action::Start { task, .. } => Some(task.as_str()),
        _ => None,
    });
    tasks.collect()
}

/// The first runs of tasks, which have completed and are not merged.
fn unmerged_runs(tasks: &[&str]) -> Vec<Entry> {
    let runs = tasks.iter().flat_map(|task| {
        let run = format!("{task}#1");
        let event = json!({ "status": "completed" });
        [intent_entry(task, 1), Entry::Reported { run, event }]
    });
    [begun_entry()].into_iter().chain(runs).collect()
}

/// A graph of 70 independent tasks, and the entries after which the first `count` of them wait for their merge.
fn backlog(count: usize) -> (TaskGraph, Vec<Entry>) {
    let ids: Vec<String> = (1..=count).map(|id| id.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    (independent_tasks(&"M".repeat(70)), unmerged_runs(&ids))
}

#[test]
fn no_run_starts_while_64_finished_runs_wait_for_their_merge() {
    let (graph, waiting) = backlog(63);
    let decision = decision_after(waiting, &graph);
    assert_eq!(started_tasks(&decision), ["p:64", "p:65"]);
    assert!(!decision.waits_for_merges);
    let (graph, waiting) = backlog(64);
    let decision = decision_after(waiting, &graph);
    assert!(started_tasks(&decision).is_empty());
    assert!(decision.waits_for_merges);
    assert!(!decision.is_over);
    assert_eq!(decision.actions.len(), 64, "all runs are merged");
}

#[test]
fn runs_start_although_much_work_waits_if_the_check_of_merged_work_does_not_begin() {
    let (graph, mut entries) = backlog(64);
    entries.push(Entry::Intent {
        run: "check".to_owned(),
        task: None,
        attempt: 1,
        base: "abc".to_owned(),
        note: None,
        memory: None,
    });
    let state = state_with(entries);
    let policy = Policy {
        scope: (0..graph.tasks.len()).collect(),
        ..policy()
    };
    let started_at = |now| started_tasks(&decide(&state, &graph, &policy, now)).len();
    let check = state.run("check").expect("the run").intended_at;
    assert_eq!(started_at(check + policy.start_deadline_ms), 0);
    // The check uses one of the two jobs.
    assert_eq!(started_at(check + policy.start_deadline_ms + 1), 1);
}

#[test]
fn a_task_whose_work_was_rejected_starts_again_although_other_work_waits_for_its_merge() {
    let rejected = Entry::Red {
        run: "1#1".to_owned(),
        note: "look at it".to_owned(),
        unusable: None,
    };
    let (graph, mut entries) = backlog(64);
    entries.push(rejected);
    let decision = decision_after(entries, &graph);
    assert_eq!(started_tasks(&decision), ["p:1", "p:65"]);
}

#[test]
fn a_fenced_run_that_completes_after_all_is_merged() {
    let graph = independent_tasks("M");
    let run = "1#1".to_owned();
    let event = json!({ "status": "completed" });
    let mut entries = vec![begun_entry(), intent_entry("1", 1), fenced_entry("1#1")];
    entries.push(Entry::Reported { run, event });
    let actions = decision_after(entries, &graph).actions;
    let run = "1#1".to_owned();
    assert_eq!(actions, [Action::Merge { run }]);
}

#[test]
fn the_most_important_tasks_start_first() {
    let graph = independent_tasks("LMHCMHC");
    let decision = decision_after(vec![begun_entry()], &graph);
    assert_eq!(started_tasks(&decision), ["p:4", "p:7"]);
}
