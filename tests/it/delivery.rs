//! For writers of orchestrators: one terminal event, and what each answer to it means.

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{
    Project, Receiver, Reply, Worker, assert_nothing_alive, assert_within, each, is_under_load,
    setting, wait_until, with_enough_time,
};

fn long_output(worker: Worker) -> Worker {
    worker.agent("i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done")
}

#[test]
fn an_orchestrator_that_knows_already_is_content() {
    each(&[409, 410], |status| {
        for (agent, route, code) in [("true", "completed", 0), ("false", "failed", 1)] {
            let (receiver, project) = (Receiver::start(), Project::new());
            receiver.always(route, Reply::status(status));
            let ended = Worker::new(&receiver, &project).agent(agent).run();
            ended.assert_code(code);
            assert_eq!(receiver.story(), ["started", route]);
        }
    });
}

#[test]
fn a_success_that_is_rejected_is_on_stdout_and_not_tried_again() {
    let statuses = [400, 401, 403, 405, 422, 501, 301, 302, 303, 307, 308, 418];
    each(&statuses, |status| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let because = Reply::json(status, "because I say so");
        receiver.always("completed", because);
        let ended = Worker::new(&receiver, &project).agent("true").run();
        ended.assert_code(3);
        assert_eq!(receiver.story(), ["started", "completed"], "{status}");
        assert_eq!(ended.result_line(), receiver.only("completed"));
        assert!(ended.stderr.contains(&status.to_string()));
        assert!(ended.stderr.contains("because I say so"));
    });
}

#[test]
fn a_failure_that_is_rejected_is_on_stdout_and_not_tried_again() {
    each(&[400, 401, 403, 422, 302, 307], |status| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.always("failed", Reply::status(status));
        let ended = Worker::new(&receiver, &project).agent("false").run();
        ended.assert_code(3);
        assert_eq!(receiver.story(), ["started", "failed"], "{status}");
        assert_eq!(ended.result_line(), receiver.only("failed"));
    });
}

#[test]
fn an_orchestrator_without_a_route_for_failures_hears_them_at_the_other_one() {
    each(&[404, 405, 501], |status| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.always("failed", Reply::status(status));
        receiver.script("completed", [Reply::status(503)]);
        let ended = Worker::new(&receiver, &project).agent("false").run();
        ended.assert_code(1);
        let expected = ["started", "failed", "completed", "completed"];
        assert_eq!(receiver.story(), expected);
        let failed = &receiver.said_to("failed")[0];
        for said in receiver.said_to("completed") {
            assert_eq!(said.bytes, failed.bytes);
            assert_eq!(said.headers["idempotency-key"], failed.event["event_id"]);
        }
        assert_eq!(failed.event["status"], "failed");
    });
}

#[test]
fn an_outcome_that_finds_no_route_while_a_proxy_restarts_is_not_lost() {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.script("completed", [Reply::status(404), Reply::status(404)]);
    let ended = Worker::new(&receiver, &project).agent("true").run();
    ended.assert_code(0);
    let told = receiver.said_to("completed");
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|said| said.bytes == told[0].bytes));
}

#[test]
fn an_outcome_that_never_finds_a_route_is_on_stdout_in_the_end() {
    with_enough_time(Duration::from_millis(600), |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.always("failed", Reply::status(404));
        receiver.always("completed", Reply::status(404));
        let ended = Worker::new(&receiver, &project)
            .env("DESCARTES_FINISH_DEADLINE", setting(limit))
            .agent("false")
            .run();
        ended.assert_code(3);
        assert_eq!(ended.result_line()["failure"]["reason"], "agent_failed");
        let story = receiver.story();
        let expected = ["started", "failed", "completed"];
        if story.len() < expected.len() {
            return Err("the other route was not tried".to_owned());
        }
        assert_eq!(story[..3], expected);
        Ok(())
    });
}

#[test]
fn an_orchestrator_without_any_route_for_the_end_leaves_it_on_stdout() {
    each(&[405, 501], |status| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.always("failed", Reply::status(status));
        receiver.always("completed", Reply::status(status));
        let ended = Worker::new(&receiver, &project).agent("false").run();
        ended.assert_code(3);
        assert_eq!(receiver.story(), ["started", "failed", "completed"]);
        assert_eq!(ended.result_line()["failure"]["reason"], "agent_failed");
    });
}

#[test]
fn an_outcome_that_is_too_large_goes_once_more_without_its_bulk() {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.script("completed", [Reply::status(413), Reply::status(500)]);
    project.checks(&["echo the check"]);
    let ended = long_output(Worker::new(&receiver, &project)).run();
    ended.assert_code(0);
    let told = receiver.said_to("completed");
    assert_eq!(told.len(), 3);
    let result = |index: usize| &told[index].event["result"];
    assert_ne!(result(0)["output"]["tail"], "");
    assert_eq!(result(0)["checks"][0]["output_tail"], "the check\n");
    assert_eq!(result(1)["output"]["tail"], "");
    assert_eq!(result(1)["checks"][0]["output_tail"], "");
    assert_eq!(result(1)["checks"][0]["command"], "echo the check");
    let bytes = &result(0)["output"]["total_bytes"];
    assert_eq!(&result(1)["output"]["total_bytes"], bytes);
    assert_eq!(&result(1)["output"]["dropped_bytes"], bytes);
    assert_eq!(told[0].event["event_id"], told[1].event["event_id"]);
    assert_eq!(told[1].bytes, told[2].bytes);
}

#[test]
fn an_outcome_that_is_too_large_even_so_is_rejected() {
    // With something to leave out, and with nothing.
    each(&[("echo bulk", 2), ("true", 1)], |(agent, attempts)| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.always("completed", Reply::status(413));
        let ended = Worker::new(&receiver, &project).agent(agent).run();
        ended.assert_code(3);
        let told = receiver.said_to("completed");
        assert_eq!(told.len(), attempts);
        assert_eq!(ended.result_line(), told[0].event);
    });
}

#[test]
fn a_redirect_takes_nothing_elsewhere() {
    each(&[301, 302, 303, 307, 308], |status| {
        for route in ["started", "progress", "completed"] {
            let (receiver, project) = (Receiver::start(), Project::new());
            let elsewhere = Receiver::start();
            let moved = Reply::status(status).with_header("location", elsewhere.url());
            receiver.always(route, moved);
            let mut worker =
                Worker::new(&receiver, &project).env("DESCARTES_CALLBACK_TOKEN", "secret-token");
            if route == "progress" {
                worker = worker.env("DESCARTES_HEARTBEAT", "50ms");
                worker = worker.agent("until [ -e go ]; do sleep 0.05; done");
            } else {
                worker = worker.agent("true");
            }
            let running = worker.start();
            let heard = if route == "progress" { 2 } else { 1 };
            receiver.wait_for(route, |said| {
                (said.iter().filter(|said| said.route == route).count() >= heard).then_some(())
            });
            project.write("go", "");
            let ended = running.wait();
            ended.assert_code(if route == "progress" { 0 } else { 3 });
            assert!(elsewhere.said().is_empty());
            assert!(ended.stderr.contains("redirects are not followed"));
        }
    });
}

/// Stops a worker with a deaf agent within a stop window; the first window is the default one.
fn stopped_within_the_window(signal: Signal, replies: &[Reply]) {
    with_enough_time(Duration::from_secs(5), |window| {
        stopped_within(window, signal, replies)
    });
}

fn stopped_within(window: Duration, signal: Signal, replies: &[Reply]) -> Result<(), String> {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.script("failed", replies.to_vec());
    let running = Worker::new(&receiver, &project)
        .agent("trap '' TERM INT; : > deaf; while :; do sleep 0.1; done")
        .env("DESCARTES_STOP_WINDOW", setting(window))
        .env("DESCARTES_HEARTBEAT", "50ms")
        .start();
    wait_until("a deaf agent", || project.path("deaf").exists());
    let signalled = Instant::now();
    running.signal(signal);
    let ended = running.wait();
    let took = signalled.elapsed();
    if ended.code == Some(3) && is_under_load() {
        return Err("the failure was not delivered".to_owned());
    }
    ended.assert_code(1);
    assert_within(window, took);
    let failed = receiver.said_to("failed");
    let last = failed.last().unwrap();
    // It keeps back this much for its own end.
    let end = Duration::from_millis(250);
    assert_within(window, last.at - signalled + end);
    assert_eq!(last.event["failure"]["reason"], "interrupted");
    assert_eq!(last.event["failure"]["retryable"], true);
    assert_eq!(ended.result_line(), last.event);
    assert_nothing_alive(&project);
    Ok(())
}

#[test]
fn a_deaf_agent_is_dead_and_reported_within_the_stop_window() {
    let busy = Reply::status(503).with_header("retry-after", "3600");
    let cases = [
        (Signal::TERM, vec![]),
        (Signal::INT, vec![busy.clone()]),
        (Signal::TERM, vec![busy, Reply::Reset]),
    ];
    each(&cases, |(signal, replies)| {
        stopped_within_the_window(signal, &replies);
    });
}

#[test]
fn a_window_that_is_too_short_for_anything_still_gets_a_last_word() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let running = Worker::new(&receiver, &project)
        .agent("touch there; sleep 60")
        .env("DESCARTES_STOP_WINDOW", "1ms")
        .start();
    receiver.wait_for_one("started");
    wait_until("the agent", || project.path("there").exists());
    running.signal(Signal::TERM);
    let ended = running.wait();
    if ended.code == Some(3) && is_under_load() {
        // The half second for the last word was not enough.
        assert_eq!(ended.result_line()["failure"]["reason"], "interrupted");
        return;
    }
    ended.assert_code(1);
    assert_eq!(receiver.story(), ["started", "failed"]);
}

#[test]
fn an_outcome_that_nobody_takes_within_the_stop_window_is_on_stdout() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let hanging = Reply::status(200).after(Duration::MAX);
    receiver.always("completed", hanging);
    let running = Worker::new(&receiver, &project)
        .agent("true")
        .env("DESCARTES_STOP_WINDOW", "1s")
        .start();
    receiver.wait_for_one("completed");
    let signalled = Instant::now();
    running.signal(Signal::TERM);
    let ended = running.wait();
    ended.assert_code(3);
    assert_within(Duration::from_secs(3), signalled.elapsed());
    assert_eq!(ended.result_line()["status"], "completed");
    assert_eq!(receiver.said_to("failed").len(), 0);
}

#[test]
fn a_connection_that_was_closed_meanwhile_costs_nothing() {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.script("started", [Reply::json(200, "{}").then_close()]);
    let ended = Worker::new(&receiver, &project).agent("sleep 0.3").run();
    ended.assert_code(0);
    assert_eq!(receiver.story(), ["started", "completed"]);
    assert!(!ended.stderr.contains("trying again"), "{}", ended.stderr);
}

#[test]
fn a_standard_output_that_nobody_reads_does_not_keep_the_outcome() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let (kept_open, mut full) = io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&full, true).unwrap();
    while full.write(&[b'.'; 4096]).is_ok() {}
    while full.write(b".").is_ok() {}
    rustix::io::ioctl_fionbio(&full, false).unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_descartes-worker"))
        .env_clear()
        .env("TASK_ID", "8")
        .env("PROJECT_ID", "proj-456")
        .env("CALLBACK_URL", receiver.url())
        .env("DESCARTES_WORKSPACE", project.dir())
        .env("DESCARTES_AGENT_COMMAND", "true")
        .stdin(Stdio::null())
        .stdout(full)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    drop(kept_open);
    assert_eq!(status.code(), Some(0));
    assert_eq!(receiver.story(), ["started", "completed"]);
}

#[test]
fn a_run_id_in_any_alphabet_makes_ids_that_headers_can_hold() {
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
    let completed = receiver.said_to("completed").remove(0);
    assert_eq!(completed.event["run_id"], "läuft 走");
    assert_eq!(completed.event["event_id"], "l%C3%A4uft %E8%B5%B0.1");
    assert_eq!(
        completed.headers["webhook-id"],
        completed.event["event_id"].as_str().unwrap()
    );
}
