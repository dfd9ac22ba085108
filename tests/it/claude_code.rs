//! Claude Code: how it is started, and how its output is read.
//!
//! Here `claude` is a script. It prints recordings of the real Claude Code (version 2.1.331), and output
//! that the real one prints only in rare cases. `tests/claude_code` runs the real one.

mod messages;
mod selection;

use serde_json::{Value, json};

use crate::support::origin::write_program;
use crate::support::{FinishedWorker, Project, Receiver, Worker, path, quoted};

/// A `result` line with additional fields.
fn result_line(further_fields: &Value) -> String {
    let mut line = json!({ "type": "result", "subtype": "success", "is_error": false, "result": "Done.",
        "session_id": "the-session", "total_cost_usd": 0.5, "num_turns": 1 });
    for (name, value) in further_fields.as_object().expect("an object") {
        line[name] = value.clone();
    }
    format!("{line}\n")
}

/// A line with a message of the assistant, which has one block.
fn assistant_line(id: &str, block: &Value, usage: &Value) -> String {
    let message = json!({ "id": id, "model": "claude-x", "content": [block], "usage": usage });
    format!(
        "{}\n",
        json!({ "type": "assistant", "message": message, "session_id": "the-session" })
    )
}

/// A finished run.
struct Run {
    receiver: Receiver,
    project: Project,
    worker: FinishedWorker,
}

/// Runs a worker with a `claude` that is this shell script; `$dir` is the project's directory.
fn run_script(project: Project, script: &str, change: impl FnOnce(Worker) -> Worker) -> Run {
    let receiver = Receiver::start();
    let bin = project.path("bin");
    std::fs::create_dir_all(&bin).expect("a directory");
    let text = format!("dir={}\n{script}", quoted(project.dir()));
    write_program(&bin.join("claude"), &text);
    let path = format!("{}:{}", bin.display(), path().into_string().expect("UTF-8"));
    let worker = Worker::new(&receiver, &project)
        .env("PATH", path)
        .env("IS_SANDBOX", "1")
        .env("ANTHROPIC_API_KEY", "sk-ant-the-key");
    let worker = change(worker).run();
    Run {
        receiver,
        project,
        worker,
    }
}

/// Runs a worker with a `claude` that prints the stream and ends with the exit code.
fn run(stream: impl AsRef<[u8]>, code: i32) -> Run {
    let project = Project::new();
    project.write("stream", stream);
    run_script(
        project,
        &format!("cat > /dev/null; cat \"$dir/stream\"; exit {code}"),
        |worker| worker,
    )
}

impl Run {
    #[track_caller]
    fn assert_completed(&self) -> Value {
        self.worker.assert_completed(&self.receiver)
    }

    #[track_caller]
    fn assert_failed(&self, reason: &str) -> Value {
        self.worker.assert_failed(&self.receiver, reason)
    }
}

#[test]
fn claude_code_is_started_for_unattended_work_with_a_private_configuration_directory() {
    let script = r#"cd "$dir" && printf '%s\n' "$@" > args; env > env; cat > prompt; cat stream"#;
    let project = Project::new();
    project.write("stream", result_line(&json!({})));
    let run = run_script(project, script, |worker| {
        worker
            .env("DESCARTES_MODEL", "opus")
            .env("DESCARTES_MAX_TURNS", "30")
            .env("DESCARTES_MAX_BUDGET_USD", "$2.50")
    });
    run.assert_completed();
    assert_eq!(
        run.project.read("args").lines().collect::<Vec<_>>(),
        [
            "--print",
            "--verbose",
            "--output-format",
            "stream-json",
            "--permission-mode",
            "bypassPermissions",
            "--model",
            "opus",
            "--max-turns",
            "30",
            "--max-budget-usd",
            "2.5",
        ]
    );
    assert!(run.project.read("prompt").starts_with("# Task 8: "));
    let env = run.project.read("env");
    for line in [
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS=1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
        "DISABLE_AUTOUPDATER=1",
        "IS_SANDBOX=1",
        "TASK_ID=8",
    ] {
        assert!(env.lines().any(|found| found == line), "{line}: {env}");
    }
    // The model gateway has the key.
    assert!(
        env.contains("ANTHROPIC_API_KEY=sk-ant-api03-placeholder"),
        "{env}"
    );
    assert!(!env.contains("sk-ant-the-key"), "{env}");
    let state = env
        .lines()
        .find_map(|line| line.strip_prefix("CLAUDE_CONFIG_DIR="))
        .expect("a place");
    assert!(
        !state.starts_with(run.project.dir().to_str().expect("UTF-8")),
        "{state}"
    );
}

#[test]
fn another_round_resumes_the_session_with_the_remaining_limits() {
    let project = Project::new();
    let first = assistant_line("m1", &json!({ "type": "text", "text": "hm" }), &json!({}));
    project.write(
        "stream1",
        first + &result_line(&json!({ "total_cost_usd": 0.5 })),
    );
    // The cost is that of the whole session.
    let second = assistant_line("m2", &json!({ "type": "text", "text": "so" }), &json!({}));
    project.write(
        "stream2",
        second + &result_line(&json!({ "total_cost_usd": 0.75, "result": "Repaired." })),
    );
    let check = format!("test -e {}/second", quoted(project.dir()));
    project.set_checks(&[&check]);
    let script = r#"cat > /dev/null; cd "$dir"; if [ -e first ]; then
            printf '%s\n' "$@" > args; touch second; cat stream2
        else touch first; cat stream1; fi"#;
    let run = run_script(project, script, |worker| {
        worker
            .env("DESCARTES_MAX_TURNS", "9")
            .env("DESCARTES_MAX_BUDGET_USD", "2")
    });
    let event = run.assert_completed();
    let args = run.project.read("args");
    let args: Vec<&str> = args.lines().skip(6).collect();
    assert_eq!(
        args,
        [
            "--resume",
            "the-session",
            "--max-turns",
            "8",
            "--max-budget-usd",
            "1.5"
        ]
    );
    let agent = &event["result"]["agent"];
    assert_eq!(
        (&agent["cost_usd"], &agent["turns"]),
        (&json!(0.75), &json!(2))
    );
    assert_eq!(event["result"]["summary"], "Repaired.");
}

#[test]
fn there_is_no_further_round_if_turns_or_budget_are_used_up() {
    for (limit, value, message) in [
        (
            "DESCARTES_MAX_TURNS",
            "1",
            "the agent's turns are used up, and it was not done",
        ),
        (
            "DESCARTES_MAX_BUDGET_USD",
            "0.5",
            "the agent's budget is used up, and it was not done",
        ),
    ] {
        let project = Project::new();
        let line = assistant_line("m1", &json!({ "type": "text", "text": "hm" }), &json!({}));
        project
            .write("stream", line + &result_line(&json!({})))
            .set_checks(&["false"]);
        let script = r#"cat > /dev/null; echo >> "$dir/started"; cat "$dir/stream""#;
        let run = run_script(project, script, |worker| worker.env(limit, value));
        assert_eq!(
            run.assert_failed("limit_reached")["failure"]["message"],
            message
        );
        assert_eq!(run.project.read("started").lines().count(), 1);
    }
}

#[test]
fn the_result_decides_the_outcome_and_not_the_exit_code() {
    assert_eq!(
        run(result_line(&json!({})), 1).assert_completed()["result"]["agent"]["exit_code"],
        1
    );
    let failed = json!({ "subtype": "error_during_execution", "is_error": true, "errors": ["it broke", "badly"], "result": null });
    let event = run(result_line(&failed), 0).assert_failed("agent_failed");
    assert_eq!(
        event["failure"]["message"],
        "the agent failed: it broke; badly"
    );
    let unknown_error = json!({ "subtype": "error_of_tomorrow", "is_error": true, "result": null });
    let event = run(result_line(&unknown_error), 0).assert_failed("agent_failed");
    assert_eq!(
        event["failure"]["message"],
        "the agent failed: error_of_tomorrow"
    );
}

#[test]
fn an_error_result_after_sigterm_does_not_hide_why_the_worker_ended_it() {
    let error = json!({ "subtype": "error_during_execution", "is_error": true, "errors": ["aborted"], "result": null });
    let script = r#"cat > /dev/null; cd "$dir"; trap 'cat stream; exit 1' TERM; touch there; while :; do sleep 0.02; done"#;
    for (limit, reason) in [
        ("DESCARTES_TASK_TIMEOUT", "timed_out"),
        ("DESCARTES_IDLE_TIMEOUT", "idle"),
    ] {
        let project = Project::new();
        project.write("stream", result_line(&error));
        run_script(project, script, |worker| worker.env(limit, "1s")).assert_failed(reason);
    }
}

#[test]
fn a_result_counts_if_lines_follow_if_it_has_no_newline_and_if_further_turns_are_announced() {
    // Another line follows, and the process does not end.
    let project = Project::new();
    project.write(
        "stream",
        result_line(&json!({})) + "{\"type\":\"system\"}\n",
    );
    let hanging_run = run_script(
        project,
        "cat > /dev/null; cat \"$dir/stream\"; exec sleep 1000",
        |worker| worker,
    );
    hanging_run.assert_completed();
    // No newline at the end.
    let stream = result_line(&json!({ "result": "Really." }));
    assert_eq!(
        run(stream.trim_end(), 0).assert_completed()["result"]["summary"],
        "Really."
    );
    // Further turns were announced.
    let queued = result_line(&json!({ "queued_turn_count": 1 }));
    assert_eq!(
        run(&queued, 0).assert_completed()["result"]["summary"],
        "Done."
    );
    let event = run(&queued, 3).assert_failed("agent_failed");
    assert_eq!(
        event["failure"]["message"],
        "the agent ended with exit code 3, without a result"
    );
}

#[test]
fn without_a_result_the_failure_says_how_the_process_ended() {
    for (stream, code) in [
        ("", 0),
        ("", 1),
        ("{\"type\":\"system\",\"subtype\":\"init\"}\n", 3),
        ("{\"type\":\"resu", 0),
    ] {
        let event = run(stream, code).assert_failed("agent_failed");
        let message = format!("the agent ended with exit code {code}, without a result");
        assert_eq!(event["failure"]["message"], message.as_str());
        assert_eq!(event["result"]["agent"]["exit_code"], code);
    }
    let project = Project::new();
    let run = run_script(project, "kill -SEGV $$", |worker| worker);
    assert_eq!(
        run.assert_failed("agent_killed")["failure"]["message"],
        "the agent was killed by SIGSEGV"
    );
}

#[test]
fn a_session_id_that_looks_like_an_option_is_not_used() {
    let project = Project::new();
    project.set_checks(&["false"]);
    project.write(
        "stream",
        result_line(&json!({ "session_id": "--mcp-config=/tmp/x" })),
    );
    let script = r#"cat > /dev/null; cd "$dir"; printf '%s\n' "$@" > args; cat stream"#;
    let run = run_script(project, script, |worker| worker);
    let event = run.assert_failed("checks_failed");
    assert_eq!(event["result"]["agent"]["session_id"], Value::Null);
    assert!(!run.project.read("args").contains("resume"));
}

#[test]
fn without_a_reported_cost_a_budget_allows_no_further_round() {
    for cost in [json!(null), json!(-1), json!("cheap")] {
        let project = Project::new();
        let text = assistant_line("m1", &json!({ "type": "text", "text": "hm" }), &json!({}));
        project
            .write(
                "stream",
                text + &result_line(&json!({ "total_cost_usd": cost })),
            )
            .set_checks(&["false"]);
        let script = "cat > /dev/null; echo >> \"$dir/started\"; cat \"$dir/stream\"";
        let run = run_script(project, script, |worker| {
            worker.env("DESCARTES_MAX_BUDGET_USD", "1")
        });
        assert_eq!(
            run.assert_failed("limit_reached")["failure"]["message"],
            "the agent did not report what its last round cost, so its budget cannot be enforced in another one"
        );
        assert_eq!(run.project.read("started").lines().count(), 1);
    }
}

#[test]
fn an_exit_code_of_a_signal_without_a_result_counts_as_killed() {
    let event = run("", 143).assert_failed("agent_killed");
    assert_eq!(
        event["failure"]["message"],
        "the agent ended with exit code 143, without a result: SIGTERM killed it"
    );
    assert_eq!(event["failure"]["retryable"], true);
}
