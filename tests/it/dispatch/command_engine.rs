//! The engine `command`, with workers that shell commands start on this machine: what happens if a start, a look or the network
//! goes wrong. Nothing runs twice, and nothing finished is lost.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::sample::{Gate, Graph, has_ended};
use crate::support::{Worker, duration_setting, wait_until, with_enough_time};

/// A start command that starts the worker in the background.
const START: &str = r#""$WORKER" > "$RUN_OUTPUT" 2> "$RUN_LOG" & echo $!"#;

/// A look command that finds the worker by its process id. Says `gone` about a zombie too: in a container, the first process may
/// never read the exit status of a worker.
const LOOK: &str = "case $(sed 's/.*) //' /proc/$RUN_HANDLE/stat 2> /dev/null) in ''|Z*|X*) echo gone;; *) echo running;; esac";

/// `dispatch` on the engine `command`, with this start command.
fn on_command_engine(dispatch: Worker, start: &str) -> Worker {
    with_commands(dispatch.args(["--engine", "command"]), start)
}

/// Sets the three commands of the engine `command`.
pub fn with_commands(dispatch: Worker, start: &str) -> Worker {
    dispatch
        .env("WORKER", env!("CARGO_BIN_EXE_descartes-worker"))
        .env("DESCARTES_DISPATCH_COMMAND_START", start)
        .env("DESCARTES_DISPATCH_COMMAND_LOOK", LOOK)
        .env(
            "DESCARTES_DISPATCH_COMMAND_STOP",
            "kill $RUN_HANDLE 2> /dev/null; true",
        )
}

#[test]
fn if_the_engine_refuses_the_checks_of_merged_work_the_dispatch_says_so_and_the_same_command_continues()
 {
    let graph = Graph::new("1 | Left | P | 1 | H\n2 | Right | P | 1 | H\n");
    graph.commit_checks(&["true"]);
    // Both tasks begin at the same commit, so the checks have to run on the work of both together.
    let agent = r#"
        id=${TASK_ID##*:}
        touch "$MEETING/$id"
        while [ -e "$MEETING" ] && { [ ! -e "$MEETING/1" ] || [ ! -e "$MEETING/2" ]; }; do sleep 0.02; done
        touch "done-$id""#;
    let meeting = tempfile::tempdir().expect("a directory");
    let dispatch = |start: &str| {
        on_command_engine(graph.dispatch(agent), start)
            .env("MEETING", meeting.path())
            .env("DESCARTES_AGENT_ENV", "MEETING")
    };
    let refusal =
        format!("case $RUN_NAME in *-checks-*) echo 'no checks here' >&2; exit 78;; esac; {START}");
    let ended = dispatch(&refusal).run();
    ended.assert_code(3);
    assert!(ended.stderr.contains("no checks here"), "{ended:#?}");
    dispatch(START).run().assert_code(0);
    for id in ["1", "2"] {
        assert_eq!(graph.merges_of("descartes/house", id), 1);
    }
}

#[test]
fn a_run_that_works_is_not_lost_because_its_engine_does_not_answer_to_its_start() {
    // The task must be claimed within the start deadline.
    with_enough_time(Duration::from_secs(1), |limit| {
        let graph = Graph::new("1 | Only | P | 1 | H\n");
        let gate = Gate::new();
        // The first call starts the worker, and waits until the agent works. No call has a clear answer.
        let start = r#"
            if [ ! -e "$RUN_OUTPUT.started" ]; then
                touch "$RUN_OUTPUT.started"
                "$WORKER" > "$RUN_OUTPUT" 2> "$RUN_LOG" &
                while [ -e "$GATE" ] && [ ! -e "$GATE/begun" ]; do sleep 0.02; done
            fi
            exit 75"#;
        let dispatch = graph.dispatch_with_gate(&gate, "echo done > done");
        let running = on_command_engine(dispatch, start)
            .args(["--attempts", "1"])
            .env("DESCARTES_DISPATCH_START_DEADLINE", duration_setting(limit))
            .start();
        let is_too_late = || !graph.entries("fenced").is_empty();
        wait_until("the agent, or a claim that is too late", || {
            !gate.begun_tasks().is_empty() || is_too_late()
        });
        if is_too_late() {
            // Ends the first call of the start command.
            fs::write(gate.path("begun"), "").expect("a file");
            running.wait();
            return Err("the claim did not come".to_owned());
        }
        running.wait_for_log("has not confirmed its start");
        gate.open();
        running.wait().assert_code(0);
        assert_eq!(gate.begun_tasks(), "house:1\n");
        assert_eq!(graph.entries("intent").len(), 1);
        assert_eq!(graph.show("descartes/house", "done"), "done\n");
        Ok(())
    });
}

#[test]
fn a_run_that_works_is_not_lost_because_a_repeated_start_fails_or_is_refused() {
    for code in [1, 78] {
        let graph = Graph::new("1 | Only | P | 1 | H\n2 | After | P | 1 | H\n\n@edges\n2 -> 1\n");
        let gate = Gate::new();
        // The first call starts the worker without a clear answer, the second one fails, and the third one finds the worker.
        let start = format!(
            r#"
            if [ ! -e "$RUN_OUTPUT.pid" ]; then
                "$WORKER" > "$RUN_OUTPUT" 2> "$RUN_LOG" &
                echo $! > "$RUN_OUTPUT.pid"
                while [ -e "$GATE" ] && ! grep -qsx "$TASK_ID" "$GATE/begun"; do sleep 0.02; done
                exit 75
            fi
            if [ ! -e "$RUN_OUTPUT.failed" ]; then touch "$RUN_OUTPUT.failed"; exit {code}; fi
            cat "$RUN_OUTPUT.pid""#
        );
        let dispatch = graph.dispatch_with_gate(&gate, "echo done > done-${TASK_ID##*:}");
        let running = on_command_engine(dispatch, &start)
            .args(["--attempts", "1"])
            .start();
        running.wait_for_log("has not confirmed its start");
        wait_until("the handle", || graph.entries("handle").len() == 1);
        gate.open();
        running.wait().assert_code(0);
        assert_eq!(gate.begun_tasks(), "house:1\nhouse:2\n", "{code}");
        assert_eq!(graph.entries("intent").len(), 2, "{code}");
        assert_eq!(graph.entries("fenced").len(), 0, "{code}");
    }
}

#[test]
fn a_fresh_dispatch_names_the_runs_of_the_last_one_that_the_engine_may_still_have() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let dispatch = || on_command_engine(graph.dispatch("echo done > done"), START);
    dispatch().run().assert_code(0);
    let created = graph.entries("created");
    let id = created[0]["dispatch"].as_str().expect("an id");
    graph.git(&["branch", "-D", "descartes/house"]);
    let ended = dispatch().arg("--fresh").run();
    ended.assert_code(0);
    let words = format!("the engine command may still have runs with names that begin with {id}-");
    assert!(ended.stderr.contains(&words), "{ended:#?}");
}

const ONE_TASK: &str = "1 | Only | P | 1 | H\n";

/// The process id of the only worker.
fn worker_pid(graph: &Graph) -> Pid {
    let handles = graph.entries("handle");
    let text = handles[0]["handle"].to_string();
    let mut digits = text.split(|c: char| !c.is_ascii_digit());
    let id = digits.rfind(|part| !part.is_empty()).expect("a process id");
    Pid::from_raw(id.parse().expect("a number")).expect("a process id")
}

/// Kills the only worker, and asserts that a second run does its task. `look` is the look command of the engine.
fn assert_that_a_killed_worker_is_replaced(look: &str) {
    let graph = Graph::new(ONE_TASK);
    let gate = Gate::new();
    let running = on_command_engine(graph.dispatch_with_gate(&gate, "echo done > done"), START)
        .env("DESCARTES_DISPATCH_COMMAND_LOOK", look)
        .start();
    gate.wait_for_an_agent();
    wait_until("the handle", || graph.entries("handle").len() == 1);
    kill_process(worker_pid(&graph), Signal::KILL).expect("a worker");
    gate.open();
    running.wait().assert_code(0);
    assert_eq!(graph.entries("intent").len(), 2);
    assert_eq!(graph.merges_of("descartes/house", "1"), 1);
}

#[test]
fn a_run_that_the_engine_loses_is_tried_again() {
    assert_that_a_killed_worker_is_replaced(LOOK);
}

#[test]
fn a_worker_that_was_killed_is_tried_again_although_the_engine_says_that_it_succeeded() {
    assert_that_a_killed_worker_is_replaced(&LOOK.replace("echo gone", "echo exit 0"));
}

#[test]
fn a_worker_that_starts_long_after_its_start_runs_once() {
    let graph = Graph::new(ONE_TASK);
    let gate = Gate::new();
    let late = gate.path("late");
    // The start command returns at once. The worker starts when the test creates the file `late`.
    let start = r#"
        { while [ -e "$GATE" ] && [ ! -e "$GATE/late" ]; do sleep 0.02; done; exec "$WORKER" > "$RUN_OUTPUT" 2> "$RUN_LOG"; } &
        echo $!"#;
    let running =
        on_command_engine(graph.dispatch_with_gate(&gate, "echo done > done"), start).start();
    running.wait_for_log("started: run ");
    fs::write(late, "").expect("a file");
    gate.open();
    running.wait().assert_code(0);
    assert_eq!(gate.begun_tasks(), "house:1\n");
    assert_eq!(graph.entries("intent").len(), 1);
}

#[test]
fn a_wrong_exit_code_changes_nothing_about_a_run_that_has_reported() {
    let graph = Graph::new(ONE_TASK);
    let look = "kill -0 $RUN_HANDLE 2> /dev/null && echo running || echo exit 137 oom";
    let dispatch = on_command_engine(graph.dispatch("echo done > done"), START);
    let ended = dispatch.env("DESCARTES_DISPATCH_COMMAND_LOOK", look).run();
    ended.assert_code(0);
    assert_eq!(graph.entries("intent").len(), 1);
    assert_eq!(graph.show("descartes/house", "done"), "done\n");
}

#[test]
fn workers_can_report_while_the_look_of_their_engine_hangs() {
    let graph = Graph::new(ONE_TASK);
    let gate = Gate::new();
    let look = format!(r#"while [ -e "$HANGS" ]; do sleep 0.02; done; {LOOK}"#);
    let hangs = gate.path("hangs");
    fs::write(&hangs, "").expect("a file");
    let running = on_command_engine(graph.dispatch_with_gate(&gate, "echo done > done"), START)
        .env("DESCARTES_DISPATCH_COMMAND_LOOK", look)
        .env("HANGS", &hangs)
        .start();
    gate.wait_for_an_agent();
    gate.open();
    wait_until("the merge", || graph.entries("merged").len() == 1);
    fs::remove_file(&hangs).expect("a file");
    running.wait().assert_code(0);
    assert_eq!(graph.entries("intent").len(), 1);
}

#[test]
fn a_broken_network_between_worker_and_dispatcher_delays_the_report_and_loses_nothing() {
    let graph = Graph::new(ONE_TASK);
    let gate = Gate::new();
    let proxy = graph.proxy_of_the_dispatcher();
    let url = format!("http://{}/api/agents/callback", proxy.address());
    let running = on_command_engine(graph.dispatch_with_gate(&gate, "echo done > done"), START)
        .args(["--attempts", "1"])
        .env("DESCARTES_DISPATCH_URL", url)
        .env("DESCARTES_HEARTBEAT", "100ms")
        .start();
    gate.wait_for_an_agent();
    proxy.close();
    gate.open();
    let branches = graph.state_dir().join("integration.git");
    let pushed = || graph.git(&["ls-remote", branches.to_str().expect("UTF-8")]);
    wait_until("the push of the work", || pushed().contains("/work"));
    proxy.reopen();
    running.wait().assert_code(0);
    assert_eq!(graph.entries("intent").len(), 1);
    assert_eq!(graph.show("descartes/house", "done"), "done\n");
}

#[test]
fn a_dispatcher_whose_state_directory_was_moved_adopts_its_runs() {
    let graph = Graph::new(ONE_TASK);
    let gate = Gate::new();
    // Workers elsewhere do not see the state directory: they push to the project's server.
    let server = graph.project().with_file_name("server.git");
    let server = server.to_str().expect("UTF-8");
    graph.git(&["clone", "--quiet", "--bare", ".", server]);
    let dispatch = || {
        on_command_engine(graph.dispatch_with_gate(&gate, "echo done > done"), START).args([
            "--repo",
            &format!("file://{server}"),
            "--tag",
            "house",
        ])
    };
    let running = dispatch().start();
    gate.wait_for_an_agent();
    running.signal(Signal::KILL);
    running.wait();
    let moved = graph.state_dir().with_file_name("moved");
    fs::rename(graph.state_dir(), &moved).expect("the same disk");
    let running = dispatch().env("DESCARTES_DISPATCH_STATE", &moved).start();
    running.wait_for_log("tasks, ");
    gate.open();
    running.wait().assert_code(0);
    assert_eq!(gate.begun_tasks(), "house:1\n");
    let merged = format!("--git-dir={server}");
    assert_eq!(
        graph.git(&[&merged, "show", "descartes/house:done"]),
        "done\n"
    );
}

#[test]
fn cancel_ends_the_runs_of_a_dispatcher_that_was_killed() {
    let graph = Graph::new(ONE_TASK);
    let gate = Gate::new();
    let dispatch = || on_command_engine(graph.dispatch_with_gate(&gate, "true"), START);
    let running = dispatch().start();
    gate.wait_for_an_agent();
    wait_until("the handle", || graph.entries("handle").len() == 1);
    running.signal(Signal::KILL);
    running.wait();
    let worker = worker_pid(&graph);
    dispatch().arg("cancel").run().assert_code(0);
    wait_until("the end of the worker", || has_ended(worker));
}
