//! For writers of orchestrators: the published schema describes the worker's events.
//!
//! In every test, the receiver validates each event against the schema. These tests are for the rest: events that the worker
//! only prints, the examples in the protocol, and whether the schema is strict.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Project, Receiver, Reply, Worker, schema};

/// A `task.failed` event of a real worker.
fn failed_event() -> Value {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.set_checks(&["echo wrong; exit 3"]);
    let ended = Worker::new(&receiver, &project)
        .agent("echo all done")
        .run();
    ended.assert_code(1);
    receiver.only_event("failed")
}

/// Asserts that the schema does not allow an event; `what` says in the failure message what is wrong with the event.
#[track_caller]
fn assert_rejected_by_schema(event: &Value, what: &str) {
    assert!(
        !schema::callback_violations(event).is_empty(),
        "the schema allows {what}: {event:#}"
    );
}

/// A `task.started` event of a real worker.
fn started_event() -> Value {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project).agent("true").run();
    ended.assert_code(0);
    receiver.only_event("started")
}

#[test]
fn the_schema_requires_every_field_that_a_worker_sends() {
    assert_requires_every_field(&started_event(), &["", "/worker", "/limits"]);
    let places = [
        "",
        "/worker",
        "/result",
        "/result/agent",
        "/result/checks/0",
        "/result/output",
        "/failure",
    ];
    assert_requires_every_field(&failed_event(), &places);
}

/// Asserts that the schema rejects an event in which a field is missing or is -1; `places` are the objects with the fields.
#[track_caller]
fn assert_requires_every_field(event: &Value, places: &[&str]) {
    assert_eq!(schema::callback_violations(event), [""; 0]);
    for &place in places {
        let object = event.pointer(place).and_then(Value::as_object);
        for field in object.expect(place).keys() {
            let mut without = event.clone();
            let object = without.pointer_mut(place).and_then(Value::as_object_mut);
            object.expect(place).remove(field);
            assert_rejected_by_schema(&without, &format!("{place} without {field}"));
            let mut nonsense = event.clone();
            nonsense.pointer_mut(place).expect(place)[field] = json!(-1);
            assert_rejected_by_schema(&nonsense, &format!("-1 as {field} of {place}"));
        }
        let mut more = event.clone();
        more.pointer_mut(place).expect(place)["of_tomorrow"] = json!(true);
        assert_eq!(
            schema::callback_violations(&more),
            [""; 0],
            "unknown fields pass"
        );
    }
}

#[test]
fn the_schema_rejects_fields_that_belong_to_another_event() {
    let failed = failed_event();
    for (event, status) in [
        ("started", "started"),
        ("progress", "running"),
        ("completed", "completed"),
    ] {
        let mut other = failed.clone();
        other["event"] = json!(format!("task.{event}"));
        assert_rejected_by_schema(&other, "the status of another event");
        other["status"] = json!(status);
        assert_rejected_by_schema(&other, &format!("a failure in {event}"));
    }
    let mut started = failed.clone();
    (started["event"], started["status"]) = (json!("task.started"), json!("started"));
    let object = started.as_object_mut().expect("an object");
    object.remove("result");
    object.remove("failure");
    assert_rejected_by_schema(&started, "a claim without limits");
    let claim = started_event();
    for field in ["heartbeat_interval_ms", "limits"] {
        started[field] = claim[field].clone();
    }
    assert_eq!(schema::callback_violations(&started), [""; 0]);
    started["event"] = json!("task.progress");
    started["status"] = json!("running");
    assert_rejected_by_schema(&started, "progress without progress");
}

#[test]
fn the_examples_in_the_protocol_match_the_schema() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md");
    let protocol = fs::read_to_string(path).expect("docs/protocol.md");
    let blocks = protocol.split("```json\n").skip(1);
    let mut events = Vec::new();
    for block in blocks {
        let (json, _) = block.split_once("```").expect("the block's end");
        let event: Value = serde_json::from_str(json).expect("an example is JSON");
        assert_eq!(schema::callback_violations(&event), [""; 0], "{event:#}");
        events.push(event["event"].as_str().expect("an event").to_owned());
    }
    assert_eq!(events, ["task.started", "task.progress", "task.failed"]);
}

#[test]
fn the_result_line_of_a_worker_without_a_claim_matches_the_schema() {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.set_default_reply("started", Reply::status(403));
    let ended = Worker::new(&receiver, &project).agent("true").run();
    let event = ended.assert_code(3).result_line();
    assert_eq!(schema::callback_violations(&event), [""; 0]);
    assert_eq!(event["failure"]["reason"], "unclaimed");
    assert_eq!(receiver.routes(), ["started"], "it is never sent");
}

#[test]
#[should_panic(expected = "the worker broke the protocol")]
fn an_event_that_breaks_the_schema_fails_the_test_that_drops_the_receiver() {
    let receiver = Receiver::start();
    post(&receiver, r#"{"event":"task.started"}"#);
}

#[test]
#[should_panic(expected = "a request that cannot be read")]
fn an_unreadable_request_fails_the_test_that_asks_the_receiver() {
    let receiver = Receiver::start();
    post(&receiver, "no JSON");
    receiver.requests();
}

/// Posts a body that no worker would send, and waits for the answer.
fn post(receiver: &Receiver, body: &str) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(receiver.address()).expect("a connection");
    let head = format!(
        "POST /started HTTP/1.1\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(format!("{head}{body}").as_bytes())
        .expect("a request");
    let _ = stream.read(&mut [0; 64]);
}
