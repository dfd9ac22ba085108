//! The engine `command`, with workers that shell commands start on this machine: what happens if a start goes wrong.

use super::sample::{Gate, Graph};
use crate::support::Worker;

/// Starts the worker in the background.
const START: &str = r#""$WORKER" > "$RUN_OUTPUT" 2> "$RUN_LOG" & echo $!"#;

fn on_commands(dispatch: Worker, start: &str) -> Worker {
    let look = "kill -0 $RUN_HANDLE 2> /dev/null && echo running || echo gone";
    dispatch
        .args(["--engine", "command"])
        .env("WORKER", env!("CARGO_BIN_EXE_descartes-worker"))
        .env("DESCARTES_DISPATCH_COMMAND_START", start)
        .env("DESCARTES_DISPATCH_COMMAND_LOOK", look)
        .env(
            "DESCARTES_DISPATCH_COMMAND_STOP",
            "kill $RUN_HANDLE 2> /dev/null; true",
        )
}

#[test]
fn if_the_engine_refuses_the_checks_of_merged_work_the_dispatch_says_so_and_the_same_command_continues()
 {
    let graph = Graph::new("1 | Left | P | 1 | H\n2 | Right | P | 1 | H\n");
    graph.checks(&["true"]);
    // Both tasks begin at the same commit, so the checks have to run on the work of both together.
    let agent = r#"
        id=${TASK_ID##*:}
        touch "$MEETING/$id"
        while [ -e "$MEETING" ] && { [ ! -e "$MEETING/1" ] || [ ! -e "$MEETING/2" ]; }; do sleep 0.02; done
        touch "done-$id""#;
    let meeting = tempfile::tempdir().expect("a directory");
    let dispatch = |start: &str| {
        on_commands(graph.dispatch(agent), start)
            .env("MEETING", meeting.path())
            .env("DESCARTES_AGENT_ENV", "MEETING")
    };
    let refusal =
        format!("case $RUN_NAME in *-checks-*) echo 'no checks here' >&2; exit 78;; esac; {START}");
    let ended = dispatch(&refusal).run();
    ended.assert_code(1);
    assert!(ended.stderr.contains("no checks here"), "{ended:#?}");
    dispatch(START).run().assert_code(0);
    for id in ["1", "2"] {
        assert_eq!(graph.merges_of("descartes/house", id), 1);
    }
}

#[test]
fn a_run_that_works_is_not_lost_because_its_engine_does_not_answer_to_its_start() {
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
    let running = on_commands(dispatch, start)
        .args(["--attempts", "1"])
        .env("DESCARTES_DISPATCH_START_DEADLINE", "1s")
        .start();
    running.wait_for_log("has not answered to its start");
    gate.open();
    running.wait().assert_code(0);
    assert_eq!(gate.begun(), "house:1\n");
    assert_eq!(graph.entries("intent").len(), 1);
    assert_eq!(graph.show("descartes/house", "done"), "done\n");
}

#[test]
fn a_fresh_dispatch_names_what_the_engine_may_still_have_of_the_last_one() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let dispatch = || on_commands(graph.dispatch("echo done > done"), START);
    dispatch().run().assert_code(0);
    let created = graph.entries("created");
    let id = created[0]["dispatch"].as_str().expect("an id");
    graph.git(&["branch", "-D", "descartes/house"]);
    let ended = dispatch().arg("--fresh").run();
    ended.assert_code(0);
    let words = format!("the engine command may still have runs with names that begin with {id}-");
    assert!(ended.stderr.contains(&words), "{ended:#?}");
}
