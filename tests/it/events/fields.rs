//! Every field of the events `started`, `completed` and `failed`.

use serde_json::{Value, json};

use crate::support::{Project, Receiver, Worker};

/// Removes a field that differs from run to run, and returns it; it must be a text.
#[track_caller]
fn take_text(event: &mut Value, pointer: &str) -> String {
    let field = event.pointer_mut(pointer).map(Value::take);
    match field {
        Some(Value::String(text)) => text,
        other => panic!("{pointer} is {other:?}"),
    }
}

/// Removes a field that must be a number of milliseconds, less than an hour.
#[track_caller]
fn take_duration(event: &mut Value, pointer: &str) {
    let field = event.pointer_mut(pointer).map(Value::take);
    let milliseconds = field.as_ref().and_then(Value::as_u64);
    assert!(
        milliseconds.is_some_and(|milliseconds| milliseconds < 3_600_000),
        "{pointer} is {field:?}"
    );
}

/// The event on a route; the fields that differ from run to run are checked and removed.
#[track_caller]
fn event_without_variable_fields(receiver: &Receiver, route: &str) -> Value {
    let request = receiver.requests_to(route).pop().expect("an event");
    let mut event = request.event.clone();
    let run_id = take_text(&mut event, "/run_id");
    assert_eq!(run_id.len(), 16);
    assert!(run_id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let event_id = take_text(&mut event, "/event_id");
    assert_eq!(event_id, format!("{run_id}.{}", event["sequence"]));
    assert_eq!(request.headers["idempotency-key"], event_id);
    assert_is_timestamp(&take_text(&mut event, "/timestamp"));
    let hostname = rustix::system::uname();
    assert_eq!(
        take_text(&mut event, "/worker/hostname"),
        hostname.nodename().to_string_lossy()
    );
    take_text(&mut event, "/worker/isolation");
    event
}

/// RFC 3339, UTC, milliseconds: `2026-11-23T08:00:00.000Z`.
#[track_caller]
fn assert_is_timestamp(text: &str) {
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{text}");
    let stated: jiff::Timestamp = text.parse().expect("a timestamp");
    let age = jiff::Timestamp::now().duration_since(stated);
    assert!(
        !age.is_negative() && age < jiff::SignedDuration::from_mins(60),
        "{text} is {age} ago"
    );
}

/// The field `worker` of an event, without the fields that differ from machine to machine.
fn worker_without_machine() -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "revision": null,
        "hostname": null,
        "agent": "command",
        "isolation": null,
    })
}

#[test]
fn the_started_event_has_exactly_these_fields() {
    let (receiver, project) = (Receiver::start(), Project::new());
    Worker::new(&receiver, &project)
        .env("DESCARTES_CALLBACK_TIMEOUT", "10s")
        .env("DESCARTES_CLAIM_DEADLINE", "60s")
        .env("DESCARTES_STOP_WINDOW", "5s")
        .agent("true")
        .run();
    assert_eq!(
        event_without_variable_fields(&receiver, "started"),
        json!({
            "task_id": "8",
            "project_id": "proj-456",
            "status": "started",
            "message": "claiming the task",
            "version": 1,
            "event": "task.started",
            "event_id": null,
            "run_id": null,
            "sequence": 0,
            "timestamp": null,
            "worker": worker_without_machine(),
            "heartbeat_interval_ms": null,
            "limits": {
                "callback_timeout_ms": 10_000,
                "claim_deadline_ms": 60_000,
                "finish_deadline_ms": 900_000,
                "task_timeout_ms": 3_600_000,
                "idle_timeout_ms": 900_000,
                "stop_window_ms": 5_000,
                "max_turns": null,
                "max_budget_usd": null,
                "max_tokens": null,
            },
        })
    );
}

/// Removes the prompts, which must be one. tests/it/prompt.rs checks its text.
#[track_caller]
fn take_prompts(event: &mut Value) {
    let prompts = event["result"]["prompts"].take();
    let [prompt] = prompts.as_array().expect("a list").as_slice() else {
        panic!("{prompts:#}");
    };
    assert!(
        prompt
            .as_str()
            .is_some_and(|text| text.starts_with("# Task 8: ")),
        "{prompt}"
    );
}

#[test]
fn the_completed_event_has_exactly_these_fields() {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.set_checks(&["echo fine"]);
    Worker::new(&receiver, &project)
        .env("DESCARTES_MODEL", "opus")
        .agent("echo working; echo all done")
        .run()
        .assert_completed(&receiver);
    let mut event = event_without_variable_fields(&receiver, "completed");
    take_duration(&mut event, "/result/duration_ms");
    take_duration(&mut event, "/result/checks/0/duration_ms");
    take_duration(&mut event, "/result/phases/0/start_ms");
    take_duration(&mut event, "/result/phases/1/start_ms");
    take_duration(&mut event, "/result/phases/2/start_ms");
    take_prompts(&mut event);
    assert_eq!(
        event,
        json!({
            "task_id": "8",
            "project_id": "proj-456",
            "status": "completed",
            "message": "task 8 of phase webapp is done: Build the | house",
            "version": 1,
            "event": "task.completed",
            "event_id": null,
            "run_id": null,
            "sequence": 1,
            "timestamp": null,
            "worker": worker_without_machine(),
            "result": {
                "summary": "all done",
                "prompts": null,
                "duration_ms": null,
                "phases": [
                    { "phase": "preparing", "start_ms": null },
                    { "phase": "agent", "start_ms": null },
                    { "phase": "checks", "start_ms": null },
                ],
                "agent": {
                    "kind": "command", "model": "opus", "session_id": null, "exit_code": 0,
                    "turns": null, "tool_calls": null, "cost_usd": null, "usage": null,
                },
                "work": null,
                "checks": [
                    { "command": "echo fine", "exit_code": 0, "duration_ms": null, "output_tail": "fine\n" },
                ],
                "output": {
                    "head": "", "tail": "working\nall done\n", "total_bytes": 17, "dropped_bytes": 0,
                },
            },
        })
    );
}

#[test]
fn the_failed_event_has_exactly_these_fields() {
    let (receiver, project) = (Receiver::start(), Project::new());
    Worker::new(&receiver, &project)
        .agent("echo this is hopeless; exit 3")
        .run()
        .assert_failed(&receiver, "agent_failed");
    let mut event = event_without_variable_fields(&receiver, "failed");
    take_duration(&mut event, "/result/duration_ms");
    take_duration(&mut event, "/result/phases/0/start_ms");
    take_duration(&mut event, "/result/phases/1/start_ms");
    take_prompts(&mut event);
    assert_eq!(
        event,
        json!({
            "task_id": "8",
            "project_id": "proj-456",
            "status": "failed",
            "message": "the agent's command failed with exit code 3",
            "version": 1,
            "event": "task.failed",
            "event_id": null,
            "run_id": null,
            "sequence": 1,
            "timestamp": null,
            "worker": worker_without_machine(),
            "result": {
                "summary": "this is hopeless",
                "prompts": null,
                "duration_ms": null,
                "phases": [
                    { "phase": "preparing", "start_ms": null },
                    { "phase": "agent", "start_ms": null },
                ],
                "agent": {
                    "kind": "command", "model": null, "session_id": null, "exit_code": 3,
                    "turns": null, "tool_calls": null, "cost_usd": null, "usage": null,
                },
                "work": null,
                "checks": [],
                "output": {
                    "head": "", "tail": "this is hopeless\n", "total_bytes": 17, "dropped_bytes": 0,
                },
            },
            "failure": {
                "reason": "agent_failed",
                "message": "the agent's command failed with exit code 3",
                "detail": "",
                "retryable": false,
            },
        })
    );
}
