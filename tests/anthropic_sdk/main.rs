//! Compares the built-in agent's requests and the fake Messages API with Anthropic's official SDK for
//! Python; `sdk.py` in this directory calls it.
//!
//! Needs what `install.sh` in this directory installs.

#[path = "../it/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "all tests share the support, and these tests need only a part of it"
)]
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use support::model::{Answer, Block, Turn, bash_call, error_reply, text_answer, tool_call};
use support::{Model, Project, Receiver, Reply, Worker, path};

/// The name of Anthropic's tool for editing files.
const EDITOR: &str = "str_replace_based_edit_tool";
/// After how many bytes the service stops sending an answer: in the middle of an event.
const BREAK_POSITION: usize = 700;

/// A script with all kinds of blocks, tool results, stop reasons and errors.
fn script() -> Vec<Turn> {
    let overloaded = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let thinking = Block::Thinking("I should look, grüße.".to_owned());
    let answer = Answer {
        blocks: vec![thinking, Block::Text("Let me look.".to_owned())],
        stop_reason: "tool_use",
    };
    let incomplete_call = Block::IncompleteCall {
        name: "bash".to_owned(),
        json: r#"{"command": "echo ha"#.to_owned(),
    };
    vec![
        error_reply(429, "rate_limit_error", "slower")
            .with_header("retry-after", "0")
            .into(),
        Reply::json(200, overloaded)
            .with_header("content-type", "text/event-stream")
            .into(),
        answer.clone().cut_after(BREAK_POSITION, Turn::Close),
        // Three calls: a successful one, one that fails, and one of an unknown tool.
        answer
            .and_tool_call(
                "bash",
                json!({ "command": "yes grüße | head -c 5000; printf '\\1\\377'" }),
            )
            .and_tool_call(EDITOR, json!({ "command": "view", "path": "nowhere" }))
            .and_tool_call("browser", json!({ "url": "about:blank" }))
            .into(),
        bash_call("echo whole")
            .with_block(incomplete_call)
            .with_stop_reason("max_tokens")
            .into(),
        tool_call("bash", json!({ "restart": true }))
            .and_tool_call("bash", json!({ "command": "true" }))
            .and_tool_call("bash", json!({ "command": "exit 3" }))
            .and_tool_call("bash", json!({}))
            .into(),
        error_reply(
            400,
            "invalid_request_error",
            "prompt is too long: 2 tokens > 1 maximum",
        )
        .into(),
        text_answer("Searching")
            .with_stop_reason("pause_turn")
            .into(),
        text_answer("I think it is done.").into(),
        // The check fails.
        Answer {
            // Earlier thinking was removed when the prompt was too long.
            blocks: vec![Block::Thinking("It is not.".to_owned())],
            stop_reason: "tool_use",
        }
        .and_tool_call(
            EDITOR,
            json!({ "command": "create", "path": "roof", "file_text": "tiles\n" }),
        )
        .into(),
        text_answer("Now it is.").into(),
    ]
}

/// The bodies of the requests of the real worker during the script.
fn requests_of_the_agent() -> Vec<Value> {
    let (receiver, project, model) = (Receiver::start(), Project::new(), Model::start(script()));
    project.set_checks(&["test -e roof"]);
    Worker::new(&receiver, &project)
        .env("DESCARTES_AGENT", "builtin")
        .env("ANTHROPIC_API_KEY", "sk-ant-test-0123456789")
        .env("ANTHROPIC_BASE_URL", model.url())
        .run()
        .assert_completed(&receiver);
    let bodies = model.request_bodies();
    assert_eq!(bodies.len(), script().len());
    bodies
}

/// Runs a command of `sdk.py` with these request bodies; returns the JSON that it prints.
#[track_caller]
fn run_sdk(command: &str, bodies: &[Value], rest: &[&str]) -> Value {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/anthropic_sdk");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let python = target
        .expect("a target directory")
        .join("anthropic_sdk/bin/python");
    assert!(
        python.exists(),
        "{} does not exist: run tests/anthropic_sdk/install.sh",
        python.display()
    );
    let files = tempfile::tempdir().expect("a temporary directory");
    let file = files.path().join("requests.json");
    fs::write(&file, Value::from(bodies).to_string()).expect("a written file");
    let output = Command::new(python)
        .arg(here.join("sdk.py"))
        .arg(command)
        .arg(file)
        .args(rest)
        .env_clear()
        .env("PATH", path())
        .output()
        .expect("python starts");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stdout}{stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"))
}

#[test]
fn every_request_matches_the_types_of_the_sdk() {
    let bodies = requests_of_the_agent();
    assert_eq!(run_sdk("requests", &bodies, &[]), json!(bodies.len()));
    // `sdk.py` changes the requests in many ways. The types must reject the changed requests.
    let rejected = run_sdk("changes", &bodies, &[]);
    assert!(rejected.as_u64() > Some(50), "{rejected}");
}

#[test]
fn the_sdk_sends_the_same_requests_and_reads_the_same_answers() {
    let bodies = requests_of_the_agent();
    let model = Model::start(script());
    let answers = run_sdk("answers", &bodies, &[&model.url()]);
    let answers = answers.as_array().expect("answers");
    assert_eq!(
        model.request_bodies(),
        bodies,
        "the SDK does not change the requests"
    );
    let failed = |at: usize| {
        let answer = &answers[at];
        (
            answer["error"].clone(),
            answer["status"].clone(),
            answer["kind"].clone(),
        )
    };
    assert_eq!(
        failed(0),
        (
            json!("RateLimitError"),
            json!(429),
            json!("rate_limit_error")
        )
    );
    assert_eq!(failed(1).2, "overloaded_error", "{}", answers[1]);
    assert_eq!(answers[2]["error"], "RemoteProtocolError", "{}", answers[2]);
    assert_eq!(
        failed(6),
        (
            json!("BadRequestError"),
            json!(400),
            json!("invalid_request_error")
        )
    );
    let stops = answers
        .iter()
        .map(|answer| answer["message"]["stop_reason"].clone());
    let failed = Value::Null;
    assert_eq!(
        stops.collect::<Value>(),
        json!([
            failed,
            failed,
            failed,
            "tool_use",
            "max_tokens",
            "tool_use",
            failed,
            "pause_turn",
            "end_turn",
            "tool_use",
            "end_turn",
        ])
    );
    // The agent sends back the same blocks that the SDK reads from the answer.
    let mut compared = 0;
    for (at, pair) in bodies.windows(2).enumerate() {
        let sent = |body: &Value| body["messages"].as_array().expect("messages").clone();
        let (before, after) = (sent(&pair[0]), sent(&pair[1]));
        if after.len() == before.len() {
            continue;
        }
        let mut read = answers[at]["message"]["content"].clone();
        if answers[at]["message"]["stop_reason"] == "max_tokens" {
            // Except for an incomplete call, of which the SDK keeps the readable part.
            let half = read.as_array_mut().expect("blocks").pop();
            assert_eq!(half.expect("a call")["input"], json!({}));
        }
        assert_eq!(after[before.len()]["content"], read);
        compared += 1;
    }
    assert_eq!(compared, 6);
}

#[test]
fn the_sdk_rejects_invalid_answers() {
    let body = json!({
        "model": "claude-sonnet-5-5", "max_tokens": 1, "stream": true,
        "messages": [{ "role": "user", "content": [{ "type": "text", "text": "Hello" }] }],
    });
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": null,
        "stop_sequence": null, "usage": { "input_tokens": 1, "output_tokens": 1 },
    });
    let start = |key: &str, value: Value| {
        let mut message = message.clone();
        message[key] = value;
        json!({ "type": "message_start", "message": message })
    };
    let block =
        |block: Value| json!({ "type": "content_block_start", "index": 0, "content_block": block });
    let good = start("role", "assistant".into());
    let cases = [
        vec![start("usage", json!({ "input_tokens": "many" }))],
        vec![start("role", "somebody".into())],
        vec![start("stop_reason", "boredom".into())],
        vec![start("mood", "good".into())],
        vec![good.clone(), block(json!({ "type": "text" }))],
        vec![good.clone(), block(json!({ "type": "song", "text": "" }))],
        vec![
            good.clone(),
            json!({ "type": "content_block_stop", "index": "none" }),
        ],
    ];
    let stream = |events: &Vec<Value>| {
        let end = json!({ "type": "message_stop" });
        let events = events.iter().chain([&end]);
        let event = |event: &Value| {
            format!(
                "event: {}\ndata: {event}\n\n",
                event["type"].as_str().unwrap()
            )
        };
        let body: String = events.map(event).collect();
        Reply::json(200, &body).with_header("content-type", "text/event-stream")
    };
    let model = Model::start(cases.iter().chain([&vec![good]]).map(stream));
    let answers = run_sdk("answers", &vec![body; cases.len() + 1], &[&model.url()]);
    let answers = answers.as_array().expect("answers");
    for (case, answer) in cases.iter().zip(answers) {
        assert!(
            answer["error"].is_string(),
            "{case:?} was accepted: {answer}"
        );
    }
    let last = &answers[cases.len()];
    assert!(last["message"].is_object(), "{last}");
}
