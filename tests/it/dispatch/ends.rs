//! The end of a dispatch: the effect of signals, and the checks of the finished branch.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use super::sample::{Gate, Graph};
use crate::support::{Worker, wait_until};

const ONE_TASK: &str = "1 | Only | P | 1 | H\n";
/// The agent: writes a file that is named after the task.
const AGENT: &str = "echo done > done-${TASK_ID##*:}";
/// A check that passes in the worker of a task, and fails on merged work.
const CHECK_THAT_FAILS_ON_MERGED_WORK: &str = r#"sh -c '[ "$TASK_ID" != checks ]'"#;
/// A check that passes in the worker of a task. On merged work, it waits until the test calls [`let_checks_pass`], and then passes.
const CHECK_THAT_WAITS_ON_MERGED_WORK: &str = r#"sh -c '[ "$TASK_ID" != checks ] || while [ -e "$GATE" ] && [ ! -e "$GATE/checks" ]; do sleep 0.02; done'"#;

/// A graph with this check, a branch `release`, and a gate for agents and checks.
fn graph_with_check(nodes: &str, check: &str) -> (Graph, Gate) {
    let graph = Graph::new(nodes);
    graph.commit_checks(&[check]);
    graph.git(&["branch", "release"]);
    (graph, Gate::new())
}

/// `dispatch --verify end --into release`.
fn dispatch(graph: &Graph, gate: &Gate, work: &str) -> Worker {
    let dispatch = graph.dispatch_with_gate(gate, work);
    dispatch.args(["--verify", "end", "--into", "release"])
}

fn let_checks_pass(gate: &Gate) {
    fs::write(gate.path("checks"), "").expect("a file");
}

/// The journal entries with which runs begin that only check a commit.
fn intents_of_checks(graph: &Graph) -> Vec<Value> {
    let mut intents = graph.entries("intent");
    intents.retain(|intent| intent["task"].is_null());
    intents
}

/// Waits until the worker of the first check has claimed it.
fn wait_for_check(graph: &Graph) {
    let is_check = |entry: &Value| {
        entry["run"]
            .as_str()
            .is_some_and(|run| run.contains("-checks-"))
    };
    wait_until("a check", || graph.entries("granted").iter().any(is_check));
}

#[track_caller]
fn assert_release_is_at(graph: &Graph, branch: &str) {
    let commit = |branch: &str| graph.git(&["rev-parse", branch]);
    assert_eq!(commit("release"), commit(branch));
}

#[test]
fn after_ctrl_c_a_finished_branch_without_its_checks_is_not_done_and_into_is_not_moved() {
    let (graph, gate) = graph_with_check(ONE_TASK, CHECK_THAT_FAILS_ON_MERGED_WORK);
    let running = dispatch(&graph, &gate, AGENT).start();
    gate.wait_for_an_agent();
    running.signal(Signal::INT);
    running.wait_for_log("nothing new starts");
    gate.open();
    let ended = running.wait();
    ended.assert_code(3);
    assert!(ended.stderr.contains("1 of 1 tasks are done"), "{ended:#?}");
    assert!(
        ended.stderr.contains("release was not moved: "),
        "{ended:#?}"
    );
    assert_release_is_at(&graph, "main");
}

#[test]
fn sigterm_during_the_checks_of_the_finished_branch_leaves_them_to_the_same_command() {
    let (graph, gate) = graph_with_check(ONE_TASK, CHECK_THAT_WAITS_ON_MERGED_WORK);
    gate.open();
    let running = dispatch(&graph, &gate, AGENT)
        .env("DESCARTES_FINISH_DEADLINE", "100ms")
        .start();
    wait_for_check(&graph);
    running.signal(Signal::TERM);
    let ended = running.wait();
    ended.assert_code(3);
    assert!(ended.stderr.contains("1 runs go on"), "{ended:#?}");
    assert_release_is_at(&graph, "main");
    let_checks_pass(&gate);
    dispatch(&graph, &gate, AGENT).run().assert_code(0);
    assert_release_is_at(&graph, "descartes/house");
}

#[test]
fn if_the_checks_of_the_finished_branch_fail_into_is_not_moved() {
    let (graph, gate) = graph_with_check(ONE_TASK, CHECK_THAT_FAILS_ON_MERGED_WORK);
    gate.open();
    let ended = dispatch(&graph, &gate, AGENT).run();
    ended.assert_code(1);
    let words = "the checks fail on the branch: ";
    assert!(ended.stderr.contains(words), "{ended:#?}");
    assert_release_is_at(&graph, "main");
}

#[test]
fn a_branch_that_moves_during_its_last_checks_is_checked_again() {
    let (graph, gate) = graph_with_check(
        "1 | First | P | 1 | H\n2 | Second | P | 1 | H\n",
        CHECK_THAT_WAITS_ON_MERGED_WORK,
    );
    gate.open();
    let work = r#"[ "${TASK_ID##*:}" != 1 ] || [ -e "$GATE/retried" ] || exit 1
        echo done > done-${TASK_ID##*:}"#;
    let running = dispatch(&graph, &gate, work).start();
    wait_for_check(&graph);
    fs::write(gate.path("retried"), "").expect("a file");
    graph.command(&["retry", "1"]).run().assert_code(0);
    wait_until("the merge", || graph.entries("merged").len() == 2);
    let_checks_pass(&gate);
    running.wait().assert_code(0);
    let checks = intents_of_checks(&graph);
    assert_eq!(checks.len(), 2, "{checks:#?}");
    let tip = graph.git(&["rev-parse", "descartes/house"]);
    assert_eq!(checks[1]["base"], tip.trim());
    assert_release_is_at(&graph, "descartes/house");
}

#[test]
fn the_second_ctrl_c_cancels_a_check_and_starts_no_other_one() {
    let (graph, gate) = graph_with_check(ONE_TASK, CHECK_THAT_WAITS_ON_MERGED_WORK);
    gate.open();
    let dispatch = || {
        let dispatch = graph.dispatch_with_gate(&gate, AGENT);
        let dispatch = dispatch.env("DESCARTES_HEARTBEAT", "50ms");
        dispatch.args(["--verify", "always"])
    };
    let running = dispatch().start();
    wait_for_check(&graph);
    for words in ["nothing new starts", "cancelling 1 runs"] {
        running.signal(Signal::INT);
        running.wait_for_log(words);
    }
    let ended = running.wait();
    ended.assert_code(3);
    assert_eq!(intents_of_checks(&graph).len(), 1, "{ended:#?}");
    let words = "the next dispatcher merges it";
    assert!(ended.stderr.contains(words), "{ended:#?}");
    let_checks_pass(&gate);
    dispatch().run().assert_code(0);
    assert_eq!(graph.merges_of("descartes/house", "1"), 1);
    assert_eq!(gate.begun_tasks(), "house:1\n");
}

#[test]
fn closing_the_terminal_has_no_effect_on_a_dispatch_under_nohup() {
    let (graph, gate) = (Graph::new(ONE_TASK), Gate::new());
    let running = graph
        .dispatch_with_gate(&gate, AGENT)
        .started_by("/bin/sh", |program| {
            let script = "trap '' HUP; exec \"$0\" dispatch";
            vec!["-c".into(), script.into(), program.into()]
        })
        .dir(graph.project())
        .start();
    gate.wait_for_an_agent();
    running.signal(Signal::HUP);
    gate.open();
    let ended = running.wait();
    ended.assert_code(0);
    assert!(ended.stderr.contains("1 of 1 tasks are done"), "{ended:#?}");
}
