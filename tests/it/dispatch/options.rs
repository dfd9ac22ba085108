//! The options of `dispatch`: when checks run, the budget, the phases and tasks, the repository.

use super::sample::{Gate, Graph};
use crate::support::origin::write_program;
use crate::support::path;

/// A graph of two tasks whose checks pass on the work of each task, and fail on both together; an open gate; and the agents'
/// script.
fn incompatible_tasks() -> (Graph, Gate, &'static str) {
    let graph = Graph::new("1 | Left | P | 1 | H\n2 | Right | P | 1 | H\n");
    graph.commit_checks(&["sh -c '[ ! -e done-1 ] || [ ! -e done-2 ]'"]);
    // No agent ends before both have begun.
    let work = r#"while [ "$(grep -c . "$GATE/begun")" -lt 2 ]; do sleep 0.02; done
        touch done-${TASK_ID##*:}"#;
    let gate = Gate::new();
    gate.open();
    (graph, gate, work)
}

#[test]
fn verify_end_merges_all_work_and_reports_failed_checks_at_the_end() {
    let (graph, gate, work) = incompatible_tasks();
    let dispatch = graph.dispatch_with_gate(&gate, work);
    let ended = dispatch.args(["--verify", "end"]).run();
    ended.assert_code(1);
    let stderr = &ended.stderr;
    assert!(stderr.contains("2 of 2 tasks are done"), "{stderr}");
    assert!(
        stderr.contains("the checks fail on the branch: "),
        "{stderr}"
    );
    assert_eq!(graph.entries("merged").len(), 2);
    assert_eq!(graph.entries("red").len(), 0);
}

#[test]
fn verify_end_checks_the_finished_branch_once() {
    let graph = Graph::new("1 | Left | P | 1 | H\n2 | Right | P | 1 | H\n");
    graph.commit_checks(&["true"]);
    let dispatch = graph.dispatch("touch done-${TASK_ID##*:}");
    dispatch.args(["--verify", "end"]).run().assert_code(0);
    let checks: Vec<_> = graph.entries("intent");
    let checks: Vec<_> = checks.iter().filter(|run| run["task"].is_null()).collect();
    assert_eq!(checks.len(), 1, "{checks:#?}");
    let tip = graph.git(&["rev-parse", "descartes/house"]);
    assert_eq!(checks[0]["base"], tip.trim());
}

#[test]
fn verify_never_runs_no_checks_on_merged_work() {
    let (graph, gate, work) = incompatible_tasks();
    let dispatch = graph.dispatch_with_gate(&gate, work);
    dispatch.args(["--verify", "never"]).run().assert_code(0);
    assert_eq!(graph.entries("intent").len(), 2);
}

#[test]
fn when_the_budget_is_used_up_no_further_run_starts_and_finished_work_stays_merged() {
    let graph = Graph::new("1 | First | P | 1 | H\n2 | Second | P | 1 | H\n\n@edges\n2 -> 1\n");
    let bin = graph.state_dir().with_file_name("bin");
    std::fs::create_dir(&bin).expect("a directory");
    let result = r#"{"type":"result","subtype":"success","is_error":false,"result":"Done.","session_id":"s","total_cost_usd":0.75,"num_turns":1}"#;
    write_program(
        &bin.join("claude"),
        &format!("cat > /dev/null; echo done > done; echo '{result}'"),
    );
    let path = format!("{}:{}", bin.display(), path().into_string().expect("UTF-8"));
    let dispatch = |budget: &str| {
        let dispatch = graph.command(&["--max-budget-usd", budget]);
        dispatch
            .env("PATH", &path)
            .env("IS_SANDBOX", "1")
            .env("ANTHROPIC_API_KEY", "sk-ant-the-key")
            .env("DESCARTES_MODEL_GATEWAY", "off")
    };
    let ended = dispatch("0.50").run();
    ended.assert_code(1);
    let stderr = &ended.stderr;
    assert!(stderr.contains("1 of 2 tasks are done"), "{stderr}");
    assert!(stderr.contains("for $0.75"), "{stderr}");
    let words = "nothing new was started: the budget is used up: $0.75 of $0.50";
    assert!(stderr.contains(words), "{stderr}");
    assert_eq!(graph.entries("intent").len(), 1);
    // Earlier costs count after a restart, too. With a larger budget, the dispatch continues.
    dispatch("0.75").run().assert_code(1);
    assert_eq!(graph.entries("intent").len(), 1);
    dispatch("2").run().assert_code(0);
    assert_eq!(graph.entries("intent").len(), 2);
}

#[test]
fn all_phases_merges_the_tasks_of_all_phases_on_the_named_branch() {
    let graph = Graph::with_text(
        "# SCUD Graph v1\n# Phase: house\n\n@nodes\n1 | Walls | P | 1 | H\n\n---\n\n\
         # SCUD Graph v1\n# Phase: garden\n\n@nodes\n1 | Trees | P | 1 | H\n\n@edges\n1 -> house:1\n",
    );
    let agent = "ls done-* 2> /dev/null > done-${TASK_ID%%:*} || true";
    let ended = graph.dispatch(agent).arg("--all-phases").run();
    ended.assert_code(2);
    assert!(
        ended.stderr.contains("--all-phases needs --branch"),
        "{ended:#?}"
    );
    let dispatch = graph.dispatch(agent);
    let ended = dispatch.args(["--all-phases", "--branch", "all"]).run();
    ended.assert_code(0);
    assert!(ended.stderr.contains("2 of 2 tasks are done"), "{ended:#?}");
    assert_eq!(graph.show("all", "done-house"), "");
    assert_eq!(graph.show("all", "done-garden"), "done-house\n");
    let tasks = graph.show("all", ".scud/tasks/tasks.scg");
    assert_eq!(tasks.matches("| D |").count(), 2, "{tasks}");
}

#[test]
fn a_skipped_task_blocks_the_tasks_that_need_it_until_retry() {
    let graph = Graph::new(
        "1 | First | P | 1 | H\n2 | Second | P | 1 | M\n3 | Third | P | 1 | M\n4 | Fourth | P | 1 | M\n\n@edges\n2 -> 1\n3 -> 2\n4 -> 1\n",
    );
    let gate = Gate::new();
    let work = "echo done > done-${TASK_ID##*:}";
    let running = graph.dispatch_with_gate(&gate, work).start();
    gate.wait_for_an_agent();
    graph.command(&["skip", "2"]).run().assert_code(0);
    gate.open();
    let ended = running.wait();
    ended.assert_code(1);
    assert!(
        ended
            .stderr
            .contains("blocked   3        Third: needs 2, which is skipped"),
        "{ended:#?}"
    );
    assert!(
        !gate.begun_tasks().contains("house:2"),
        "{}",
        gate.begun_tasks()
    );
    assert_eq!(graph.show("descartes/house", "done-4"), "done\n");
    let status = graph.command(&["status"]).run();
    assert!(
        status.stdout.contains("skipped   2        Second"),
        "{status:#?}"
    );
    // Without a dispatcher, commands are recorded for the next one.
    let retry = graph.command(&["retry", "2"]).run();
    retry.assert_code(0);
    assert!(retry.stdout.contains("noted; "), "{retry:#?}");
    graph.command(&["skip", "3"]).run().assert_code(0);
    graph.dispatch_with_gate(&gate, work).run().assert_code(1);
    assert_eq!(graph.show("descartes/house", "done-2"), "done\n");
    assert!(
        !gate.begun_tasks().contains("house:3"),
        "{}",
        gate.begun_tasks()
    );
}

#[test]
fn with_repo_the_integration_branch_and_the_branch_of_into_are_pushed_to_the_remote() {
    let graph = Graph::new("1 | First | P | 1 | H\n2 | Second | P | 1 | H\n\n@edges\n2 -> 1\n");
    let remote = graph.state_dir().with_file_name("remote.git");
    let remote = remote.to_str().expect("UTF-8");
    graph.git(&["clone", "--quiet", "--bare", ".", remote]);
    let url = format!("file://{remote}");
    let dispatch = |more: &[&str]| {
        graph
            .dispatch("ls done-* 2> /dev/null > done-${TASK_ID##*:} || true")
            .args(["--repo", &url])
            .args(more)
            // With --repo, `dispatch` needs no project in its directory.
            .dir(graph.state_dir().parent().expect("a directory"))
    };
    let ended = dispatch(&[]).run();
    ended.assert_code(2);
    assert!(
        ended
            .stderr
            .contains("with --repo, name the phase with --tag"),
        "{ended:#?}"
    );
    dispatch(&["--tag", "house", "--into", "main"])
        .run()
        .assert_code(0);
    let git = |args: &[&str]| graph.git(&[&["--git-dir", remote], args].concat());
    assert_eq!(git(&["show", "main:done-2"]), "done-1\n");
    assert_eq!(
        git(&["for-each-ref", "--format=%(refname)"]),
        "refs/heads/descartes/house\nrefs/heads/main\n"
    );
    // The project on this machine was not touched.
    assert_eq!(
        graph.git(&["for-each-ref", "--format=%(refname:short)"]),
        "main\n"
    );
}
