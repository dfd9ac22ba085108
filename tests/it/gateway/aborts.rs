//! Requests that end without an answer of the model, and a run that is cancelled while its gateway starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Mode, OFlags};
use serde_json::json;

use super::service::{
    Part, Service, complete_answer, message_document, message_start, stream_end, stream_event,
    stream_head,
};
use super::session::{Session, post};
use super::{KEY, question};
use crate::support::{Hold, Project, Receiver, Reply, Server, Worker, wait_until};

/// A stream of the Messages API that has only an error event.
fn stream_with_only_an_error() -> Vec<Part> {
    vec![
        stream_head(),
        stream_event(&json!({ "type": "ping" })),
        overloaded_event(),
        stream_end(),
    ]
}

fn overloaded_event() -> Part {
    let error = json!({ "type": "overloaded_error", "message": "Overloaded" });
    stream_event(&json!({ "type": "error", "error": error }))
}

/// Ends the agent, and asserts that the requests of the run together cost this many US dollars.
#[track_caller]
fn end_and_assert_cost(session: Session, expected: f64) {
    let (receiver, ended) = session.end(0);
    let agent = &ended.assert_completed(&receiver)["result"]["agent"];
    let cost = agent["cost_usd"].as_f64();
    assert!(
        cost.is_some_and(|cost| (cost - expected).abs() < 1e-9),
        "{agent}"
    );
}

#[test]
fn a_request_that_the_client_breaks_off_does_not_make_the_cost_unknown() {
    let hold = Hold::default();
    let service = Service::start([vec![Part::Wait(hold.clone()), message_document()]]);
    let session = Session::start(&service, |worker| worker);
    let stream = session.connect(&post("{path}/v1/messages", "", &question().to_string()));
    wait_until("the request", || service.requests().len() == 1);
    drop(stream);
    assert_eq!(session.ask(&question()).status, 200);
    hold.release();
    end_and_assert_cost(session, 0.00007);
}

#[test]
fn an_answer_without_a_usable_model_does_not_make_the_cost_unknown() {
    let renamed = json!({
        "type": "message", "model": "proxy.claude-sonnet-5-5", "content": [],
        "usage": { "input_tokens": 10, "output_tokens": 5 },
    });
    let json_type = "content-type: application/json\r\n";
    let compressed_headers = format!("{json_type}content-encoding: gzip\r\n");
    for (answer, expected) in [
        (stream_with_only_an_error(), 0.00007),
        (
            vec![complete_answer(200, &compressed_headers, "\u{1f}x")],
            0.00007,
        ),
        // The price of the requested model counts.
        (
            vec![complete_answer(200, json_type, &renamed.to_string())],
            0.00014,
        ),
    ] {
        let service = Service::start([answer]);
        let session = Session::start(&service, |worker| worker);
        assert_eq!(session.ask(&question()).status, 200);
        assert_eq!(session.ask(&question()).status, 200);
        end_and_assert_cost(session, expected);
    }
}

#[test]
fn an_answer_that_is_only_an_error_costs_nothing() {
    let error = json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } });
    let document = complete_answer(
        200,
        "content-type: application/json\r\n",
        &error.to_string(),
    );
    let service = Service::start([stream_with_only_an_error(), vec![document]]);
    // The upper bound of each request is 6,100 tokens.
    let session = Session::start(&service, |worker| {
        worker.env("DESCARTES_MAX_TOKENS", "5000")
    });
    assert!(session.ask(&question()).body.contains("Overloaded"));
    assert!(session.ask(&question()).body.contains("Overloaded"));
    assert_eq!(session.ask(&question()).status, 200);
    end_and_assert_cost(session, 0.00007);
}

#[test]
fn an_error_after_the_beginning_of_an_answer_does_not_make_the_answer_free() {
    let service = Service::start([vec![
        stream_head(),
        message_start(),
        overloaded_event(),
        stream_end(),
    ]]);
    let session = Session::start(&service, |worker| {
        worker.env("DESCARTES_MAX_TOKENS", "1000")
    });
    assert!(session.ask(&question()).body.contains("Overloaded"));
    assert_eq!(session.ask(&question()).status, 402);
    let (receiver, ended) = session.wait();
    ended.assert_failed(&receiver, "limit_reached");
}

#[test]
fn a_request_that_ends_before_there_is_a_connection_to_the_service_costs_nothing() {
    // The service accepts connections, but never completes the TLS handshake.
    let (hold, connections) = (Hold::default(), Arc::new(AtomicUsize::new(0)));
    let server = {
        let (hold, connections) = (hold.clone(), Arc::clone(&connections));
        Server::listen("127.0.0.1:0", move |connection| {
            connections.fetch_add(1, Ordering::SeqCst);
            connection.wait_for(&hold);
        })
    };
    let count = || connections.load(Ordering::SeqCst);
    let service = Service::start([]);
    let session = Session::start(&service, |worker| {
        let url = format!("https://{}", server.address());
        // The upper bound of each request is 6,100 tokens.
        worker
            .env("ANTHROPIC_BASE_URL", url)
            .env("DESCARTES_MAX_TOKENS", "5000")
    });
    let request = post("{path}/v1/messages", "", &question().to_string());
    let stream = session.connect(&request);
    wait_until("the first connection", || count() == 1);
    drop(stream);
    let _second = session.connect(&request);
    wait_until("a second connection", || count() == 2);
    hold.release();
    let (receiver, ended) = session.end(0);
    ended.assert_completed(&receiver);
}

#[test]
fn a_cancellation_ends_a_run_whose_gateway_has_not_started_yet() {
    let (receiver, project) = (Receiver::start(), Project::new());
    // The gateway waits for the authorities, because the test holds the pipe open and writes nothing.
    let pipe = project.path("authorities.pem");
    let status = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(status.expect("mkfifo").success());
    let running = Worker::new(&receiver, &project)
        .env("ANTHROPIC_API_KEY", KEY)
        .env("ANTHROPIC_BASE_URL", "https://model.invalid")
        .env("SSL_CERT_FILE", &pipe)
        .env("DESCARTES_HEARTBEAT", "50ms")
        .agent("touch ran")
        .start();
    let mut writer = None;
    wait_until("the gateway", || {
        // With NONBLOCK, this is an error until the gateway opens the pipe to read it.
        let flags = OFlags::WRONLY | OFlags::NONBLOCK;
        writer = rustix::fs::open(&pipe, flags, Mode::empty()).ok();
        writer.is_some()
    });
    receiver.set_default_reply("progress", Reply::json(200, r#"{"cancel": true}"#));
    let ended = running.wait();
    drop(writer);
    ended.assert_failed(&receiver, "cancelled");
    assert!(!project.path("ran").exists());
}
