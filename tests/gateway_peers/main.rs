//! The model gateway with clients that other people wrote: Anthropic's SDK for TypeScript, codex and aider.
//!
//! Needs `node`, and what .ci/run installs into target/peers.

#[path = "../it/gateway/service.rs"]
#[expect(dead_code, reason = "the tests of the gateway use the rest")]
mod service;
#[path = "../it/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "all tests share the support, and these tests need only a part of it"
)]
mod support;

use std::path::PathBuf;

use serde_json::{Value, json};

use service::{
    Part, Service, complete_answer, message_document, message_start, stream_end, stream_event,
    stream_head,
};
use support::{Project, Receiver, Worker, quoted};

/// The key of the model's service.
const KEY: &str = "sk-ant-test-0123456789";

/// The quoted path of a file in the npm packages of these tests; fails if it is not installed.
#[track_caller]
fn installed_file(path: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/peers/gateway/node_modules");
    let file = root.join(path);
    assert!(
        file.exists(),
        "{} does not exist; .ci/run says how it is installed",
        file.display()
    );
    quoted(file)
}

/// A streamed answer with a text.
fn text_stream() -> Vec<Part> {
    vec![
        stream_head(),
        message_start(),
        stream_event(
            &json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
        ),
        stream_event(&json!({ "type": "ping" })),
        stream_event(
            &json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "Hello" } }),
        ),
        stream_event(&json!({ "type": "content_block_stop", "index": 0 })),
        stream_event(
            &json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": 50 } }),
        ),
        stream_event(&json!({ "type": "message_stop" })),
        stream_end(),
    ]
}

/// An answer with an error.
fn error_answer(status: u16, kind: &str, headers: &str) -> Vec<Part> {
    let body = json!({ "type": "error", "error": { "type": kind, "message": "no" } }).to_string();
    let headers = format!("content-type: application/json\r\n{headers}");
    vec![complete_answer(status, &headers, &body)]
}

#[test]
fn the_sdk_for_typescript_streams_retries_and_reads_errors() {
    let service = Service::start([
        text_stream(),
        error_answer(400, "invalid_request_error", ""),
        error_answer(529, "overloaded_error", "retry-after: 0\r\n"),
        vec![message_document()],
    ]);
    let (receiver, project) = (Receiver::start(), Project::new());
    let script = quoted(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/gateway_peers/sdk.mjs"
    ));
    let sdk = installed_file("@anthropic-ai/sdk/index.mjs");
    let ended = Worker::new(&receiver, &project)
        .env("ANTHROPIC_API_KEY", KEY)
        .env("ANTHROPIC_BASE_URL", service.url())
        // The stream and the document have 1,185 tokens.
        .env("DESCARTES_MAX_TOKENS", "1185")
        .agent(format!("node {script} {sdk}"))
        .run();
    let event = ended.assert_failed(&receiver, "limit_reached");
    let output = event["result"]["output"]["tail"].as_str().expect("a tail");
    let lines: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{output}")))
        .collect();
    assert_eq!(lines[0]["text"], "Hello", "{output}");
    assert_eq!(lines[0]["usage"]["output_tokens"], 50);
    assert_eq!(lines[0]["usage"]["cache_read_input_tokens"], 1000);
    assert_eq!(lines[2]["text"], "Hello");
    assert_eq!(
        (&lines[1]["status"], &lines[1]["type"]),
        (&json!(400), &json!("invalid_request_error"))
    );
    assert_eq!(
        (&lines[3]["status"], &lines[3]["type"]),
        (&json!(402), &json!("billing_error"))
    );
    // The last request was not repeated, and none reached the service after the limit.
    assert_eq!(service.requests().len(), 4);
    for request in service.requests() {
        assert_eq!(request.header("x-api-key"), Some(KEY));
        assert!(request.header("x-stainless-lang").is_some(), "{request:?}");
    }
}

#[test]
fn codex_works_with_the_configuration_that_the_worker_writes() {
    let answer = |item: Value| {
        let completed = json!({ "type": "response.completed", "response": {
            "id": "resp_1", "model": "gpt-x",
            "usage": { "input_tokens": 100, "input_tokens_details": { "cached_tokens": 60 }, "output_tokens": 7, "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": 107 },
        } });
        vec![
            stream_head(),
            stream_event(&json!({ "type": "response.created", "response": { "id": "resp_1" } })),
            stream_event(
                &json!({ "type": "response.output_item.done", "output_index": 0, "item": item }),
            ),
            stream_event(&completed),
            stream_end(),
        ]
    };
    let service = Service::start([
        answer(json!({
            "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "exec_command",
            "arguments": json!({ "cmd": "echo tiles > roof.txt" }).to_string(),
        })),
        answer(json!({
            "type": "message", "id": "m_1", "role": "assistant",
            "content": [{ "type": "output_text", "text": "The house has a roof." }],
        })),
    ]);
    let (receiver, project) = (Receiver::start(), Project::new());
    let codex = installed_file("@openai/codex/bin/codex.js");
    let flags = "--dangerously-bypass-approvals-and-sandbox --skip-git-repo-check --ephemeral --model gpt-x -";
    let ended = Worker::new(&receiver, &project)
        .env("HOME", project.path("home"))
        .env("OPENAI_API_KEY", "sk-proj-test-0123456789")
        .env("OPENAI_BASE_URL", format!("{}/v1", service.url()))
        .agent(format!("mkdir -p \"$HOME\" && node {codex} exec {flags}"))
        .run();
    let event = ended.assert_completed(&receiver);
    assert_eq!(project.read("roof.txt"), "tiles\n");
    assert_eq!(event["result"]["summary"], "The house has a roof.");
    assert_eq!(
        event["result"]["agent"]["usage"],
        json!({ "input_tokens": 80, "output_tokens": 14, "cache_read_input_tokens": 120, "cache_creation_input_tokens": null })
    );
    for request in service.requests() {
        assert_eq!(request.request_line(), "POST /v1/responses HTTP/1.1");
        let key = request.header("authorization");
        assert_eq!(key, Some("Bearer sk-proj-test-0123456789"));
    }
}

#[test]
fn aider_works_with_the_gateways_address_and_never_sees_the_key() {
    let text = "roof.txt\n```\n<<<<<<< SEARCH\n=======\ntiles\n>>>>>>> REPLACE\n```\n";
    let body = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
        "content": [{ "type": "text", "text": text }], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": { "input_tokens": 100, "output_tokens": 7 },
    });
    let json_answer = complete_answer(200, "content-type: application/json\r\n", &body.to_string());
    let service = Service::start([vec![json_answer]]);
    let (receiver, project) = (Receiver::start(), Project::new());
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let programs = root.join("target/peers/aider/bin");
    assert!(
        programs.join("aider").exists(),
        "aider is not installed; .ci/run says how it is installed"
    );
    let script = quoted(root.join("examples/agents/aider.sh"));
    let path = quoted(programs);
    let ended = Worker::new(&receiver, &project)
        .env("HOME", project.path("home"))
        .env("ANTHROPIC_API_KEY", KEY)
        .env("ANTHROPIC_BASE_URL", service.url())
        .env("DESCARTES_MODEL", "anthropic/claude-sonnet-4-5")
        .agent(format!(
            "mkdir -p \"$HOME\"; git init -q 2>/dev/null; test \"$ANTHROPIC_API_KEY\" != {KEY} && PATH={path}:$PATH sh {script}"
        ))
        .run();
    let event = ended.assert_completed(&receiver);
    assert_eq!(project.read("roof.txt"), "tiles\n");
    let requests = service.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(requests[0].request_line(), "POST /v1/messages HTTP/1.1");
    assert_eq!(requests[0].header("x-api-key"), Some(KEY));
    assert_eq!(event["result"]["agent"]["usage"]["output_tokens"], 7);
}
