//! Starts on the engine `command` whose result is not clear: the worker is found again, runs once, and ends with its dispatch.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::command_engine::with_commands;
use super::sample::{Gate, Graph, has_ended};
use crate::support::{Worker, duration_setting, wait_until, with_enough_time};

/// A graph of two tasks for two engines: this machine and the engine `command`. Task 1 has the higher priority and gets the only
/// slot of this machine, so task 2 runs on the engine `command`. Each agent waits until the test creates its file
/// `open-1` or `open-2`.
struct TwoEngines {
    graph: Graph,
    gate: Gate,
}

impl TwoEngines {
    fn new() -> Self {
        let graph = Graph::new("1 | Here | P | 1 | H\n2 | There | P | 1 | M\n");
        let gate = Gate::new();
        Self { graph, gate }
    }

    fn dispatch(&self, start: &str, engines: [&str; 2]) -> Worker {
        let agent = r#"
            id=${TASK_ID##*:}
            echo "$TASK_ID" >> "$GATE/begun"
            while [ -e "$GATE" ] && [ ! -e "$GATE/open-$id" ]; do sleep 0.02; done
            echo done > "done-$id""#;
        let [local, command] = engines;
        with_commands(self.graph.dispatch(agent), start)
            .args(["--engine", local, "--engine", command])
            .env("DESCARTES_AGENT_ENV", "GATE")
            .env("GATE", self.gate.path(""))
    }

    fn touch(&self, name: &str) {
        fs::write(self.gate.path(name), "").expect("a file");
    }

    /// How many agents have begun the task on the engine `command`.
    fn begun_on_command_engine(&self) -> usize {
        self.gate.begun_tasks().matches("house:2").count()
    }

    /// How many runs have started on this machine.
    fn started_on_this_machine(&self) -> usize {
        let handles = self.graph.entries("handle").into_iter();
        handles
            .filter(|entry| entry["handle"]["engine"] == "local")
            .count()
    }

    /// How many times the start command has run.
    fn start_commands(&self) -> usize {
        let calls = fs::read_to_string(self.gate.path("starts"));
        calls.unwrap_or_default().lines().count()
    }
}

#[test]
fn a_start_without_an_answer_is_repeated_on_the_same_engine_although_another_one_has_room() {
    // The task on this machine must be claimed within the start deadline.
    with_enough_time(Duration::from_secs(1), |limit| {
        let engines = TwoEngines::new();
        // Exit code 75 is no clear answer: "try again later". The first call ends when there is room on this machine.
        let start = r#"
            echo >> "$GATE/starts"
            if [ ! -e "$RUN_OUTPUT.started" ]; then
                touch "$RUN_OUTPUT.started"
                "$WORKER" > "$RUN_OUTPUT" 2> "$RUN_LOG" &
                while [ -e "$GATE" ] && [ ! -e "$GATE/room" ]; do sleep 0.02; done
            fi
            exit 75"#;
        let running = engines
            .dispatch(start, ["local=1", "command=1"])
            .args(["--attempts", "1"])
            .env("DESCARTES_DISPATCH_START_DEADLINE", duration_setting(limit))
            .start();
        // No run can end by itself yet: it was stopped, because its claim came too late.
        let is_too_late = || {
            let entries = |name| !engines.graph.entries(name).is_empty();
            entries("fenced") || entries("reported")
        };
        wait_until("both agents, or a claim that is too late", || {
            engines.gate.begun_tasks().lines().count() == 2 || is_too_late()
        });
        if is_too_late() {
            engines.touch("open-2");
            engines.touch("room");
            running.wait();
            return Err("the claim did not come".to_owned());
        }
        engines.touch("open-1");
        wait_until("the merge", || engines.graph.entries("merged").len() == 1);
        engines.touch("room");
        running.wait_for_log("has not confirmed its start");
        let starts = engines.start_commands();
        wait_until("another start", || {
            engines.start_commands() > starts || engines.begun_on_command_engine() > 1
        });
        assert_eq!(
            (
                engines.begun_on_command_engine(),
                engines.started_on_this_machine()
            ),
            (1, 1)
        );
        engines.touch("open-2");
        running.wait().assert_code(0);
        assert_eq!(engines.graph.entries("intent").len(), 2);
        Ok(())
    });
}

#[test]
fn after_a_kill_during_a_start_the_next_dispatcher_looks_on_the_engine_that_was_to_start_the_run() {
    let engines = TwoEngines::new();
    // The first call starts the worker, and does not end before the dispatcher is killed.
    let start = r#"
        echo >> "$GATE/starts"
        if [ ! -e "$RUN_OUTPUT.pid" ]; then
            "$WORKER" > "$RUN_OUTPUT" 2> "$RUN_LOG" &
            echo $! > "$RUN_OUTPUT.pid"
            while [ -e "$GATE" ] && [ ! -e "$GATE/killed" ]; do sleep 0.02; done
            exit 75
        fi
        cat "$RUN_OUTPUT.pid""#;
    let running = engines.dispatch(start, ["local=1", "command=1"]).start();
    wait_until("both agents", || {
        engines.gate.begun_tasks().lines().count() == 2
    });
    running.signal(Signal::KILL);
    running.wait();
    engines.touch("killed");
    // Now there is room on this machine.
    let running = engines.dispatch(start, ["local=2", "command=1"]).start();
    wait_until("another start", || {
        engines.start_commands() > 1 || engines.begun_on_command_engine() > 1
    });
    engines.touch("open-1");
    engines.touch("open-2");
    running.wait().assert_code(0);
    assert_eq!(
        (
            engines.begun_on_command_engine(),
            engines.started_on_this_machine()
        ),
        (1, 1)
    );
    assert_eq!(engines.graph.entries("intent").len(), 2);
}

#[test]
fn cancel_ends_a_worker_that_was_started_although_its_engine_had_not_answered() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let gate = Gate::new();
    // The first call starts the worker, and does not end before the dispatcher.
    let start = r#"
        if [ ! -e "$RUN_OUTPUT.pid" ]; then
            "$WORKER" > "$RUN_OUTPUT" 2> "$RUN_LOG" &
            echo $! > "$RUN_OUTPUT.pid"
            while [ -e "$GATE" ] && [ ! -e "$GATE/ended" ]; do sleep 0.02; done
            exit 75
        fi
        cat "$RUN_OUTPUT.pid""#;
    let dispatch = || {
        with_commands(graph.dispatch_with_gate(&gate, "true"), start)
            .args(["--engine", "command"])
            .env("DESCARTES_DISPATCH_START_DEADLINE", "1h")
            .env("DESCARTES_HEARTBEAT", "100ms")
    };
    let running = dispatch().start();
    gate.wait_for_an_agent();
    running.signal(Signal::TERM);
    running.wait();
    fs::write(gate.path("ended"), "").expect("a file");
    let run = graph.entries("intent")[0]["run"].clone();
    let file = format!("runs/{}/stdout.pid", run.as_str().expect("a name"));
    let worker = fs::read_to_string(graph.state_dir().join(file)).expect("a file");
    let worker = Pid::from_raw(worker.trim().parse().expect("a number")).expect("an id");
    dispatch().arg("cancel").run().assert_code(0);
    assert_eq!(graph.entries("reported").len(), 1);
    wait_until("the end of the worker", || has_ended(worker));
}

#[test]
fn a_job_of_a_start_without_a_clear_result_is_removed_at_the_end() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let gate = Gate::new();
    // A job is a file. Every call finds it, and no call has a clear answer.
    let start = r#"
        if [ ! -e "$GATE/job-$RUN_NAME" ]; then
            touch "$GATE/job-$RUN_NAME" "$GATE/made"
            "$WORKER" > "$RUN_OUTPUT" 2> "$RUN_LOG" &
        fi
        exit 75"#;
    let stop = r#"[ -z "$RUN_HANDLE" ] && rm -f "$GATE/job-$RUN_NAME""#;
    gate.open();
    with_commands(graph.dispatch_with_gate(&gate, "echo done > done"), start)
        .args(["--engine", "command", "--attempts", "1"])
        .env("DESCARTES_DISPATCH_COMMAND_STOP", stop)
        .run()
        .assert_code(0);
    assert!(gate.path("made").exists());
    let run = graph.entries("intent")[0]["run"].clone();
    let job = format!("job-{}", run.as_str().expect("a name"));
    assert!(!gate.path(&job).exists());
}

#[test]
fn a_start_that_fails_after_its_run_has_reported_changes_nothing() {
    let graph = Graph::new(
        "1 | First | P | 1 | H\n2 | Second | P | 1 | H\n3 | Third | P | 1 | H\n\n@edges\n2 -> 1\n3 -> 2\n",
    );
    let gate = Gate::new();
    // The start of the first run is refused when the agent of the second one works.
    let start = r#"
        "$WORKER" > "$RUN_OUTPUT" 2> "$RUN_LOG" &
        echo $!
        if [ "$TASK_ID" = house:1 ]; then
            while [ -e "$GATE" ] && [ ! -e "$GATE/second" ]; do sleep 0.02; done
            touch "$GATE/refused"
            exit 78
        fi"#;
    let agent = r#"
        if [ "$TASK_ID" = house:2 ]; then
            touch "$GATE/second"
            while [ -e "$GATE" ] && [ ! -e "$GATE/refused" ]; do sleep 0.02; done
        fi
        echo done > "done-${TASK_ID##*:}""#;
    let ended = with_commands(graph.dispatch(agent), start)
        .args(["--engine", "command"])
        .env("DESCARTES_AGENT_ENV", "GATE")
        .env("GATE", gate.path(""))
        .run();
    ended.assert_code(0);
    assert_eq!(graph.entries("not_started").len(), 0);
    assert!(!ended.stderr.contains("not started"), "{ended:#?}");
}

#[test]
fn a_job_of_a_start_without_a_clear_result_is_removed_after_its_run_has_reported() {
    with_enough_time(Duration::from_secs(1), assert_that_the_job_is_removed);
}

/// The test above, with this start deadline. An error if the first run of the first task was not the one that was merged.
fn assert_that_the_job_is_removed(start_deadline: Duration) -> Result<(), String> {
    let graph = Graph::new("1 | Only | P | 1 | H\n2 | After | P | 1 | H\n\n@edges\n2 -> 1\n");
    let gate = Gate::new();
    // Only the first start of the first task has no clear answer.
    let start = r#"
        touch "$RUN_OUTPUT.made"
        if [ ! -e "$RUN_OUTPUT.started" ]; then
            touch "$RUN_OUTPUT.started"
            "$WORKER" > "$RUN_OUTPUT" 2> "$RUN_LOG" &
            echo $!
        fi
        case $RUN_NAME in *-1-*-1) exit 75;; esac"#;
    let agent = r#"
        id=${TASK_ID##*:}
        [ "$id" = 1 ] || while [ -e "$GATE" ] && [ ! -e "$GATE/open" ]; do sleep 0.02; done
        echo done > "done-$id""#;
    let running = with_commands(graph.dispatch(agent), start)
        .args(["--engine", "command"])
        .env("DESCARTES_AGENT_ENV", "GATE")
        .env("GATE", gate.path(""))
        .env(
            "DESCARTES_DISPATCH_START_DEADLINE",
            duration_setting(start_deadline),
        )
        .env(
            "DESCARTES_DISPATCH_COMMAND_STOP",
            r#"rm -f "$RUN_OUTPUT.made"; kill $RUN_HANDLE 2> /dev/null; true"#,
        )
        .start();
    let run_of_first = || {
        graph.entries("merged").first()?["run"]
            .as_str()
            .map(str::to_owned)
    };
    let is_too_late = || {
        let entries = |name| !graph.entries(name).is_empty();
        entries("not_started") || entries("fenced")
    };
    wait_until("the merge, or a claim that is too late", || {
        run_of_first().is_some() || is_too_late()
    });
    if is_too_late() {
        fs::write(gate.path("open"), "").expect("a file");
        running.wait();
        return Err("the claim did not come".to_owned());
    }
    let run_dir = graph
        .state_dir()
        .join("runs")
        .join(run_of_first().expect("a run"));
    // The second agent waits, so the dispatch is not over.
    wait_until("the removal", || !run_dir.join("stdout.made").exists());
    fs::write(gate.path("open"), "").expect("a file");
    running.wait().assert_code(0);
    Ok(())
}
