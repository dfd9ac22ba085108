//! For writers of orchestrators: every field of the events, and when the terminal event is sent.

use std::collections::HashSet;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Project, Receiver, Reply, Worker, assert_nothing_alive, is_under_load};

/// Removes a field that differs from run to run, and returns it; it must be a text.
#[track_caller]
fn take(event: &mut Value, pointer: &str) -> String {
    let field = event.pointer_mut(pointer).map(Value::take);
    match field {
        Some(Value::String(text)) => text,
        other => panic!("{pointer} is {other:?}"),
    }
}

/// Removes a field that must be a number of milliseconds.
#[track_caller]
fn take_duration(event: &mut Value, pointer: &str) {
    let field = event.pointer_mut(pointer).map(Value::take);
    let milliseconds = field.as_ref().and_then(Value::as_u64);
    assert!(
        milliseconds.is_some_and(|milliseconds| milliseconds < 60_000),
        "{pointer} is {field:?}"
    );
}

/// The event on a route; the fields that differ from run to run are checked and removed.
#[track_caller]
fn event_without_variable_fields(receiver: &Receiver, route: &str) -> Value {
    let request = receiver.requests_to(route).pop().expect("an event");
    let mut event = request.event.clone();
    let run_id = take(&mut event, "/run_id");
    assert_eq!(run_id.len(), 16);
    assert!(run_id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let event_id = take(&mut event, "/event_id");
    assert_eq!(event_id, format!("{run_id}.{}", event["sequence"]));
    assert_eq!(request.headers["idempotency-key"], event_id);
    assert_is_timestamp(&take(&mut event, "/timestamp"));
    let hostname = rustix::system::uname();
    assert_eq!(
        take(&mut event, "/worker/hostname"),
        hostname.nodename().to_string_lossy()
    );
    take(&mut event, "/worker/isolation");
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
        !age.is_negative() && age < jiff::SignedDuration::from_mins(5),
        "{text} is {age} ago"
    );
}

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

#[test]
fn the_claim_says_the_heartbeat_interval_and_the_limits_and_no_other_event_does() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .env("DESCARTES_HEARTBEAT", "1500ms")
        .env("DESCARTES_CALLBACK_TIMEOUT", "11s")
        .env("DESCARTES_CLAIM_DEADLINE", "61s")
        .env("DESCARTES_FINISH_DEADLINE", "16m")
        .env("DESCARTES_TASK_TIMEOUT", "2h")
        .env("DESCARTES_IDLE_TIMEOUT", "0")
        .env("DESCARTES_STOP_WINDOW", "6s")
        .env("DESCARTES_MAX_TURNS", "7")
        .env("DESCARTES_MAX_BUDGET_USD", "2.50")
        .agent("true")
        .run();
    ended.assert_code(0);
    let claim = receiver.only_event("started");
    assert_eq!(claim["heartbeat_interval_ms"], 1500);
    let limits = json!({
        "callback_timeout_ms": 11_000, "claim_deadline_ms": 61_000, "finish_deadline_ms": 960_000,
        "task_timeout_ms": 7_200_000, "idle_timeout_ms": null, "stop_window_ms": 6_000,
        "max_turns": 7, "max_budget_usd": 2.5, "max_tokens": null,
    });
    assert_eq!(claim["limits"], limits);
    let completed = receiver.only_event("completed");
    for field in ["heartbeat_interval_ms", "limits"] {
        assert!(completed.get(field).is_none(), "{completed:#}");
    }
}

/// Replaces the prompts of the only round, which tests/it/prompt.rs compares.
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

#[test]
fn events_of_one_run_have_the_same_run_id_and_other_runs_have_others() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let mut runs = HashSet::new();
    for _ in 0..3 {
        Worker::new(&receiver, &project)
            .env("DESCARTES_FORCE", "true")
            .agent("true")
            .run()
            .assert_code(0);
        let requests = receiver.requests();
        let [started, completed] = &requests[requests.len() - 2..] else {
            unreachable!()
        };
        assert_eq!(started.event["run_id"], completed.event["run_id"]);
        assert_ne!(started.event["event_id"], completed.event["event_id"]);
        runs.insert(started.event["run_id"].to_string());
    }
    assert_eq!(runs.len(), 3);
}

#[test]
fn the_orchestrator_may_choose_the_runs_id() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let event = Worker::new(&receiver, &project)
        .env("DESCARTES_RUN_ID", "attempt-2")
        .agent("true")
        .run()
        .assert_completed(&receiver);
    assert_eq!(event["run_id"], "attempt-2");
    assert_eq!(event["event_id"], "attempt-2.1");
    assert_eq!(receiver.only_event("started")["event_id"], "attempt-2.0");
}

#[test]
fn the_machine_is_in_the_events_if_the_platform_names_it() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let event = Worker::new(&receiver, &project)
        .env("FLY_MACHINE_ID", "148e306f")
        .env("FLY_APP_NAME", "workers")
        .env("FLY_REGION", "ams")
        .env("FLY_IMAGE_REF", "registry.fly.io/workers:1")
        .env("FLY_VM_MEMORY_MB", "2048")
        .agent("true")
        .run()
        .assert_completed(&receiver);
    let machine = json!({
        "id": "148e306f", "app": "workers", "region": "ams",
        "image": "registry.fly.io/workers:1", "memory_mb": 2048,
    });
    assert_eq!(event["worker"]["machine"], machine);
    assert_eq!(receiver.only_event("started")["worker"]["machine"], machine);
}

#[test]
fn unknown_facts_about_the_machine_are_null() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let event = Worker::new(&receiver, &project)
        .env("FLY_APP_NAME", "workers")
        .env("FLY_VM_MEMORY_MB", "plenty")
        .agent("true")
        .run()
        .assert_completed(&receiver);
    assert_eq!(
        event["worker"]["machine"],
        json!({ "id": null, "app": "workers", "region": null, "image": null, "memory_mb": null })
    );
}

#[test]
fn every_request_names_its_content_type_and_its_user_agent() {
    let (receiver, project) = (Receiver::start(), Project::new());
    Worker::new(&receiver, &project)
        .agent("exit 1")
        .run()
        .assert_failed(&receiver, "agent_failed");
    for request in receiver.requests() {
        assert_eq!(request.headers["content-type"], "application/json");
        let agent = concat!("descartes-worker/", env!("CARGO_PKG_VERSION"));
        assert_eq!(request.headers["user-agent"], agent);
        assert!(!request.headers.contains_key("authorization"));
        assert!(!request.headers.contains_key("traceparent"));
    }
}

#[test]
fn the_result_line_is_the_terminal_event_byte_for_byte() {
    for (agent, route) in [("echo zwölf", "completed"), ("echo →; exit 1", "failed")] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let ended = Worker::new(&receiver, &project).agent(agent).run();
        let request = receiver.wait_for_one(route);
        let body = String::from_utf8(request.body).expect("UTF-8");
        assert_eq!(ended.stdout, format!("descartes-result {body}\n"));
    }
}

#[test]
fn the_result_line_is_printed_before_the_event_is_sent() {
    let (receiver, project) = (Receiver::start(), Project::new());
    // The receiver takes the event and never answers; the platform kills the machine.
    receiver.set_default_reply(
        "completed",
        Reply::status(200).after(std::time::Duration::MAX),
    );
    let worker = Worker::new(&receiver, &project).agent("true").start();
    let request = receiver.wait_for_one("completed");
    worker.signal(Signal::KILL);
    let ended = worker.wait();
    assert_eq!((ended.code, ended.signal), (None, Some(9)));
    if ended.stdout.is_empty() && is_under_load() {
        // On kernels before 6.4, a thread writes the line, and the worker waits for that thread only for 50 ms.
        return;
    }
    assert_eq!(ended.result_line(), request.event);
}

#[test]
fn a_rejected_outcome_means_exit_3_after_the_result_line() {
    for (status, route, agent) in [(401, "completed", "true"), (422, "failed", "false")] {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.set_default_reply(route, Reply::json(status, "who are you?"));
        let ended = Worker::new(&receiver, &project).agent(agent).run();
        ended.assert_code(3);
        assert_eq!(receiver.routes(), ["started", route]);
        assert_eq!(ended.result_line(), receiver.only_event(route));
        assert!(ended.stderr.contains("who are you?"), "{ended:#?}");
    }
}

#[test]
fn a_stop_signal_ends_the_agent_and_is_reported() {
    for (signal, name) in [
        (Signal::TERM, "SIGTERM"),
        (Signal::INT, "SIGINT"),
        (Signal::HUP, "SIGHUP"),
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let before = project.graph();
        let worker = Worker::new(&receiver, &project)
            .agent("echo ready; exec sleep 600")
            .start();
        worker.wait_for_log("agent: ready");
        worker.signal(signal);
        let ended = worker.wait();
        let event = ended.assert_failed(&receiver, "interrupted");
        assert_eq!(
            event["message"],
            format!("the worker was stopped by {name}")
        );
        assert_eq!(event["failure"]["retryable"], true);
        assert_eq!(event["result"]["agent"]["exit_code"], Value::Null);
        assert_eq!(event["result"]["output"]["tail"], "ready\n");
        assert_eq!(ended.result_line(), event);
        assert_nothing_alive(&project);
        assert_eq!(project.graph(), before);
    }
}
