//! Agents that attack the gateway, and services that send invalid answers.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::service::{Part, Service, bytes, complete_answer, header, message_document};
use super::session::{Session, end_agent, post, read_answer};
use super::{KEY, question};
use crate::support::processes::Process;
use crate::support::{Project, Receiver, Worker, wait_until};

#[test]
fn requests_without_the_secret_path_get_an_empty_error() {
    let service = Service::start([]);
    let session = Session::start(&service, |worker| worker);
    let length = session.path().len();
    for path in [
        "/",
        "/v1/messages",
        "/x/v1/messages",
        "*",
        &format!("/{}/v1/messages", "0".repeat(length - 1)),
        &format!("{}/v1/messages", &session.path()[..length - 1]),
        &format!("{}0/v1/messages", session.path()),
        &format!("/.{}/v1/messages", session.path()),
    ] {
        let answer = session.send(&post(path, "", &question().to_string()));
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
        assert_eq!(answer.body, "", "{path}");
    }
    assert_eq!(service.requests().len(), 0);
    session.end_and_assert_success();
}

#[test]
fn other_paths_and_methods_of_the_service_get_an_error_in_the_format_of_the_api() {
    let service = Service::start([]);
    let session = Session::start(&service, |worker| worker);
    for (method, path) in [
        ("POST", "/v1/messages/batches"),
        ("POST", "/v1/organizations/api_keys"),
        ("DELETE", "/v1/models/claude-x"),
        ("GET", "/v1/models/../organizations"),
        ("GET", "/v1/models/%2e%2e%2forganizations"),
        ("GET", "//other.example/v1/models"),
        ("TRACE", "/v1/messages"),
    ] {
        let answer = session.send(&format!(
            "{method} {{path}}{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        ));
        assert_eq!(answer.status, 404, "{path}");
        let body: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(body["error"]["type"], "not_found_error");
        let message = body["error"]["message"].as_str().expect("a message");
        assert!(message.ends_with(" is not forwarded"), "{message}");
        assert!(!message.contains(&session.path()), "{message}");
    }
    assert_eq!(service.requests().len(), 0);
    session.end_and_assert_success();
}

#[test]
fn no_other_host_can_be_reached() {
    let (service, other) = (Service::start([]), Service::start([]));
    let session = Session::start(&service, |worker| worker);
    let host = other.host();
    let body = question().to_string();
    // The client uses the gateway as a proxy.
    for target in [
        format!("http://{host}{{path}}/v1/messages"),
        format!("http://{host}/v1/messages"),
    ] {
        assert_eq!(
            session.send(&post(&target, "", &body)).status,
            404,
            "{target}"
        );
    }
    let tunnel = session.send(&format!(
        "CONNECT {host} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    ));
    assert_eq!(tunnel.status, 404);
    // The client names the other host in headers: the request still goes to the service.
    let request = post(
        "{path}/v1/messages",
        &format!("x-forwarded-host: {host}\r\n"),
        &body,
    )
    .replace("host: gateway", &format!("host: {host}"));
    assert_eq!(session.send(&request).status, 200);
    assert_eq!(
        service.requests()[0].header("host"),
        Some(service.host().as_str())
    );
    assert_eq!(other.requests().len(), 0);
    session.end_and_assert_success();
}

#[test]
fn a_redirect_is_passed_on_and_not_followed() {
    let other = Service::start([]);
    let location = format!("location: {}/v1/messages\r\n", other.url());
    let service = Service::start([vec![complete_answer(307, &location, "")]]);
    let session = Session::start(&service, |worker| worker);
    let answer = session.ask(&question());
    assert_eq!(answer.status, 307);
    assert!(header(&answer.head, "location").is_some());
    assert_eq!(other.requests().len(), 0);
    session.end_and_assert_success();
}

#[test]
fn no_second_request_can_be_smuggled_to_the_service() {
    let service = Service::start([]);
    let session = Session::start(&service, |worker| worker);
    let smuggled =
        "POST /v1/organizations/api_keys HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    let question = question().to_string();
    let chunked = format!("{:x}\r\n{question}\r\n0\r\n\r\n", question.len());
    let length = question.len();
    let head = "POST {path}/v1/messages HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    for request in [
        // With two lengths, or with a malformed one: whichever of them counts, the rest must not reach the service as a
        // request.
        format!("{head}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n{chunked}{smuggled}"),
        format!(
            "{head}content-length: {length}\r\ntransfer-encoding: x\r\n\r\n{question}{smuggled}"
        ),
        format!("{head}content-length: {length}\r\ncontent-length: 0\r\n\r\n{question}{smuggled}"),
        format!("{head}content-length: +{length}\r\n\r\n{question}{smuggled}"),
        format!("{head}content-length : {length}\r\n\r\n{question}{smuggled}"),
        // The value of a header contains another header.
        format!("{head}x-a: b\rx-api-key: mine\r\ncontent-length: {length}\r\n\r\n{question}"),
        format!("{head}x-a: b\n x-api-key: mine\r\ncontent-length: {length}\r\n\r\n{question}"),
        format!("{head}x-a: \0\r\ncontent-length: {length}\r\n\r\n{question}"),
        format!(
            "POST {{path}}/v1/messages?x HTTP/1.1\r\nx-api-key: a HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{question}"
        ),
        // The connection header names the credential.
        format!(
            "{head}connection: close, x-api-key, content-length\r\ncontent-length: {length}\r\n\r\n{question}"
        ),
    ] {
        let stream = session.connect(&request);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answers = String::new();
        let _ = { &stream }.read_to_string(&mut answers);
    }
    for arrived in service.requests() {
        assert_eq!(
            arrived
                .request_line()
                .split(' ')
                .nth(1)
                .map(|path| path.starts_with("/v1/messages")),
            Some(true),
            "{arrived:?}"
        );
        assert_eq!(arrived.header("x-api-key"), Some(KEY), "{arrived:?}");
        assert_eq!(
            String::from_utf8_lossy(&arrived.body),
            question,
            "{arrived:?}"
        );
    }
    session.end_and_assert_success();
}

#[test]
fn an_endless_body_is_refused_and_a_slow_one_delays_no_other_request() {
    let service = Service::start([]);
    let session = Session::start(&service, |worker| worker);
    let announced = session.send(
        "POST {path}/v1/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 99999999999\r\n\r\n",
    );
    assert_eq!(announced.status, 413);
    let endless = session.connect(
        "POST {path}/v1/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
    let mut sent = 0;
    while { &endless }.write_all(chunk.as_bytes()).is_ok() {
        sent += 1;
        assert!(sent < 100, "the gateway reads {sent} MiB");
    }
    let slow: Vec<TcpStream> = (0..10)
        .map(|_| {
            session.connect(
                "POST {path}/v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
            )
        })
        .collect();
    assert_eq!(session.ask(&question()).status, 200);
    drop(slow);
    assert_eq!(service.requests().len(), 1);
    session.end_and_assert_success();
}

#[test]
fn more_connections_than_the_gateway_serves_at_once_do_not_end_it() {
    let service = Service::start([]);
    let session = Session::start(&service, |worker| worker);
    // The gateway serves 128 connections at once. Many more would exhaust the files that some systems let the test open.
    let connections: Vec<_> = (0..132).map(|_| session.connect("GET ")).collect();
    // The gateway already serves as many connections as it can: this one waits for the others.
    let late_connection = session.connect(&post("{path}/v1/messages", "", &question().to_string()));
    drop(connections);
    assert_eq!(
        read_answer(&late_connection).expect("an answer").status,
        200
    );
    session.end_and_assert_success();
}

#[test]
fn an_invalid_answer_of_the_service_ends_only_its_request() {
    let script = [
        vec![bytes("\0\x01\x02 this is not HTTP\r\n\r\n"), Part::Close],
        vec![
            bytes("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef"),
            Part::Close,
        ],
        vec![
            bytes(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\nZZ\r\n",
            ),
            Part::Close,
        ],
        vec![complete_answer(
            200,
            "content-type: text/event-stream\r\n",
            &format!("data: {}\n\n\u{0}", "[".repeat(100_000)),
        )],
        vec![complete_answer(
            200,
            "content-type: application/json\r\n",
            "{\"usage\": {\"input_tokens\": -1e999",
        )],
        vec![message_document()],
    ];
    let count = script.len();
    let service = Service::start(script);
    let session = Session::start(&service, |worker| worker);
    let mut last = None;
    for _ in 0..count {
        let stream = session.connect(&post("{path}/v1/messages", "", &question().to_string()));
        last = read_answer(&stream);
    }
    assert_eq!(last.map(|answer| answer.status), Some(200));
    let (receiver, ended) = session.end(0);
    let agent = &ended.assert_completed(&receiver)["result"]["agent"];
    assert_eq!(agent["usage"]["output_tokens"], 5);
}

#[test]
fn if_the_agent_kills_the_gateway_the_run_fails_and_says_why() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let kill = "for pid in $(cat /proc/$PPID/task/$PPID/children); do
            if [ $pid != $$ ]; then kill -KILL $pid; fi
        done
        exec sleep 1000";
    let event = Worker::new(&receiver, &project)
        .env("ANTHROPIC_API_KEY", KEY)
        // In a PID namespace, the agent would not find the gateway.
        .env("DESCARTES_ISOLATION", "off")
        .agent(kill)
        .run()
        .assert_failed(&receiver, "api_error");
    let failure = &event["failure"];
    let message = failure["message"].as_str().expect("a message");
    assert!(
        message.starts_with("the model gateway ended before the agent did"),
        "{message}"
    );
    assert_eq!(failure["retryable"], json!(true));
}

#[test]
fn the_gateway_ignores_stop_signals_until_the_agent_has_ended() {
    let service = Service::start([]);
    let session = Session::start(&service, |worker| worker);
    let worker = session.running().pid();
    let gateway = gateway_pid(worker.as_raw_nonzero().get());
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        rustix::process::kill_process(gateway, signal).expect("the gateway is there");
    }
    assert_eq!(session.ask(&question()).status, 200);
    session.end_and_assert_success();
}

#[test]
fn if_the_worker_is_killed_the_gateway_ends() {
    let service = Service::start([]);
    let session = Session::start(&service, |worker| worker);
    let worker = session.running().pid().as_raw_nonzero().get();
    let gateway = gateway_pid(worker).as_raw_nonzero().get();
    let gateway = Process::with_pid(gateway).expect("the gateway");
    session.running().signal(Signal::KILL);
    // The port is no evidence: another test may get it.
    wait_until("the end of the gateway", || !gateway.is_alive());
    // The agent waits until it can read its exit code from the pipe, so the pipe must stay open.
    let _pipe = end_agent(&session.project, 0);
    session.wait();
}

/// The process id of the worker's gateway.
pub fn gateway_pid(worker: i32) -> rustix::process::Pid {
    let list = std::fs::read_to_string(format!("/proc/{worker}/task/{worker}/children"));
    let list = list.expect("the children");
    let is_gateway = |pid: &&str| {
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.ends_with("\0gateway\0")
    };
    let pid = list.split_whitespace().find(is_gateway).expect("a gateway");
    rustix::process::Pid::from_raw(pid.parse().expect("a number")).expect("a pid")
}
