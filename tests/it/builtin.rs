//! The built-in agent, with a fake model.

mod answers;
mod limits;
mod selection;
mod service;
mod stopping;
mod tools;

use serde_json::{Value, json};

use crate::support::model::{Block, Run, Turn, bash_call, text_answer, tool_call};
use crate::support::{Model, Origin, Project, Receiver, Worker};

/// The key of the model's service.
pub const KEY: &str = "sk-ant-test-0123456789";

/// A worker that uses the built-in agent.
pub fn worker(receiver: &Receiver, project: &Project, model: &Model) -> Worker {
    Worker::new(receiver, project)
        .env("DESCARTES_AGENT", "builtin")
        .env("ANTHROPIC_API_KEY", KEY)
        .env("ANTHROPIC_BASE_URL", model.url())
}

/// Runs a worker with the built-in agent and a fake model that follows the script.
pub fn run(script: impl IntoIterator<Item = impl Into<Turn>>) -> Run {
    run_with(Project::new(), script, |worker| worker)
}

/// Like [`run`], with this project, and with settings that `change` adds to the worker.
pub fn run_with(
    project: Project,
    script: impl IntoIterator<Item = impl Into<Turn>>,
    change: impl FnOnce(Worker) -> Worker,
) -> Run {
    Run::of(project, script, |receiver, project, model| {
        change(worker(receiver, project, model))
    })
}

/// The tool results in the last message of the last request.
#[track_caller]
pub fn results_in_last_message(run: &Run) -> Vec<Value> {
    let bodies = run.model.request_bodies();
    let last = bodies.last().expect("a request");
    let messages = last["messages"].as_array().expect("messages");
    let content = messages.last().expect("a message")["content"].clone();
    content.as_array().expect("blocks").clone()
}

#[test]
fn the_agent_uses_both_tools_and_reports_turns_tokens_and_cost() {
    let script = [
        text_answer("Let me look.")
            .and_tool_call("bash", json!({ "command": "cat house.txt; pwd" })),
        tool_call(
            "str_replace_based_edit_tool",
            json!({ "command": "str_replace", "path": "house.txt", "old_str": "no roof", "new_str": "a roof" }),
        ),
        text_answer("The house has a roof now."),
    ];
    let project = Project::new();
    project
        .write("house.txt", "four walls\nno roof\n")
        .set_checks(&["grep 'a roof' house.txt"]);
    let run = run_with(project, script, |worker| worker);
    let event = run.assert_completed();
    assert_eq!(run.project.read("house.txt"), "four walls\na roof\n");
    let result = &event["result"];
    assert_eq!(result["summary"], "The house has a roof now.");
    let agent = &result["agent"];
    assert_eq!(agent["kind"], "builtin");
    assert_eq!(agent["model"], "claude-sonnet-5-5");
    assert_eq!(agent["exit_code"], 0);
    assert_eq!(
        (&agent["turns"], &agent["tool_calls"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(
        agent["usage"],
        json!({ "input_tokens": 300, "output_tokens": 150, "cache_read_input_tokens": 3000, "cache_creation_input_tokens": 60 })
    );
    // 300 x 2, 150 x 10, 3000 x 0.1 and 60 x 2.5 dollars for a million.
    let cost = agent["cost_usd"].as_f64().expect("a cost");
    assert!((cost - 0.00255).abs() < 1e-9, "{cost}");
    assert_eq!(agent["session_id"].as_str().map(str::len), Some(16));
    let output = result["output"]["tail"].as_str().expect("a tail");
    assert_eq!(
        output,
        "Let me look.\ntool: bash cat house.txt; pwd\ntool: str_replace_based_edit_tool str_replace house.txt\nThe house has a roof now.\n"
    );
    for line in [
        "agent: Let me look.",
        "tool: bash cat house.txt; pwd",
        "tokens: 1k/50",
    ] {
        assert!(
            run.worker.stderr.contains(line),
            "{line}: {}",
            run.worker.stderr
        );
    }
}

#[test]
fn every_request_is_valid_and_extends_the_previous_one() {
    let thinking = Block::Thinking("I should look.".to_owned());
    let script = [
        bash_call("echo one")
            .with_block(thinking)
            .with_block(Block::Text("Look:".to_owned())),
        bash_call("echo two").and_tool_call("bash", json!({ "command": "echo three" })),
        text_answer("Done."),
    ];
    let run = run(script);
    run.assert_completed();
    let bodies = run.model.request_bodies();
    assert_eq!(bodies.len(), 3);
    for (request, body) in run.model.requests().iter().zip(&bodies) {
        assert_eq!(request.target, "/v1/messages");
        assert_eq!(request.headers["x-api-key"], KEY);
        assert_eq!(request.headers["content-type"], "application/json");
        assert!(request.headers["user-agent"].starts_with("descartes-worker/"));
        assert_eq!(body["stream"], true);
        assert_eq!(body["max_tokens"], 32_000);
        assert_eq!(
            body["tools"],
            json!([
                { "type": "bash_20250124", "name": "bash" },
                { "type": "text_editor_20250728", "name": "str_replace_based_edit_tool" },
            ])
        );
        assert_eq!(
            body["system"][0]["cache_control"],
            json!({ "type": "ephemeral" })
        );
        assert!(
            body["system"][0]["text"]
                .as_str()
                .expect("a text")
                .contains("software engineer")
        );
    }
    let messages = |body: &Value| body["messages"].as_array().expect("messages").clone();
    let prompt = messages(&bodies[0])[0]["content"][0]["text"].clone();
    assert!(
        prompt
            .as_str()
            .expect("a prompt")
            .starts_with("# Task 8: Build the | house")
    );
    // The last two messages of the user are cache breakpoints.
    let breakpoints = |body: &Value| {
        let messages = messages(body).into_iter().enumerate();
        let marked = messages.filter(|(_, message)| message.to_string().contains("cache_control"));
        marked.map(|(at, _)| at).collect::<Vec<_>>()
    };
    assert_eq!(
        bodies.iter().map(breakpoints).collect::<Vec<_>>(),
        [vec![0], vec![0, 2], vec![2, 4]]
    );
    // Apart from the breakpoints, each request begins with the previous one.
    let without_breakpoints = |body: &Value| {
        let mut messages = messages(body);
        for message in &mut messages {
            for block in message["content"].as_array_mut().expect("blocks") {
                block
                    .as_object_mut()
                    .expect("a block")
                    .remove("cache_control");
            }
        }
        messages
    };
    for (earlier, later) in bodies.iter().zip(&bodies[1..]) {
        let (earlier, later) = (without_breakpoints(earlier), without_breakpoints(later));
        assert_eq!(later[..earlier.len()], earlier);
        assert_eq!(later.len(), earlier.len() + 2);
    }
    // Answers are sent back unchanged, thinking with its signature.
    assert_eq!(
        without_breakpoints(&bodies[1])[1],
        json!({ "role": "assistant", "content": [
            { "type": "tool_use", "id": "toolu_1_0", "name": "bash", "input": { "command": "echo one" } },
            { "type": "thinking", "thinking": "I should look.", "signature": "signed-toolu_1_1" },
            { "type": "text", "text": "Look:" },
        ] })
    );
    assert_eq!(
        without_breakpoints(&bodies[2])[4],
        json!({ "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "toolu_2_0", "content": "two", "is_error": false },
            { "type": "tool_result", "tool_use_id": "toolu_2_1", "content": "three", "is_error": false },
        ] })
    );
}

#[test]
fn after_a_failed_check_the_conversation_continues() {
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
    // The sum of both rounds.
    assert_eq!(agent["usage"]["output_tokens"], 150);
    assert!(
        (agent["cost_usd"].as_f64().expect("a cost") - 0.00255).abs() < 1e-9,
        "{agent}"
    );
    let bodies = run.model.request_bodies();
    let messages = bodies[1]["messages"].as_array().expect("messages");
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[1]["content"][0]["text"], "I think it is done.");
    let prompt = messages[2]["content"][0]["text"]
        .as_str()
        .expect("a prompt");
    assert!(
        prompt.contains("the check `test -e roof` failed with exit code 1"),
        "{prompt}"
    );
}

#[test]
fn a_bug_in_a_repository_is_fixed_checked_and_pushed() {
    let origin = Origin::with_files(&[
        (
            "greet.sh",
            "#!/bin/sh\n# Greets each guest.\nwhile [ $# -gt 1 ]; do echo \"Hello, $1!\"; shift; done\n",
        ),
        (
            "test.sh",
            "test \"$(sh greet.sh Ada Bob)\" = \"$(printf 'Hello, Ada!\\nHello, Bob!')\"\n",
        ),
        (
            ".scud/config.toml",
            "[swarm.backpressure]\ncommands = [\"sh test.sh\"]\n",
        ),
    ]);
    let (receiver, model) = (
        Receiver::start(),
        Model::start([
            bash_call("git log --oneline; ls; sh test.sh; echo \"tests: $?\""),
            tool_call(
                "str_replace_based_edit_tool",
                json!({ "command": "view", "path": "greet.sh" }),
            ),
            tool_call(
                "str_replace_based_edit_tool",
                json!({ "command": "str_replace", "path": "greet.sh", "old_str": "-gt 1", "new_str": "-gt 0" }),
            ),
            bash_call("sh test.sh && git diff --stat"),
            text_answer("The loop stopped one guest too early."),
        ]),
    );
    let worker = origin
        .worker(&receiver)
        .remove_env("DESCARTES_AGENT_COMMAND");
    let event = worker
        .env("DESCARTES_AGENT", "builtin")
        .env("ANTHROPIC_API_KEY", KEY)
        .env("ANTHROPIC_BASE_URL", model.url())
        .run()
        .assert_completed(&receiver);
    let work = &event["result"]["work"];
    assert_eq!(work["pushed"], true);
    assert_eq!(
        work["files_changed"], 2,
        "the script, and the graph's letter"
    );
    let branch = work["branch"].as_str().expect("a branch");
    assert!(origin.show(branch, "greet.sh").contains("-gt 0"));
    let bodies = model.request_bodies();
    let result = |at: usize| {
        let messages = bodies[at]["messages"].as_array().expect("messages");
        messages.last().expect("one")["content"][0]["content"]
            .as_str()
            .expect("a text")
            .to_owned()
    };
    assert!(result(1).contains("tests: 1"), "{}", result(1));
    assert!(
        result(2).contains("     3\twhile [ $# -gt 1 ]"),
        "{}",
        result(2)
    );
    assert!(result(4).contains("greet.sh | 2 +-"), "{}", result(4));
}

#[test]
fn the_tools_do_not_get_the_key_and_the_log_masks_it() {
    let script = [
        bash_call(
            "env | sort; echo \"mine: $MY_TOKEN\"; echo \"key: ${ANTHROPIC_API_KEY-nothing}\"",
        ),
        text_answer(&format!("I was told {KEY} and my-token-0123.")),
    ];
    let run = run_with(Project::new(), script, |worker| {
        worker
            .env("MY_TOKEN", "my-token-0123")
            .env("DESCARTES_AGENT_ENV", "MY_TOKEN")
    });
    let event = run.assert_completed();
    let result = results_in_last_message(&run)[0]["content"]
        .as_str()
        .expect("a text")
        .to_owned();
    assert!(result.contains("key: nothing"), "{result}");
    assert!(result.contains("mine: my-token-0123"), "{result}");
    assert!(result.contains("TASK_ID=8\n"), "{result}");
    assert!(!result.contains("ANTHROPIC_"), "{result}");
    assert_eq!(event["result"]["summary"], "I was told *** and ***.");
    for text in [&run.worker.stderr, &run.worker.stdout] {
        assert!(
            !text.contains(KEY) && !text.contains("my-token-0123"),
            "{text}"
        );
    }
}

#[test]
fn a_secret_in_a_long_command_is_masked_before_the_command_is_shortened() {
    let padding = "x".repeat(200 - "bash echo ".len() - 10);
    let script = [
        bash_call(&format!("echo {padding}{KEY}; echo pass  word")),
        text_answer("Done."),
    ];
    let run = run_with(Project::new(), script, |worker| {
        worker.env("DB_PASSWORD", "pass  word")
    });
    let event = run.assert_completed();
    let output = event["result"]["output"]["tail"].as_str().expect("a tail");
    assert!(
        !output.contains(&KEY[..8]) && !output.contains("pass word"),
        "{output}"
    );
    assert!(
        !run.worker.stderr.contains(&KEY[..8]),
        "{}",
        run.worker.stderr
    );
}

#[test]
fn heartbeats_report_turns_tool_calls_and_usage_so_far() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let model = Model::start([
        bash_call("until [ -e go ]; do sleep 0.02; done"),
        text_answer("Done."),
    ]);
    let running = worker(&receiver, &project, &model)
        .env("DESCARTES_HEARTBEAT", "50ms")
        .start();
    let progress = receiver.wait_for("a tool call in a heartbeat", |requests| {
        let progress = requests
            .iter()
            .map(|request| request.event["progress"].clone());
        progress
            .into_iter()
            .find(|progress| progress["tool_calls"] == 1)
    });
    project.write("go", "");
    running.wait().assert_code(0);
    assert_eq!(progress["turns"], 1);
    assert_eq!(progress["usage"]["cache_read_input_tokens"], 1000);
    assert_eq!(
        progress["activity"],
        "bash until [ -e go ]; do sleep 0.02; done"
    );
}
