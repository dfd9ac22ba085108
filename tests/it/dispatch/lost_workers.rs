//! Workers that are lost after they have finished their work: the work is merged and not done again.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::sample::{Gate, Graph, has_ended, kill_while_an_agent_works};
use crate::support::origin::write_program;
use crate::support::{each, wait_until};

/// The name of the branch with a run's result.
fn branch_of(run: &str) -> String {
    format!("refs/heads/descartes-runs/{run}/work")
}

/// Runs a task until its worker has pushed the result while no dispatcher runs, and then kills the worker.
/// Returns the journal entry with the worker's handle.
fn lose_a_worker_after_its_push(graph: &Graph, gate: &Gate, work: &str) -> Value {
    kill_while_an_agent_works(graph.dispatch_with_gate(gate, work), gate);
    gate.open();
    let handle = graph.entries("handle").remove(0);
    let run = handle["run"].as_str().expect("a run");
    wait_for_branch(graph, run);
    kill_worker(&handle);
    remove_output(graph, run);
    handle
}

/// Waits until the worker of a run has pushed the result.
fn wait_for_branch(graph: &Graph, run: &str) {
    let repository = graph.state_dir().join("integration.git");
    let (repository, branch) = (repository.display().to_string(), branch_of(run));
    wait_until("the pushed branch", || {
        let branches = graph.git(&["--git-dir", &repository, "for-each-ref", &branch]);
        !branches.is_empty()
    });
}

/// Deletes the output of a run, with the result that the worker may have printed: the output of a lost machine is lost, too.
fn remove_output(graph: &Graph, run: &str) {
    fs::write(graph.state_dir().join("runs").join(run).join("stdout"), "").expect("a file");
}

/// Kills the worker of a journal entry `handle`, and waits until it is dead.
fn kill_worker(handle: &Value) {
    let pid = handle["handle"]["pid"].as_i64().expect("a process id");
    let pid = i32::try_from(pid).expect("a small number");
    let worker = Pid::from_raw(pid).expect("a process id");
    let _ = kill_process(worker, Signal::KILL);
    wait_until("the end of the worker", || has_ended(worker));
}

/// Installs a hook that kills the worker of a journal entry `handle` when its branch is there and before its push ends, so
/// that it cannot report to a dispatcher.
fn install_hook_that_kills_worker(graph: &Graph, handle: &Value) {
    let hooks = graph.state_dir().join("integration.git/hooks");
    fs::create_dir_all(&hooks).expect("a directory");
    let script = format!("kill -9 {}", handle["handle"]["pid"]);
    write_program(&hooks.join("post-receive"), &script);
}

#[test]
fn work_that_is_finished_without_a_dispatcher_is_merged_by_the_next_one() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let gate = Gate::new();
    let dispatch = || {
        // The worker stops its attempts to report before the next dispatcher begins.
        let dispatch = graph.dispatch_with_gate(&gate, "echo done > done");
        dispatch.env("DESCARTES_FINISH_DEADLINE", "100ms")
    };
    kill_while_an_agent_works(dispatch(), &gate);
    gate.open();
    wait_until("the worker's result line", || {
        has_result_line(&graph.state_dir().join("runs"))
    });
    dispatch().run().assert_code(0);
    assert_eq!(graph.show("descartes/house", "done"), "done\n");
    assert_eq!(graph.entries("intent").len(), 1);
    assert_eq!(graph.entries("harvested").len(), 0);
}

#[test]
fn cancel_without_a_dispatcher_starts_no_checks_and_leaves_work_that_needs_them_to_the_next_one() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    graph.commit_checks(&["true"]);
    let gate = Gate::new();
    let dispatch = || {
        let dispatch = graph.dispatch_with_gate(&gate, "echo done > done");
        // The worker stops its attempts to report before the next dispatcher begins.
        let dispatch = dispatch.env("DESCARTES_FINISH_DEADLINE", "100ms");
        dispatch.args(["--verify", "always"])
    };
    kill_while_an_agent_works(dispatch(), &gate);
    gate.open();
    wait_until("the worker's result line", || {
        has_result_line(&graph.state_dir().join("runs"))
    });
    let cancel = dispatch().arg("cancel").run();
    cancel.assert_code(0);
    assert_eq!(graph.entries("intent").len(), 1, "{cancel:#?}");
    assert_eq!(graph.entries("merged").len(), 0);
    dispatch().run().assert_code(0);
    assert_eq!(graph.merges_of("descartes/house", "1"), 1);
    assert_eq!(gate.begun_tasks(), "house:1\n");
}

/// Whether one of the runs below a directory has printed its result line.
fn has_result_line(runs: &Path) -> bool {
    let runs = fs::read_dir(runs).into_iter().flatten().flatten();
    let outputs = runs.filter_map(|run| fs::read_to_string(run.path().join("stdout")).ok());
    { outputs }.any(|output| output.contains("descartes-result "))
}

#[test]
fn the_work_of_a_worker_that_dies_after_its_push_is_checked_again_and_merged() {
    // `false`: the dispatcher was killed before it recorded the handle.
    each(&[true, false], |has_handle| {
        let graph = Graph::new("1 | Only | P | 1 | H\n2 | Next | P | 1 | H\n\n@edges\n2 -> 1\n");
        let gate = Gate::new();
        let checks = gate.path("checks");
        graph.commit_checks(&["sh -c 'echo >> \"$GATE/checks\"'"]);
        let work = "echo done > done-${TASK_ID##*:}";
        let handle = lose_a_worker_after_its_push(&graph, &gate, work);
        let run = handle["run"].as_str().expect("a run");
        if !has_handle {
            // `created`, `begun` and `intent`.
            graph.keep_journal_entries(3);
            assert_eq!(graph.entries("intent").len(), 1);
            assert_eq!(graph.entries("handle").len(), 0);
        }
        // Each check appends one byte.
        let count_checks = || fs::read_to_string(&checks).unwrap_or_default().len();
        let before = count_checks();
        let ended = graph.dispatch_with_gate(&gate, work).run();
        ended.assert_code(0);
        assert!(
            ended.stderr.contains("has pushed finished work"),
            "{ended:#?}"
        );
        assert_eq!(gate.begun_tasks(), "house:1\nhouse:2\n");
        assert_eq!(graph.entries("harvested")[0]["run"], run);
        assert_eq!(graph.merges_of("descartes/house", "1"), 1);
        assert_eq!(graph.show("descartes/house", "done-2"), "done\n");
        // The checks run once on the lost work, and once in the worker of the second task.
        assert_eq!(count_checks() - before, 2, "{ended:#?}");
    });
}

#[test]
fn pushed_work_is_found_even_if_an_earlier_search_for_work_of_the_same_run_found_none() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let gate = Gate::new();
    let dispatch = || graph.dispatch_with_gate(&gate, "echo done > done");
    kill_while_an_agent_works(dispatch(), &gate);
    let handle = graph.entries("handle").remove(0);
    kill_worker(&handle);
    // As if the dispatcher was killed before it started the worker.
    graph.keep_journal_entries(3);
    let running = dispatch().start();
    gate.wait_for_agents(2);
    wait_until("the handle", || graph.entries("handle").len() == 1);
    let handle = graph.entries("handle").remove(0);
    install_hook_that_kills_worker(&graph, &handle);
    gate.open();
    running.wait().assert_code(0);
    assert_eq!(graph.entries("harvested").len(), 1);
    assert_eq!(
        graph.entries("intent").len(),
        2,
        "one attempt and one check"
    );
}

#[test]
fn lost_work_that_fails_its_checks_is_not_merged_and_the_task_is_done_again() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let gate = Gate::new();
    let broken = gate.path("broken");
    graph.commit_checks(&["sh -c '[ ! -e \"$GATE/broken\" ] || [ -e repaired ]'"]);
    let work = "if grep -q 'checks fail when it is merged' \"$DESCARTES_PROMPT_FILE\"; then touch repaired; fi; touch done";
    lose_a_worker_after_its_push(&graph, &gate, work);
    fs::write(&broken, "").expect("a file");
    let ended = graph.dispatch_with_gate(&gate, work).run();
    ended.assert_code(0);
    assert_eq!(graph.entries("red").len(), 1, "{ended:#?}");
    assert_eq!(
        graph.entries("intent").len(),
        4,
        "two attempts and two checks"
    );
    assert_eq!(graph.show("descartes/house", "repaired"), "");
}
