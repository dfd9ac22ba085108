//! The model gateway: agents reach their model through it, and never have the key.
//!
//! In most tests, the agent writes its environment to a file and waits, and the test itself sends requests to the gateway.

mod aborts;
mod hostile;
mod limits;
mod openai;
mod secrecy;
mod service;
mod session;

use std::fs;
use std::io::Read;

use serde_json::{Value, json};

use crate::support::{Hold, Project, Receiver, Worker, wait_until};
use service::{
    Part, Service, bytes, complete_answer, header, message_document, message_start, read_head,
    stream_end, stream_event, stream_head,
};
use session::{Session, end_agent, post, read_answer};

/// The key of the model's service.
pub const KEY: &str = "sk-ant-test-0123456789";

/// The body of a request to the Messages API.
pub fn question() -> Value {
    json!({ "model": "claude-sonnet-5-5", "max_tokens": 1000, "messages": [{ "role": "user", "content": "Hello" }] })
}

#[test]
fn the_credential_of_a_request_is_replaced_and_the_answer_is_unchanged() {
    let error = r#"{"type":"error", "error":{"type":"rate_limit_error","message":"slower"}}"#;
    let headers = "retry-after: 17\r\nrequest-id: req_1\r\nx-unknown: a, b\r\ncontent-type: application/json\r\n";
    let service = Service::start([
        vec![complete_answer(429, headers, error)],
        vec![message_document()],
    ]);
    let session = Session::start(&service, |worker| worker);
    let placeholder = session.variable("ANTHROPIC_API_KEY").to_owned();
    assert!(placeholder.starts_with("sk-ant-api03-") && placeholder != KEY);
    let body = r#"{"model": "claude-sonnet-5-5",   "max_tokens": 7, "metadata": {"ü": [1.50]}}"#;
    let headers = format!(
        "x-api-key: {placeholder}\r\nauthorization: Bearer {placeholder}\r\nanthropic-version: 2023-06-01\r\nanthropic-beta: one,two\r\nx-unknown: c\r\nuser-agent: me/1\r\n"
    );
    let answer = session.send(&post("{path}/v1/messages?beta=true&x=%2F", &headers, body));
    assert_eq!((answer.status, answer.body.as_str()), (429, error));
    for (name, value) in [
        ("retry-after", "17"),
        ("request-id", "req_1"),
        ("x-unknown", "a, b"),
    ] {
        assert_eq!(header(&answer.head, name), Some(value));
    }
    let arrived = &service.requests()[0];
    assert_eq!(
        arrived.request_line(),
        "POST /v1/messages?beta=true&x=%2F HTTP/1.1"
    );
    assert_eq!(String::from_utf8_lossy(&arrived.body), body);
    for (name, value) in [
        ("x-api-key", KEY),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "one,two"),
        ("x-unknown", "c"),
        ("user-agent", "me/1"),
        ("host", &service.host()),
    ] {
        assert_eq!(arrived.header(name), Some(value));
    }
    assert_eq!(arrived.header("authorization"), None);
    assert_eq!(arrived.header("connection"), None);
    let answer = session.ask(&question());
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("\"Hello\""), "{}", answer.body);
    let (receiver, ended) = session.end(0);
    ended.assert_completed(&receiver);
}

#[test]
fn a_bearer_token_is_replaced_too() {
    let service = Service::start([]);
    let session = Session::start(&service, |worker| {
        worker
            .remove_env("ANTHROPIC_API_KEY")
            .env("ANTHROPIC_AUTH_TOKEN", "the-real-token")
    });
    assert!(!session.environment.contains("the-real-token"));
    assert!(!session.environment.contains("ANTHROPIC_API_KEY"));
    session.ask(&question());
    let arrived = &service.requests()[0];
    assert_eq!(
        arrived.header("authorization"),
        Some("Bearer the-real-token")
    );
    assert_eq!(arrived.header("x-api-key"), None);
    session.end_and_assert_success();
}

#[test]
fn an_event_of_a_stream_arrives_before_the_service_sends_the_next_one() {
    let hold = Hold::default();
    let script = vec![
        stream_head(),
        message_start(),
        Part::Wait(hold.clone()),
        stream_event(&json!({ "type": "ping" })),
        stream_event(
            &json!({ "type": "message_delta", "delta": {}, "usage": { "output_tokens": 50 } }),
        ),
        stream_event(&json!({ "type": "message_stop" })),
        stream_end(),
    ];
    let service = Service::start([script]);
    let session = Session::start(&service, |worker| worker);
    let stream = session.connect(&post("{path}/v1/messages", "", &question().to_string()));
    let head = read_head(&stream).expect("the head");
    assert_eq!(header(&head, "content-type"), Some("text/event-stream"));
    let mut first = [0; 64];
    { &stream }.read_exact(&mut first).expect("the first event");
    assert!(String::from_utf8_lossy(&first).contains("event: message_start"));
    hold.release();
    let mut rest = String::new();
    { &stream }.read_to_string(&mut rest).expect("the rest");
    assert!(
        rest.contains("event: ping") && rest.ends_with("0\r\n\r\n"),
        "{rest}"
    );
    let (receiver, ended) = session.end(0);
    let agent = &ended.assert_completed(&receiver)["result"]["agent"];
    assert_eq!(
        agent["usage"],
        json!({ "input_tokens": 100, "output_tokens": 50, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 20 })
    );
}

#[test]
fn usage_and_cost_of_a_command_are_in_heartbeats_result_and_log() {
    let service = Service::start([]);
    let session = Session::start(&service, |worker| {
        worker
            .env("DESCARTES_HEARTBEAT", "50ms")
            .env("RUST_LOG", "debug")
    });
    session.ask(&question());
    let usage = json!({ "input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": null, "cache_creation_input_tokens": null });
    session
        .receiver
        .wait_for("a heartbeat with usage", |requests| {
            let found = requests
                .iter()
                .find(|request| request.event["progress"]["usage"] == usage);
            // 10 tokens at 2 dollars for a million, and 5 at 10.
            let cost = found?.event["progress"]["cost_usd"].as_f64()?;
            assert!((cost - 0.00007).abs() < 1e-9, "{cost}");
            Some(())
        });
    let (receiver, ended) = session.end(0);
    ended.assert_code(0);
    let agent = &receiver.only_event("completed")["result"]["agent"];
    assert_eq!(
        (&agent["kind"], &agent["usage"]),
        (&json!("command"), &usage)
    );
    let cost = agent["cost_usd"].as_f64().expect("a cost");
    assert!((cost - 0.00007).abs() < 1e-9, "{cost}");
    let log = &ended.stderr;
    for words in [
        "a request went through the model gateway",
        "claude-sonnet-5-5",
        "first_byte_ms",
        "the model gateway has ended",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }
    let secret = secret_path_in(log);
    assert!(
        secret.is_none(),
        "the random path is in the log: {secret:?}"
    );
}

/// The secret path of the gateway if a log contains it: a word of 32 hexadecimal digits.
fn secret_path_in(log: &str) -> Option<&str> {
    log.split(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[test]
fn an_unreachable_service_closes_the_agents_connection_and_is_in_the_log() {
    let service = Service::start([]);
    let session = Session::start(&service, |worker| {
        worker.env("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    });
    let stream = session.connect(&post("{path}/v1/messages", "", &question().to_string()));
    assert!(read_answer(&stream).is_none());
    session.running().wait_for_log(
        "the model's service gave no answer: http://127.0.0.1:1/: connection refused",
    );
    let (receiver, ended) = session.end(0);
    let event = ended.assert_completed(&receiver);
    assert_eq!(event["result"]["agent"]["usage"], Value::Null);
}

#[test]
fn without_a_key_or_with_the_gateway_off_there_is_no_second_process() {
    let children = "cat /proc/$PPID/task/$PPID/children | wc -w > children; env > seen";
    for ((name, value), count, must_be_direct) in [
        (("ANTHROPIC_API_KEY", ""), "1", true),
        (("DESCARTES_MODEL_GATEWAY", "off"), "1", true),
        (("DESCARTES_MODEL_GATEWAY", "auto"), "2", false),
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        Worker::new(&receiver, &project)
            .env("ANTHROPIC_API_KEY", KEY)
            .env("ANTHROPIC_BASE_URL", "http://model.invalid")
            .env(name, value)
            .env("DESCARTES_ISOLATION", "off")
            .agent(children)
            .run()
            .assert_completed(&receiver);
        assert_eq!(project.read("children").trim(), count, "{name}={value}");
        let is_direct = project
            .read("seen")
            .contains("ANTHROPIC_BASE_URL=http://model.invalid");
        assert_eq!(is_direct, must_be_direct, "{name}={value}");
    }
}

#[test]
fn the_token_of_a_subscription_goes_to_the_agent_and_the_log_says_so() {
    for (name, token) in [
        ("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-0123456789"),
        ("ANTHROPIC_AUTH_TOKEN", "sk-ant-oat01-0123456789"),
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let ended = Worker::new(&receiver, &project)
            .env(name, token)
            .agent("env > seen")
            .run();
        ended.assert_completed(&receiver);
        assert!(project.read("seen").contains(&format!("{name}={token}")));
        assert!(
            ended.stderr.contains("the model gateway is off"),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn the_checks_get_no_access_to_the_model_even_if_the_settings_name_the_key() {
    let service = Service::start([]);
    let session = Session::start(&service, |worker| {
        worker
            .env("DESCARTES_AGENT_ENV", "ANTHROPIC_API_KEY")
            .env("DESCARTES_CHECKS", "env > checked")
    });
    assert_ne!(session.variable("ANTHROPIC_API_KEY"), KEY);
    let check_file = session.project.path("checked");
    let _pipe = end_agent(&session.project, 0);
    wait_until("the check", || check_file.exists());
    let checked = fs::read_to_string(check_file).expect("a file");
    let (receiver, ended) = session.wait();
    ended.assert_completed(&receiver);
    assert!(!checked.contains("ANTHROPIC"));
}

#[test]
fn an_answer_with_any_bytes_is_unchanged() {
    let garbage = bytes(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9\r\n\r\n\n\ndata:\n{}",
    );
    let service = Service::start([vec![garbage]]);
    let session = Session::start(&service, |worker| worker);
    let answer = session.ask(&question());
    assert_eq!((answer.status, answer.body.as_str()), (200, "\n\ndata:\n{"));
    session.end_and_assert_success();
}
