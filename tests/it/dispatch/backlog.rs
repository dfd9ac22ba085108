//! Finished work that waits for its merge, because the checks of merged work take long.

use std::collections::HashSet;
use std::fs;

use super::sample::{Gate, Graph, independent_tasks};
use crate::support::wait_until;

/// A check that passes in the worker of a task. On merged work, it waits until the test creates the file `checks`, and then
/// fails if the work contains the file `broken`.
const CHECK: &str = r#"sh -c '
    [ "$TASK_ID" = checks ] || exit 0
    while [ -e "$GATE" ] && [ ! -e "$GATE/checks" ]; do sleep 0.02; done
    [ ! -e broken ]'"#;

/// The first attempt at task 1 creates the file `broken`.
const AGENT: &str = r#"
    id=${TASK_ID##*:}
    if [ "$id" = 1 ] && ! grep -q 'checks fail when it is merged' "$DESCARTES_PROMPT_FILE"; then touch broken; fi
    touch "done-$id""#;

#[test]
fn while_64_finished_runs_wait_no_run_starts_and_a_rejected_task_is_done_again() {
    let (graph, gate) = (Graph::new(&independent_tasks(68)), Gate::new());
    graph.commit_checks(&[CHECK]);
    gate.open();
    let dispatch = graph.dispatch_with_gate(&gate, AGENT);
    let dispatch = dispatch.args(["--jobs", "2", "--verify", "always"]);
    let running = dispatch.start();
    wait_until("64 finished runs", || graph.entries("reported").len() >= 64);
    fs::write(gate.path("checks"), "").expect("a file");
    let ended = running.wait();
    ended.assert_code(0);
    assert!(
        ended.stderr.contains("68 of 68 tasks are done"),
        "{ended:#?}"
    );
    assert!(!graph.entries("red").is_empty(), "{ended:#?}");

    let mut waiting = HashSet::new();
    for entry in graph.journal() {
        let run = entry["run"].clone();
        match entry["entry"].as_str() {
            Some("intent") if !entry["task"].is_null() => {
                assert!(waiting.len() < 64, "{run} starts while {waiting:?} wait");
            }
            Some("reported") if entry["event"]["task_id"] != "checks" => {
                waiting.insert(run);
            }
            Some("merged" | "red" | "conflict") => {
                waiting.remove(&run);
            }
            _ => {}
        }
    }
}
