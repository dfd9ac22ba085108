//! For writers of orchestrators: the content of the claim, and the meaning of the answers to it.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Hold, Project, Receiver, Reply, Worker, duration_setting, with_enough_time};

/// An agent that creates a file, which shows that the agent ran.
const TOUCH_WORKED: &str = "touch worked";

#[test]
fn a_task_is_claimed_before_its_work_and_reported_after_it() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .agent("echo all done")
        .run();
    ended.assert_completed(&receiver);
    let targets: Vec<String> = receiver
        .requests()
        .into_iter()
        .map(|request| request.target)
        .collect();
    assert_eq!(
        targets,
        [
            "/api/agents/callback/started",
            "/api/agents/callback/completed"
        ]
    );
}

#[test]
fn the_worker_sends_the_query_of_the_callback_url_and_does_not_double_its_slash() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let base = format!("http://{}", receiver.address());
    for (url, target) in [
        (
            format!("{base}/api/?key=a%20b&x"),
            "/api/started?key=a%20b&x",
        ),
        (format!("{base}/api/"), "/api/started"),
        (format!("{base}/api"), "/api/started"),
        (base.clone(), "/started"),
        (format!("{base}?key"), "/started?key"),
    ] {
        receiver.script("started", [Reply::status(409)]);
        Worker::new(&receiver, &project)
            .env("CALLBACK_URL", url)
            .run()
            .assert_code(4);
        assert_eq!(
            receiver.requests().last().expect("a request").target,
            target
        );
    }
}

#[test]
fn a_refused_claim_means_exit_4_and_no_work() {
    for status in [409, 410] {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.set_default_reply("started", Reply::json(status, "worker  7\nhas it"));
        let before = project.graph();
        let ended = Worker::new(&receiver, &project).agent(TOUCH_WORKED).run();
        ended.assert_code(4);
        assert_eq!(ended.stdout, "");
        assert!(ended.stderr.contains(": worker 7 has it"), "{ended:#?}");
        assert_eq!(receiver.routes(), ["started"]);
        assert!(!project.path("worked").exists());
        assert_eq!(project.graph(), before);
    }
}

#[test]
fn a_rejected_claim_means_exit_3_and_no_work() {
    for status in [400, 401, 403, 413, 422, 418] {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.set_default_reply("started", Reply::json(status, "no"));
        let ended = Worker::new(&receiver, &project).agent(TOUCH_WORKED).run();
        ended.assert_code(3);
        assert_eq!(receiver.routes(), ["started"]);
        assert!(!project.path("worked").exists());
        let event = ended.result_line();
        assert_eq!(event["event"], "task.failed");
        assert_eq!(event["failure"]["reason"], "unclaimed");
        assert_eq!(event["failure"]["retryable"], true);
        let message = event["message"].as_str().expect("a message");
        assert!(
            message.starts_with(&format!("the task was not claimed: answered {status} "))
                && message.ends_with(": no"),
            "{message}"
        );
    }
}

#[test]
fn the_redirect_of_a_claim_is_not_followed() {
    let (receiver, elsewhere, project) = (Receiver::start(), Receiver::start(), Project::new());
    for status in [301, 302, 307, 308] {
        let to = format!("{}/started", elsewhere.url());
        receiver.script(
            "started",
            [Reply::status(status).with_header("location", &to)],
        );
        let ended = Worker::new(&receiver, &project).agent(TOUCH_WORKED).run();
        ended.assert_code(3);
        let event = ended.result_line();
        assert_eq!(event["failure"]["reason"], "unclaimed");
        let message = event["message"].as_str().expect("a message");
        assert!(
            message.ends_with(&format!(" to {to}; redirects are not followed")),
            "{message}"
        );
    }
    assert!(elsewhere.requests().is_empty());
    assert!(!project.path("worked").exists());
}

#[test]
fn a_token_in_the_callback_url_is_hidden_if_an_answer_repeats_the_url() {
    const TOKEN: &str = "query-token-6c1f9e77";
    let target = format!("/api/agents/callback/started?access_token={TOKEN}");
    let redirect = Reply::status(301).with_header("location", &target);
    let rejection = Reply::json(400, &format!("no route {target}"));
    for (reply, end) in [
        (
            redirect,
            " to /api/agents/callback/started; redirects are not followed",
        ),
        (
            rejection,
            ": no route /api/agents/callback/started?access_token=***",
        ),
    ] {
        for by_flag in [false, true] {
            let (receiver, project) = (Receiver::start(), Project::new());
            receiver.set_default_reply("started", reply.clone());
            let url = format!("{}?access_token={TOKEN}", receiver.url());
            let worker = Worker::new(&receiver, &project).agent(TOUCH_WORKED);
            let worker = if by_flag {
                let worker = worker.remove_env("CALLBACK_URL");
                worker.args(["--callback-url", &url])
            } else {
                worker.env("CALLBACK_URL", url)
            };
            let ended = worker.run();
            ended.assert_code(3);
            assert_eq!(receiver.requests()[0].target, target);
            let event = ended.result_line();
            let message = event["message"].as_str().expect("a message");
            assert!(message.ends_with(end), "{message}");
            assert!(!ended.stdout.contains(TOKEN), "{ended:#?}");
            assert!(!ended.stderr.contains(TOKEN), "{ended:#?}");
        }
    }
}

#[test]
fn a_token_in_the_callback_url_is_masked_in_the_output_of_the_agent() {
    const TOKEN: &str = "query-token-6c1f9e77";
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .env(
            "CALLBACK_URL",
            format!("{}?access_token={TOKEN}", receiver.url()),
        )
        .agent(format!("echo 'the token is {TOKEN}'"))
        .run();
    let event = ended.assert_completed(&receiver);
    let tail = event["result"]["output"]["tail"].as_str();
    assert_eq!(tail, Some("the token is ***\n"));
    assert!(!event.to_string().contains(TOKEN), "{event:#}");
    assert!(!ended.stderr.contains(TOKEN), "{ended:#?}");
}

#[test]
fn no_work_is_done_before_the_claim_is_granted() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let hold = Hold::default();
    // The receiver does not answer two claims. It answers the third one after the test has checked that no work was
    // done.
    let silence = || Reply::status(200).after(Duration::MAX);
    receiver.script("started", [silence(), silence()]);
    receiver.set_default_reply("started", Reply::status(200).after_release(&hold));
    let worker = Worker::new(&receiver, &project)
        .env("DESCARTES_CALLBACK_TIMEOUT", "1s")
        .agent(TOUCH_WORKED)
        .start();
    receiver.wait_for("a third claim", |requests| {
        (requests.len() >= 3).then_some(())
    });
    assert!(!project.path("worked").exists());
    hold.release();
    let ended = worker.wait();
    ended.assert_code(0);
    assert!(project.path("worked").exists());
    // On a slow machine, the answer may come after the time limit of a request; then the worker repeats the event.
    let completed = receiver.requests_to("completed");
    assert!(!completed.is_empty());
    for request in &completed {
        assert_eq!(request.body, completed[0].body);
    }
}

#[test]
fn a_claim_without_a_usable_answer_is_repeated_unchanged() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let failures = [
        Reply::Reset,
        Reply::BreakInHead,
        Reply::BreakInBody,
        Reply::status(503),
        Reply::status(404),
    ];
    let count = failures.len() + 1;
    receiver.script("started", failures);
    let ended = Worker::new(&receiver, &project).agent("true").run();
    ended.assert_code(0);
    let claims = receiver.requests_to("started");
    assert_eq!(claims.len(), count);
    for claim in &claims {
        assert_eq!(claim.body, claims[0].body);
        assert_eq!(
            claim.headers["idempotency-key"],
            claims[0].headers["idempotency-key"]
        );
    }
    // The worker does not reuse a connection that broke off.
    assert_ne!(claims[0].connection, claims[1].connection);
    assert_ne!(claims[1].connection, claims[2].connection);
}

#[test]
fn a_claim_is_repeated_no_sooner_than_retry_after_says() {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.script(
        "started",
        [Reply::status(429).with_header("retry-after", "1")],
    );
    Worker::new(&receiver, &project)
        .agent("true")
        .run()
        .assert_code(0);
    let claims = receiver.requests_to("started");
    assert_eq!(claims.len(), 2);
    assert!(claims[1].at - claims[0].at >= Duration::from_secs(1));
}

#[test]
fn a_claim_that_is_always_answered_503_ends_at_its_deadline_with_exit_3() {
    with_enough_time(Duration::from_secs(2), |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.set_default_reply("started", Reply::json(503, "still starting"));
        let ended = Worker::new(&receiver, &project)
            .env("DESCARTES_CLAIM_DEADLINE", duration_setting(limit))
            .agent(TOUCH_WORKED)
            .run();
        ended.assert_code(3);
        assert_eq!(receiver.requests_to("failed").len(), 0);
        assert!(!project.path("worked").exists());
        let event = ended.result_line();
        assert_eq!(event["failure"]["reason"], "unclaimed");
        if receiver.requests_to("started").len() < 2 {
            return Err("there was no second claim".to_owned());
        }
        let message = event["message"].as_str().expect("a message");
        let expected = "the task was not claimed: answered 503 Service Unavailable: still starting";
        if message != expected {
            // The last attempt had no time to get an answer.
            return Err(format!("{expected:?} is not the message {message:?}"));
        }
        Ok(())
    });
}

#[test]
fn a_stop_signal_ends_the_repetition_of_a_claim_without_work() {
    for signal in [Signal::TERM, Signal::INT] {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.set_default_reply(
            "started",
            Reply::status(503).with_header("retry-after", "30"),
        );
        let worker = Worker::new(&receiver, &project).agent(TOUCH_WORKED).start();
        worker.wait_for_log("the claim got no usable answer");
        worker.signal(signal);
        let ended = worker.wait();
        ended.assert_code(3);
        assert!(!receiver.routes().contains(&"failed".to_owned()));
        assert!(!project.path("worked").exists());
        let event = ended.result_line();
        assert_eq!(event["failure"]["reason"], "interrupted");
        assert_eq!(
            event["message"],
            "the task was not claimed: the worker was stopped before there was an answer"
        );
    }
}

#[test]
fn a_claim_that_is_granted_after_the_stop_signal_is_followed_by_an_outcome() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let hold = Hold::default();
    receiver.script("started", [Reply::status(200).after_release(&hold)]);
    let worker = Worker::new(&receiver, &project).agent(TOUCH_WORKED).start();
    receiver.wait_for_first("started");
    worker.signal(Signal::TERM);
    worker.wait_for_log("stopping; a second signal");
    hold.release();
    let event = worker.wait().assert_failed(&receiver, "interrupted");
    assert_eq!(event["message"], "the worker was stopped by SIGTERM");
    assert!(!project.path("worked").exists());
}

#[test]
fn a_failed_claim_is_not_repeated_after_a_stop_signal() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let hold = Hold::default();
    receiver.set_default_reply("started", Reply::status(503).after_release(&hold));
    let worker = Worker::new(&receiver, &project).agent(TOUCH_WORKED).start();
    receiver.wait_for_first("started");
    worker.signal(Signal::TERM);
    worker.wait_for_log("stopping; a second signal");
    hold.release();
    let ended = worker.wait();
    ended.assert_code(3);
    assert_eq!(ended.result_line()["failure"]["reason"], "interrupted");
    assert_eq!(receiver.routes(), ["started"]);
}

#[test]
fn the_revision_is_the_one_that_the_image_names_or_null() {
    for (revision, expected) in [("9ee0496", json!("9ee0496")), ("", Value::Null)] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let ended = Worker::new(&receiver, &project)
            .env("DESCARTES_REVISION", revision)
            .agent("true")
            .run();
        ended.assert_code(0);
        assert_eq!(
            receiver.only_event("started")["worker"]["revision"],
            expected
        );
        assert!(
            !ended.stderr.contains("DESCARTES_REVISION is not"),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn a_409_whose_body_breaks_off_still_refuses_the_claim() {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.set_default_reply("started", Reply::BreakInBodyWithStatus(409));
    let ended = Worker::new(&receiver, &project).agent(TOUCH_WORKED).run();
    ended.assert_code(4);
    assert_eq!(receiver.routes(), ["started"]);
    assert!(!project.path("worked").exists());
}
