//! For writers of orchestrators: the fields of the events, and when the terminal event is sent.

mod fields;

use std::collections::HashSet;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Project, Receiver, Reply, Worker, assert_no_process_in, is_under_load};

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
        let request = receiver.wait_for_first(route);
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
    let request = receiver.wait_for_first("completed");
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
        assert_no_process_in(&project);
        assert_eq!(project.graph(), before);
    }
}
