//! Requests with wrong signatures or mistakes, scripted answers, and many requests at the end.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{post, post_raw, receive, receive_with, stop, wait_for_end, worker};
use crate::support::{Project, Worker, assert_in_order};

/// The secret of the receiver.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A secret that the receiver does not know.
const OTHER_SECRET: &str = "whsec_YW5vdGhlciBzZWNyZXQgb2YgYSBnb29kIGxlbmd0aA==";

#[test]
fn a_request_without_a_right_signature_is_refused_if_the_receiver_knows_a_secret() {
    let by_variable = |worker: Worker| worker.env("DESCARTES_CALLBACK_SECRET", SECRET);
    for (receiving, url) in [
        receive_with(&["--secret", SECRET], |worker| worker),
        receive_with(&[], by_variable),
    ] {
        let project = Project::new();
        let run_signed_with = |secret: &str| {
            let worker = worker(&url, &project).env("DESCARTES_CALLBACK_SECRET", secret);
            worker.agent("touch worked").run()
        };
        let unsigned = run_signed_with("");
        unsigned.assert_code(3);
        let words = "the request is not signed (webhook-id is missing)";
        assert!(unsigned.stderr.contains(words), "{unsigned:#?}");
        let wrong = run_signed_with(OTHER_SECRET);
        wrong.assert_code(3);
        assert!(wrong.stderr.contains("no signature is right"), "{wrong:#?}");
        assert!(!project.path("worked").exists());
        // During a rotation the worker signs with both secrets.
        run_signed_with(&format!("{OTHER_SECRET} {SECRET}")).assert_code(0);
        let ended = stop(receiving);
        assert_in_order(
            &ended.stderr,
            &[
                "accepts only signed requests\n",
                "refused          /api/agents/callback/started: the request is not signed",
                "refused          /api/agents/callback/started: no signature is right",
                "POST /started    8: run ",
                "POST /completed  8: ",
            ],
        );
        assert!(!ended.stderr.contains("protocol  "), "{ended:#?}");
        assert!(!ended.stderr.contains(SECRET), "{ended:#?}");
    }
}

#[test]
fn scripted_answers_are_used_in_order_and_the_last_one_is_repeated() {
    let flags = [
        "--answer",
        "started=503,ok",
        "--answer",
        "completed=500,401",
        "--answer",
        "progress=410",
    ];
    let (receiving, url) = receive_with(&flags, |worker| worker);
    let project = Project::new();
    // A heartbeat would be answered with 410.
    let silent = || worker(&url, &project).env("DESCARTES_HEARTBEAT", "0");
    let ended = silent().agent("true").run();
    ended.assert_code(3);
    // The run of this worker has not ended for the receiver.
    silent().agent("true").run().assert_code(4);
    assert_in_order(
        &stop(receiving).stderr,
        &[
            "POST /started    8: run ",
            " → answered (503): scripted by --answer\n",
            "POST /started    8: run ",
            "POST /completed  8: ",
            " → answered (500): scripted by --answer\n",
            "POST /completed  8: ",
            " → answered (401): scripted by --answer\n",
            " → refused (409): run ",
        ],
    );
    let (receiving, url) = receive_with(&["--answer", "progress=410"], |worker| worker);
    let ended = worker(&url, &Project::new()).agent("exec sleep 600").run();
    ended.assert_code(1);
    assert_eq!(ended.result_line()["failure"]["reason"], "cancelled");
    stop(receiving);
}

#[test]
fn receive_shows_every_request_that_it_answered_before_a_signal_ended_it() {
    const ROUNDS: u64 = 10;
    const CLIENTS: u64 = 8;
    const ANSWERS_BEFORE_THE_SIGNAL: u64 = 40;
    for _ in 0..ROUNDS {
        let (receiving, url) = receive();
        let (host, _) = url["http://".len()..].split_once('/').expect("a path");
        let answer_count = AtomicU64::new(0);
        let paths: Vec<String> = std::thread::scope(|scope| {
            let client = |client| {
                let (answer_count, receiving) = (&answer_count, &receiving);
                let mut paths = Vec::new();
                move || {
                    for request in 0.. {
                        let path = format!("request-{client}-{request}");
                        match post_raw(host, &path, "{}") {
                            Ok(answer) if answer.ends_with('}') => paths.push(path),
                            _ => break,
                        }
                        if answer_count.fetch_add(1, Ordering::SeqCst) == ANSWERS_BEFORE_THE_SIGNAL
                        {
                            receiving.signal(Signal::TERM);
                        }
                    }
                    paths
                }
            };
            let clients: Vec<_> = (0..CLIENTS)
                .map(|number| scope.spawn(client(number)))
                .collect();
            let paths = clients.into_iter().map(std::thread::ScopedJoinHandle::join);
            paths
                .flat_map(|paths| paths.expect("answered paths"))
                .collect()
        });
        let ended = wait_for_end(receiving);
        for path in paths {
            let line = format!("there is no route \"{path}\"\n");
            assert!(ended.stderr.contains(&line), "{path}\n{}", ended.stderr);
        }
    }
}

#[test]
fn receive_shows_control_characters_of_a_request_instead_of_obeying_them() {
    let (receiving, url) = receive();
    let body = json!({
        "task_id": "8\u{1b}[2J", "project_id": "p", "status": "started", "version": 1,
        "message": "m\nPOST /completed  8: forged", "event": "task.started", "event_id": "r.1", "run_id": "r",
        "sequence": 1, "timestamp": "2026-11-23T08:00:00.000Z", "worker": { "hostname": "h\u{7}\nforged" },
    });
    post(&format!("{url}/started"), &body.to_string());
    let ended = stop(receiving);
    let line = ended
        .stderr
        .lines()
        .find(|line| line.contains("POST /started"));
    assert!(
        line.is_some_and(|line| line.ends_with("8␛[2J: run r on h␇␊forged")),
        "{ended:#?}"
    );
    assert!(ended.stderr.chars().all(|c| c == '\n' || !c.is_control()));
}

#[test]
fn receive_names_what_breaks_the_protocol_in_a_request() {
    let (receiving, url) = receive();
    let event = |sequence: u64, change: Value| {
        let mut event = json!({
            "task_id": "8", "project_id": "p", "status": "started", "message": "m", "version": 1,
            "event": "task.started", "event_id": format!("r.{sequence}"), "run_id": "r",
            "sequence": sequence, "timestamp": "2026-11-23T08:00:00.000Z",
            "worker": { "hostname": "h" },
        });
        let change = change.as_object().expect("fields").clone();
        event.as_object_mut().expect("fields").extend(change);
        event.to_string()
    };
    let status_of = |route: &str, body: &str| post(&format!("{url}/{route}"), body).0;
    assert_eq!(
        status_of(
            "started",
            &event(3, json!({ "status": "begun", "version": 2 }))
        ),
        200
    );
    let failed =
        json!({ "status": "failed", "event": "task.failed", "failure": { "reason": "idle" } });
    assert_eq!(status_of("failed", &event(2, failed.clone())), 200);
    assert_eq!(status_of("failed", &event(2, failed.clone())), 200);
    assert_eq!(status_of("failed", &event(5, failed)), 409);
    assert_eq!(status_of("started", "nonsense"), 400);
    assert_eq!(status_of("started", "{}"), 400);
    assert_eq!(status_of("sideways", "{}"), 404);
    assert_in_order(
        &stop(receiving).stderr,
        &[
            "POST /started    8: run r on h\n",
            "protocol         status is \"begun\", not \"started\"\n",
            "protocol         version is 2, not 1\n",
            "POST /failed     8: m [idle]\n",
            "protocol         sequence is 2, after 3: it must rise\n",
            "POST /failed     8: m [idle] (again)\n",
            "POST /failed     8: m [idle] → answered (409): the run ended already\n",
            "protocol         the run ended already, with event r.2\n",
            "refused          /api/agents/callback/started: the body is not JSON: ",
            "refused          /api/agents/callback/started: task_id is missing; ",
            "refused          /api/agents/callback/sideways: there is no route \"sideways\"\n",
        ],
    );
}
