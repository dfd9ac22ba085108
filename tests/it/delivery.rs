//! For writers of orchestrators: one terminal event, and what each answer to it means.

mod stop_window;

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Project, Receiver, Reply, Worker, duration_setting, each, with_enough_time};

/// Gives a worker an agent whose output is longer than the tail in the result.
fn with_long_output(worker: Worker) -> Worker {
    worker.agent(
        "number=0; while [ $number -lt 300 ]; do echo line $number; number=$((number+1)); done",
    )
}

#[test]
fn a_terminal_event_answered_with_409_or_410_counts_as_delivered() {
    each(&[409, 410], |status| {
        for (agent, route, code) in [("true", "completed", 0), ("false", "failed", 1)] {
            let (receiver, project) = (Receiver::start(), Project::new());
            receiver.set_default_reply(route, Reply::status(status));
            let ended = Worker::new(&receiver, &project).agent(agent).run();
            ended.assert_code(code);
            assert_eq!(receiver.routes(), ["started", route]);
        }
    });
}

#[test]
fn a_rejected_success_is_on_stdout_and_not_sent_again() {
    let statuses = [400, 401, 403, 405, 422, 501, 301, 302, 303, 307, 308, 418];
    each(&statuses, |status| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let rejection = Reply::json(status, "because I say so");
        receiver.set_default_reply("completed", rejection);
        let ended = Worker::new(&receiver, &project).agent("true").run();
        ended.assert_code(3);
        assert_eq!(receiver.routes(), ["started", "completed"], "{status}");
        assert_eq!(ended.result_line(), receiver.only_event("completed"));
        assert!(ended.stderr.contains(&status.to_string()));
        assert!(ended.stderr.contains("because I say so"));
    });
}

#[test]
fn a_rejected_failure_is_on_stdout_and_not_sent_again() {
    each(&[400, 401, 403, 422, 302, 307], |status| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.set_default_reply("failed", Reply::status(status));
        let ended = Worker::new(&receiver, &project).agent("false").run();
        ended.assert_code(3);
        assert_eq!(receiver.routes(), ["started", "failed"], "{status}");
        assert_eq!(ended.result_line(), receiver.only_event("failed"));
    });
}

/// Asserts that the event that `/failed` did not accept was sent unchanged to `/completed`.
#[track_caller]
fn assert_sent_to_completed_unchanged(receiver: &Receiver) {
    let failed = &receiver.requests_to("failed")[0];
    let completed = receiver.requests_to("completed");
    assert!(!completed.is_empty());
    for request in completed {
        assert_eq!(request.body, failed.body);
        assert_eq!(request.headers["idempotency-key"], failed.event["event_id"]);
    }
    assert_eq!(failed.event["status"], "failed");
}

#[test]
fn a_failure_goes_to_completed_at_once_if_the_route_failed_answers_405_or_501() {
    each(&[405, 501], |status| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.set_default_reply("failed", Reply::status(status));
        receiver.script("completed", [Reply::status(503)]);
        let ended = Worker::new(&receiver, &project).agent("false").run();
        ended.assert_code(1);
        let expected = ["started", "failed", "completed", "completed"];
        assert_eq!(receiver.routes(), expected);
        assert_sent_to_completed_unchanged(&receiver);
    });
}

#[test]
fn a_failure_goes_to_completed_if_the_route_failed_keeps_answering_404() {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.set_default_reply("failed", Reply::status(404));
    receiver.script("completed", [Reply::status(503)]);
    let ended = Worker::new(&receiver, &project)
        .env("DESCARTES_FINISH_DEADLINE", "20s")
        .agent("false")
        .run();
    ended.assert_code(1);
    let attempts = receiver.requests_to("failed").len();
    assert!(attempts >= 3, "{attempts} attempts at /failed");
    assert_eq!(receiver.requests_to("completed").len(), 2);
    assert_sent_to_completed_unchanged(&receiver);
}

#[test]
fn a_failure_is_delivered_to_failed_if_that_route_stops_answering_404() {
    let (receiver, project) = (Receiver::start(), Project::new());
    // Another error between the 404s shows that they come from a proxy.
    receiver.script("failed", [404, 404, 503, 404].map(Reply::status));
    let ended = Worker::new(&receiver, &project).agent("false").run();
    ended.assert_code(1);
    assert_eq!(receiver.requests_to("failed").len(), 5);
    assert_eq!(receiver.requests_to("completed").len(), 0);
}

#[test]
fn a_success_is_delivered_after_404s_from_a_proxy_that_restarts() {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.script("completed", [Reply::status(404), Reply::status(404)]);
    let ended = Worker::new(&receiver, &project).agent("true").run();
    ended.assert_code(0);
    let attempts_at_completed = receiver.requests_to("completed");
    assert_eq!(attempts_at_completed.len(), 3);
    assert!(
        attempts_at_completed
            .iter()
            .all(|request| request.body == attempts_at_completed[0].body)
    );
}

#[test]
fn an_outcome_whose_routes_all_answer_404_is_on_stdout() {
    with_enough_time(Duration::from_millis(600), |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.set_default_reply("failed", Reply::status(404));
        receiver.set_default_reply("completed", Reply::status(404));
        let ended = Worker::new(&receiver, &project)
            .env("DESCARTES_FINISH_DEADLINE", duration_setting(limit))
            .agent("false")
            .run();
        ended.assert_code(3);
        assert_eq!(ended.result_line()["failure"]["reason"], "agent_failed");
        let routes = receiver.routes();
        assert_eq!(routes[0], "started");
        if !routes.contains(&"completed".to_owned()) {
            return Err("the other route was not tried".to_owned());
        }
        Ok(())
    });
}

#[test]
fn an_outcome_whose_routes_all_answer_405_or_501_is_on_stdout() {
    each(&[405, 501], |status| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.set_default_reply("failed", Reply::status(status));
        receiver.set_default_reply("completed", Reply::status(status));
        let ended = Worker::new(&receiver, &project).agent("false").run();
        ended.assert_code(3);
        assert_eq!(receiver.routes(), ["started", "failed", "completed"]);
        assert_eq!(ended.result_line()["failure"]["reason"], "agent_failed");
    });
}

#[test]
fn an_outcome_answered_with_413_is_sent_again_without_patch_prompts_and_output() {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.script("completed", [Reply::status(413), Reply::status(500)]);
    project.set_checks(&["echo the check"]);
    let ended = with_long_output(Worker::new(&receiver, &project)).run();
    ended.assert_code(0);
    let words = "sending it without the patch, the prompts and the output";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
    let attempts_at_completed = receiver.requests_to("completed");
    assert_eq!(attempts_at_completed.len(), 3);
    let result = |index: usize| &attempts_at_completed[index].event["result"];
    assert_ne!(result(0)["output"]["tail"], "");
    assert_eq!(result(0)["checks"][0]["output_tail"], "the check\n");
    assert_eq!(result(0)["prompts"].as_array().map(Vec::len), Some(1));
    assert_eq!(result(1)["prompts"].as_array().map(Vec::len), Some(0));
    assert_eq!(result(1)["output"]["tail"], "");
    assert_eq!(result(1)["checks"][0]["output_tail"], "");
    assert_eq!(result(1)["checks"][0]["command"], "echo the check");
    let bytes = &result(0)["output"]["total_bytes"];
    assert_eq!(&result(1)["output"]["total_bytes"], bytes);
    assert_eq!(&result(1)["output"]["dropped_bytes"], bytes);
    assert_eq!(
        attempts_at_completed[0].event["event_id"],
        attempts_at_completed[1].event["event_id"]
    );
    assert_eq!(attempts_at_completed[1].body, attempts_at_completed[2].body);
}

#[test]
fn an_outcome_answered_with_413_twice_is_on_stdout() {
    // One outcome with a prompt and output that can be removed, and one without.
    each(&[("false", 2), ("true", 1)], |(only_checks, attempts)| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.set_default_reply("completed", Reply::status(413));
        let ended = Worker::new(&receiver, &project)
            .env("DESCARTES_ONLY_CHECKS", only_checks)
            .agent("echo some output")
            .run();
        ended.assert_code(3);
        let attempts_at_completed = receiver.requests_to("completed");
        assert_eq!(attempts_at_completed.len(), attempts);
        assert_eq!(ended.result_line(), attempts_at_completed[0].event);
    });
}

#[test]
fn a_redirect_is_not_followed() {
    each(&[301, 302, 303, 307, 308], |status| {
        for route in ["started", "progress", "completed"] {
            let (receiver, project) = (Receiver::start(), Project::new());
            let elsewhere = Receiver::start();
            let redirect = Reply::status(status).with_header("location", elsewhere.url());
            receiver.set_default_reply(route, redirect);
            let mut worker =
                Worker::new(&receiver, &project).env("DESCARTES_CALLBACK_TOKEN", "secret-token");
            if route == "progress" {
                worker = worker.env("DESCARTES_HEARTBEAT", "50ms");
                worker = worker.agent("until [ -e go ]; do sleep 0.05; done");
            } else {
                worker = worker.agent("true");
            }
            let running = worker.start();
            // The second heartbeat shows that the worker has read the answer to the first one.
            let count = if route == "progress" { 2 } else { 1 };
            receiver.wait_for(route, |requests| {
                (requests
                    .iter()
                    .filter(|request| request.route == route)
                    .count()
                    >= count)
                    .then_some(())
            });
            project.write("go", "");
            let ended = running.wait();
            ended.assert_code(if route == "progress" { 0 } else { 3 });
            assert!(elsewhere.requests().is_empty());
            assert!(ended.stderr.contains("redirects are not followed"));
        }
    });
}

#[test]
fn a_connection_that_the_orchestrator_closed_is_replaced_without_a_failed_attempt() {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.script("started", [Reply::json(200, "{}").then_close()]);
    let running = Worker::new(&receiver, &project)
        .agent("until [ -e go ]; do sleep 0.02; done")
        .start();
    receiver.wait_for_first("started");
    // A connection that is closed during the next request would be a failed attempt.
    receiver.wait_until_all_connections_are_closed();
    project.write("go", "");
    let ended = running.wait();
    ended.assert_code(0);
    assert_eq!(receiver.routes(), ["started", "completed"]);
    assert!(!ended.stderr.contains("trying again"), "{}", ended.stderr);
}

#[test]
fn an_outcome_is_delivered_even_if_standard_output_is_not_read() {
    let (receiver, project) = (Receiver::start(), Project::new());
    // Standard output is a full pipe: a blocking write to it never returns.
    let (reader, mut writer) = io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'.'; 4096]).is_ok() {}
    while writer.write(b".").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_descartes-worker"))
        .env_clear()
        .env("TASK_ID", "8")
        .env("PROJECT_ID", "proj-456")
        .env("CALLBACK_URL", receiver.url())
        .env("DESCARTES_WORKSPACE", project.dir())
        .env("DESCARTES_AGENT_COMMAND", "true")
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    drop(reader);
    assert_eq!(status.code(), Some(0));
    assert_eq!(receiver.routes(), ["started", "completed"]);
}

#[test]
fn a_run_id_in_any_alphabet_becomes_an_ascii_event_id() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .agent("true")
        .env("DESCARTES_RUN_ID", "läuft 走")
        .env(
            "DESCARTES_CALLBACK_SECRET",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        )
        .run();
    ended.assert_code(0);
    let completed = receiver.requests_to("completed").remove(0);
    assert_eq!(completed.event["run_id"], "läuft 走");
    assert_eq!(completed.event["event_id"], "l%C3%A4uft %E8%B5%B0.1");
    assert_eq!(
        completed.headers["webhook-id"],
        completed.event["event_id"].as_str().unwrap()
    );
}
