//! Claude Code that hangs, is stopped or is killed.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::model::text_answer;
use crate::support::{Model, Project, Receiver, Worker, assert_within, wait_until};
use crate::{bash_call, run_with, worker};

/// Whether a process exists and is not a zombie.
fn is_alive(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    status.is_ok_and(|status| !status.contains(") Z "))
}

#[test]
fn claude_code_that_hangs_after_its_result_is_ended_and_the_result_counts() {
    let project = Project::new();
    // A hook at the end of the session makes it hang.
    project.write(
        ".claude/settings.json",
        json!({ "hooks": { "SessionEnd": [{ "hooks": [{ "type": "command", "command": "echo $$ > hook; exec sleep 1000", "timeout": 1000 }] }] } })
            .to_string(),
    );
    let change = |worker: Worker| {
        worker
            .env(
                "DESCARTES_AGENT_ENV",
                "CLAUDE_CODE_SESSIONEND_HOOKS_TIMEOUT_MS",
            )
            .env("CLAUDE_CODE_SESSIONEND_HOOKS_TIMEOUT_MS", "1000000")
            .without_isolation()
    };
    let run = run_with(project, [text_answer("All done.")], change);
    let event = run.assert_completed();
    assert_eq!(event["result"]["summary"], "All done.");
    assert_eq!(
        event["result"]["agent"]["exit_code"],
        Value::Null,
        "the worker ended it"
    );
    assert!(!is_alive(&run.project.read("hook")));
    assert_within(Duration::from_secs(30), run.worker.duration);
}

#[test]
fn a_stop_signal_ends_claude_code_and_its_running_tool() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let model = Model::start([bash_call(
        "echo $$ > pid; trap '' TERM; while true; do sleep 0.1; done",
    )]);
    // The pids of a process in its namespace cannot be used outside the namespace.
    let running = worker(&receiver, &project, &model)
        .without_isolation()
        .start();
    wait_until("the tool", || project.path("pid").exists());
    running.signal(Signal::TERM);
    let ended = running.wait();
    let event = ended.assert_failed(&receiver, "interrupted");
    assert_eq!(event["result"]["agent"]["turns"], 1);
    assert!(!is_alive(&project.read("pid")));
}

#[test]
fn the_failure_is_retryable_if_claude_code_is_killed() {
    let (receiver, project) = (Receiver::start(), Project::new());
    // The tool's process group is separate; Claude Code is its parent.
    let kill = "echo $$ > pid; kill -KILL $(ps -o ppid= -p $$); sleep 1000";
    let model = Model::start([bash_call(kill)]);
    let event = worker(&receiver, &project, &model)
        .without_isolation()
        .run()
        .assert_failed(&receiver, "agent_killed");
    assert_eq!(
        event["failure"]["message"],
        "the agent was killed by SIGKILL"
    );
    assert_eq!(event["failure"]["retryable"], true);
    assert!(!is_alive(&project.read("pid")));
}
