//! The real worker with the real Claude Code and a fake Messages API, because the real API costs money
//! and its answers differ each time.
//!
//! Needs `claude` on the PATH. Output that Claude Code does not print on demand is tested in
//! `tests/it/claude_code.rs` with recordings.

mod ending;
#[path = "../it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "all tests share the support")]
mod support;

use std::fs;
use std::process::Command;

use serde_json::json;

use support::model::{Answer, Run, Turn, error_reply, text_answer, tool_call};
use support::{Model, Project, Receiver, Reply, Worker, nobody};

/// The key of the model's service.
const KEY: &str = "sk-ant-test-0123456789";

/// A worker that uses Claude Code.
fn worker(receiver: &Receiver, project: &Project, model: &Model) -> Worker {
    Worker::new(receiver, project)
        .env("HOME", project.path("home"))
        .env("IS_SANDBOX", "1")
        .env("DESCARTES_AGENT", "claude-code")
        .env("ANTHROPIC_API_KEY", KEY)
        .env("ANTHROPIC_BASE_URL", model.url())
}

/// Runs a worker with Claude Code and a fake model that follows the script.
fn run(script: impl IntoIterator<Item = impl Into<Turn>>) -> Run {
    run_with(Project::new(), script, |worker| worker)
}

/// Like [`run`], with this project, and with settings that `change` adds to the worker.
fn run_with(
    project: Project,
    script: impl IntoIterator<Item = impl Into<Turn>>,
    change: impl FnOnce(Worker) -> Worker,
) -> Run {
    Run::of(project, script, |receiver, project, model| {
        change(worker(receiver, project, model))
    })
}

/// An answer with a call of Claude Code's tool for shell commands.
fn bash_call(command: &str) -> Answer {
    tool_call(
        "Bash",
        json!({ "command": command, "description": "a command" }),
    )
}

#[test]
fn claude_is_installed() {
    let output = Command::new("claude").arg("--version").output();
    let output = output.expect("claude on PATH; .ci/run says how it is installed");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("Claude Code"),
        "{output:?}"
    );
}

#[test]
fn claude_code_uses_its_tools_and_turns_tokens_and_cost_are_reported() {
    let project = Project::new();
    project
        .write("house.txt", "no roof\n")
        .set_checks(&["grep 'a roof' house.txt"]);
    let script = [
        text_answer("Let me see.")
            .and_tool_call("Bash", json!({ "command": "sed -i 's/no/a/' house.txt" })),
        text_answer("The house has a roof."),
    ];
    let run = run_with(project, script, |worker| {
        worker.env("DESCARTES_MODEL", "claude-sonnet-5-5")
    });
    let event = run.assert_completed();
    assert_eq!(run.project.read("house.txt"), "a roof\n");
    let result = &event["result"];
    assert_eq!(result["summary"], "The house has a roof.");
    let agent = &result["agent"];
    assert_eq!(agent["kind"], "claude-code");
    assert_eq!(agent["model"], "claude-sonnet-5-5");
    assert_eq!(agent["exit_code"], 0);
    assert_eq!(
        (&agent["turns"], &agent["tool_calls"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(
        agent["usage"],
        json!({ "input_tokens": 200, "output_tokens": 100, "cache_read_input_tokens": 2000, "cache_creation_input_tokens": 40 })
    );
    assert!(
        agent["cost_usd"].as_f64().is_some_and(|cost| cost > 0.0),
        "{agent}"
    );
    assert_eq!(agent["session_id"].as_str().map(str::len), Some(36));
    for line in [
        "agent: Let me see.",
        "tool: bash sed -i 's/no/a/' house.txt",
    ] {
        assert!(
            run.worker.stderr.contains(line),
            "{line}: {}",
            run.worker.stderr
        );
    }
    // The configuration of Claude Code is in a private directory of the run and not in the project.
    assert!(!run.project.path("home").exists());
    let names: Vec<_> = fs::read_dir(run.project.dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    run.model.request_bodies();
}

#[test]
fn a_failed_check_resumes_the_session() {
    let project = Project::new();
    project.set_checks(&["test -e roof"]);
    let script = [
        text_answer("I think it is done."),
        bash_call("touch roof"),
        text_answer("Now it is."),
    ];
    let run = run_with(project, script, |worker| worker);
    let event = run.assert_completed();
    let agent = &event["result"]["agent"];
    assert_eq!(
        (&agent["turns"], &agent["tool_calls"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(agent["usage"]["output_tokens"], 150);
    let bodies = run.model.request_bodies();
    let again = bodies[1]["messages"].to_string();
    assert!(
        again.contains("I think it is done.") && again.contains("the check `test -e roof` failed"),
        "{again}"
    );
    assert_eq!(event["result"]["summary"], "Now it is.");
}

#[test]
fn permanent_errors_of_the_service_are_reported_with_their_status() {
    let credit = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.";
    let without_retry = |reply: Reply| reply.with_header("x-should-retry", "false");
    for (replies, status, words, retryable) in [
        (
            vec![without_retry(error_reply(
                401,
                "authentication_error",
                "invalid x-api-key",
            ))],
            401,
            "Invalid API key",
            false,
        ),
        (
            vec![error_reply(400, "invalid_request_error", credit)],
            400,
            "Credit balance is too low",
            false,
        ),
        (
            vec![error_reply(404, "not_found_error", "model: x"); 2],
            404,
            "issue with the selected model",
            false,
        ),
        (
            vec![without_retry(error_reply(
                429,
                "rate_limit_error",
                "the quota is used up",
            ))],
            429,
            "the quota is used up",
            true,
        ),
    ] {
        let run = run(replies);
        let event = run.assert_failed("api_error");
        let message = event["failure"]["message"].as_str().expect("a message");
        assert!(
            message.starts_with(&format!(
                "the model's service answered with status {status}: "
            )),
            "{message}"
        );
        assert!(message.contains(words), "{message}");
        assert_eq!(event["failure"]["retryable"], retryable, "{message}");
        assert_eq!(event["result"]["agent"]["exit_code"], 1);
    }
}

#[test]
fn retries_of_claude_code_are_logged() {
    let run = run([
        Turn::from(error_reply(529, "overloaded_error", "Overloaded")),
        text_answer("Done.").into(),
    ]);
    run.assert_completed();
    let log = &run.worker.stderr;
    assert!(
        log.contains("[the model's service: ") && log.contains("(529); attempt 1 failed"),
        "{log}"
    );
}

#[test]
fn an_unreachable_service_is_a_retryable_failure() {
    let (receiver, project, model) = (
        Receiver::start(),
        Project::new(),
        Model::start(Vec::<Turn>::new()),
    );
    let event = worker(&receiver, &project, &model)
        .env("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
        .env("DESCARTES_AGENT_ENV", "CLAUDE_CODE_MAX_RETRIES")
        .env("CLAUDE_CODE_MAX_RETRIES", "1")
        .run()
        .assert_failed(&receiver, "api_error");
    let message = event["failure"]["message"].as_str().expect("a message");
    assert!(
        message.starts_with("the model's service gave no answer: "),
        "{message}"
    );
    assert_eq!(event["failure"]["retryable"], true);
}

#[test]
fn max_turns_and_max_budget_end_the_run() {
    let script = || [bash_call("true"), text_answer("Never.")];
    let limit_turns = |worker: Worker| worker.env("DESCARTES_MAX_TURNS", "1");
    let run = run_with(Project::new(), script(), limit_turns);
    let event = run.assert_failed("limit_reached");
    assert_eq!(
        event["failure"]["message"],
        "the agent's turns are used up, and it was not done"
    );
    assert_eq!(event["result"]["agent"]["turns"], 1);

    let limit_cost = |worker: Worker| worker.env("DESCARTES_MAX_BUDGET_USD", "0.000001");
    let run = run_with(Project::new(), script(), limit_cost);
    let event = run.assert_failed("limit_reached");
    assert_eq!(
        event["failure"]["message"],
        "the agent's budget is used up, and it was not done"
    );
    assert_eq!(event["result"]["agent"]["usage"]["output_tokens"], 50);
}

#[test]
fn a_command_that_takes_too_long_does_not_become_a_background_task() {
    let input = json!({ "command": "echo begun; sleep 1000", "timeout": 1000 });
    let run = run([tool_call("Bash", input), text_answer("Too slow.")]);
    let event = run.assert_completed();
    assert_eq!(
        event["result"]["agent"]["exit_code"], 0,
        "{}",
        run.worker.stderr
    );
    // The request also repeats the call with its command.
    let body = &run.model.request_bodies()[1];
    let messages = body["messages"].as_array().expect("messages");
    let contents = messages
        .iter()
        .filter_map(|message| message["content"].as_array());
    let answer = contents
        .flatten()
        .find(|block| block["type"] == "tool_result");
    let answer = answer.expect("a result of the tool").to_string();
    assert!(answer.contains("begun"), "{answer}");
}

#[test]
fn a_prompt_that_begins_with_a_slash_is_not_taken_for_a_command() {
    let graph = format!("{}\n@agents\n8 | builder\n", support::project::GRAPH);
    let project = Project::with_graph(&graph);
    project.write(
        ".scud/agents/builder.toml",
        "[agent]\nname = \"builder\"\n[model]\nharness = \"claude\"\n[prompt]\ntemplate = \"/cost of {task.title}\"\n",
    );
    let run = run_with(project, [text_answer("Done.")], |worker| worker);
    run.assert_completed();
    let bodies = run.model.request_bodies();
    assert!(
        bodies[0]["messages"]
            .to_string()
            .contains("/cost of Build the | house"),
        "{}",
        bodies[0]
    );
}

#[test]
fn claude_code_needs_is_sandbox_as_root_and_not_as_another_user() {
    let is_root = rustix::process::geteuid().is_root();
    let (receiver, project, model) = (
        Receiver::start(),
        nobody::project(),
        Model::start([bash_call("id -u > id"), text_answer("Done.")]),
    );
    if is_root {
        let event = worker(&receiver, &project, &model)
            .remove_env("IS_SANDBOX")
            .run()
            .assert_failed(&receiver, "agent_not_found");
        let message = event["failure"]["message"].as_str().expect("a message");
        assert!(
            message.contains("run the worker as another user, or set IS_SANDBOX=1"),
            "{message}"
        );
        assert!(model.request_bodies().is_empty());
    }
    let (receiver, bin) = (Receiver::start(), nobody::shared_dir());
    let user = worker(&receiver, &project, &model)
        .remove_env("IS_SANDBOX")
        .program(&nobody::copy_worker(&bin))
        .change_command(nobody::run_as_nobody);
    user.run().assert_completed(&receiver);
    assert_ne!(project.read("id").trim(), "0");
}
