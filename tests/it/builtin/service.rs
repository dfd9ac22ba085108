//! Errors and interruptions of the model's service.

use std::time::Duration;

use serde_json::{Value, json};

use super::{KEY, run, run_with, worker};
use crate::support::model::{Run, Turn, bash_call, error_reply, text_answer};
use crate::support::{
    Hold, Model, Project, Receiver, Reply, Worker, assert_within, duration_setting, each,
    with_enough_time,
};

#[test]
fn temporary_errors_are_retried() {
    let complete = text_answer("Done, whatever happened.");
    let overloaded = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let breaks_off = |bytes| complete.clone().cut_after(bytes, Turn::Close);
    let cases: [(Turn, &str); 9] = [
        (
            error_reply(429, "rate_limit_error", "slower, please")
                .with_header("retry-after", "0")
                .into(),
            "slower, please (429)",
        ),
        (
            error_reply(529, "overloaded_error", "Overloaded").into(),
            "Overloaded (529)",
        ),
        (error_reply(500, "api_error", "oh").into(), "oh (500)"),
        (
            Reply::json(502, "<html>Bad Gateway</html>").into(),
            "<html>Bad Gateway</html> (502)",
        ),
        (
            error_reply(400, "odd", "not now")
                .with_header("x-should-retry", "true")
                .into(),
            "not now (400)",
        ),
        // Whatever breaks the gateway's connection to the service, the gateway closes the agent's connection.
        (Reply::Reset.into(), "the server closed the connection"),
        (breaks_off(10), "the server closed the connection"),
        (breaks_off(700), "the server closed the connection"),
        (Reply::json(200, overloaded).into(), "Overloaded (529)"),
    ];
    each(&cases, |(case, words)| {
        let run = run([case, complete.clone().into()]);
        let event = run.assert_completed();
        assert_eq!(event["result"]["summary"], "Done, whatever happened.");
        assert_eq!(run.model.request_bodies().len(), 2);
        let log = &run.worker.stderr;
        let line = log
            .lines()
            .find(|line| line.contains("[the model's service: "));
        let line = line.unwrap_or_else(|| panic!("{log}"));
        assert!(
            line.contains(words) && line.contains("attempt 1 failed"),
            "{words}: {line}"
        );
        // The failed request is not a turn.
        assert_eq!(event["result"]["agent"]["turns"], 1);
    });
}

#[test]
fn an_answer_without_its_last_event_is_requested_again() {
    let open = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n";
    for body in [
        open,
        "",
        "data: {\n\n",
        "data: {\"type\":\"content_block_stop\",\"index\":3}\n\n",
    ] {
        let run = run([
            Turn::from(Reply::json(200, body)),
            text_answer("Done.").into(),
        ]);
        run.assert_completed();
        assert_eq!(run.model.request_bodies().len(), 2);
    }
}

#[test]
fn permanent_errors_end_the_run_at_once() {
    let credit = "Your credit balance is too low to access the Anthropic API.";
    let cases = [
        (401, "authentication_error", "invalid x-api-key"),
        (400, "invalid_request_error", credit),
        (403, "permission_error", "not yours"),
        (404, "not_found_error", "model: claude-nope"),
        (302, "", "status 302 without a message"),
    ];
    each(&cases, |(status, kind, message)| {
        let reply = if kind.is_empty() {
            Reply::status(status)
        } else {
            error_reply(status, kind, message)
        };
        let run = run([reply]);
        let event = run.assert_failed("api_error");
        let failure = &event["failure"];
        assert_eq!(
            failure["message"],
            format!("the model's service answered with status {status}: {message}")
        );
        assert_eq!(failure["retryable"], false);
        assert_eq!(run.model.request_bodies().len(), 1);
        assert_eq!(event["result"]["agent"]["exit_code"], 1);
    });
    let run =
        run([error_reply(429, "rate_limit_error", "no").with_header("x-should-retry", "false")]);
    assert_eq!(run.assert_failed("api_error")["failure"]["retryable"], true);
}

#[test]
fn a_retry_after_longer_than_the_idle_timeout_ends_the_run_at_once() {
    let reply = error_reply(429, "rate_limit_error", "the quota is used up")
        .with_header("retry-after", "3600");
    let run = run_with(Project::new(), [reply], |worker| {
        worker.env("DESCARTES_IDLE_TIMEOUT", "30m")
    });
    let event = run.assert_failed("api_error");
    assert_eq!(
        event["failure"]["message"],
        "the model's service answered with status 429: the quota is used up (it asks to wait 3600 s)"
    );
    assert_eq!(event["failure"]["retryable"], true);
    assert_eq!(run.model.request_bodies().len(), 1);
}

#[test]
fn an_unreachable_service_ends_the_run_within_the_idle_timeout() {
    with_enough_time(Duration::from_secs(2), |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let ended = Worker::new(&receiver, &project)
            .env("DESCARTES_AGENT", "builtin")
            .env("ANTHROPIC_API_KEY", KEY)
            // A port without a listener.
            .env("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
            // Without the gateway, so that the message is the agent's.
            .env("DESCARTES_MODEL_GATEWAY", "off")
            .env("DESCARTES_IDLE_TIMEOUT", duration_setting(limit))
            .run();
        let event = ended.result_line();
        if event["failure"]["reason"] == "idle" {
            return Err("the agent did not report the failure itself".to_owned());
        }
        let event = ended.assert_failed(&receiver, "api_error");
        let message = event["failure"]["message"].as_str().expect("a message");
        assert!(
            message.starts_with("the model's service gave no answer: "),
            "{message}"
        );
        if !message.contains("http://127.0.0.1:1/v1/messages: connection refused") {
            return Err(format!("a refused connection is not the reason: {message}"));
        }
        assert_eq!(event["failure"]["retryable"], true);
        Ok(())
    });
}

/// Runs the script with longer and longer idle timeouts until the task completes: the agent waits for the service only for a
/// part of this time.
fn complete_with_enough_time<T: Into<Turn>>(
    shortest: Duration,
    script: impl Fn() -> Vec<T>,
) -> Run {
    with_enough_time(shortest, |limit| {
        let run = run_with(Project::new(), script(), |worker| {
            worker.env("DESCARTES_IDLE_TIMEOUT", duration_setting(limit))
        });
        if run.worker.code == Some(0) {
            Ok(run)
        } else {
            Err(format!("the script did not complete: {:#?}", run.worker))
        }
    })
}

#[test]
fn a_request_is_repeated_if_the_service_stops_sending() {
    let hold = Hold::default();
    let silent = Reply::json(200, "{}").after_release(&hold);
    let answer = text_answer("Never sent.");
    let half = answer.cut_after(400, silent.clone());
    let run = complete_with_enough_time(Duration::from_secs(3), || {
        vec![
            silent.clone().into(),
            half.clone(),
            text_answer("Done.").into(),
        ]
    });
    let event = run.assert_completed();
    hold.release();
    assert_eq!(event["result"]["summary"], "Done.");
}

#[test]
fn answers_that_break_off_are_requested_again_at_most_five_times() {
    let hold = Hold::default();
    let stalled_answer = |hold: &Hold| {
        // A part of an answer, then nothing until the timeout.
        let silent = Reply::json(200, "{}").after_release(hold);
        text_answer("Half.").cut_after(600, silent)
    };
    let run = complete_with_enough_time(Duration::from_secs(2), || {
        vec![
            stalled_answer(&hold),
            stalled_answer(&hold),
            text_answer("Whole.").into(),
        ]
    });
    assert_eq!(run.assert_completed()["result"]["summary"], "Whole.");
    hold.release();

    let broken_answer = text_answer("Half.").cut_after(600, Turn::Close);
    let run = run_with(Project::new(), vec![broken_answer; 5], |worker| worker);
    let event = run.assert_failed("api_error");
    assert_eq!(event["failure"]["retryable"], true);
    assert_eq!(
        run.model.request_bodies().len(),
        5,
        "each broken answer may have cost as much as a complete one"
    );
}

#[test]
fn an_overload_error_in_the_stream_is_retried_like_one_with_a_status() {
    let overloaded = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let mut script = vec![Turn::from(Reply::json(200, overloaded)); 6];
    script.push(text_answer("Done.").into());
    run(script).assert_completed();
}

#[test]
fn answers_that_break_off_count_with_their_input_and_with_the_output_that_has_arrived() {
    let usage = json!({ "input_tokens": 100, "output_tokens": 1, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 20 });
    let start = json!({ "type": "message_start", "message": { "model": "claude-sonnet-5-5", "usage": usage } });
    let overloaded = json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } });
    let cases = [
        text_answer("Half.").cut_after(600, Turn::Close),
        stream_of(&[&start]),
        stream_of(&[&start, &overloaded]),
    ];
    each(&cases, |broken_answer| {
        let run = run_with(Project::new(), [broken_answer], |worker| {
            // The gateway counts only the text of such answers.
            worker
                .env("DESCARTES_MODEL_GATEWAY", "off")
                .env("DESCARTES_MAX_BUDGET_USD", "0.0005")
        });
        let event = run.assert_failed("limit_reached");
        let agent = &event["result"]["agent"];
        // The first event reports 100 x 2, 20 x 2.5 and 1,000 x 0.1 dollars for a million. Each three bytes that have
        // arrived, a few hundred in all, cost 10 dollars for a million.
        let cost = agent["cost_usd"].as_f64().expect("a cost");
        assert!((0.0005..0.005).contains(&cost), "{cost}");
        let output_tokens = agent["usage"]["output_tokens"].as_u64();
        assert!(
            output_tokens.is_some_and(|tokens| (10..500).contains(&tokens)),
            "{agent}"
        );
    });
}

#[test]
fn an_error_that_ends_the_work_does_not_hide_the_cost_of_the_answer_that_it_broke_off() {
    let usage = json!({ "input_tokens": 100, "output_tokens": 1 });
    let start = json!({ "type": "message_start", "message": { "usage": usage } });
    let error =
        json!({ "type": "error", "error": { "type": "invalid_request_error", "message": "no" } });
    let run = run_with(Project::new(), [stream_of(&[&start, &error])], |worker| {
        worker
            .env("DESCARTES_MODEL_GATEWAY", "off")
            .env("DESCARTES_MAX_BUDGET_USD", "5")
    });
    let agent = run.assert_failed("api_error")["result"]["agent"].clone();
    let cost = agent["cost_usd"].as_f64().expect("a cost");
    assert!((0.00021..0.002).contains(&cost), "{cost}");
}

/// More often than answers with content are requested again.
#[test]
fn a_service_that_breaks_off_many_answers_before_their_content_is_asked_until_it_answers() {
    let start = json!({ "type": "message_start", "message": { "model": "claude-sonnet-5-5" } });
    let overloaded = json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } });
    let mut script = vec![stream_of(&[&start, &overloaded]); 7];
    script.push(text_answer("Done.").into());
    let run = run(script);
    assert_eq!(run.assert_completed()["result"]["summary"], "Done.");
    assert_eq!(run.model.request_bodies().len(), 8);
}

/// A complete stream of these events.
fn stream_of(events: &[&Value]) -> Turn {
    let events = events.iter().map(|event| format!("data: {event}\n\n"));
    Reply::json(200, &events.collect::<String>()).into()
}

#[test]
fn an_error_message_is_masked_before_it_is_shortened() {
    let words = format!("{}{KEY} and more", "x".repeat(950));
    let run = run([Reply::json(400, &words)]);
    let event = run.assert_failed("api_error");
    for text in [&run.worker.stderr, &run.worker.stdout, &event.to_string()] {
        assert!(!text.contains(&KEY[..8]), "{text}");
    }
    let message = event["failure"]["message"].as_str().expect("a message");
    assert!(message.len() < 1_100, "{message}");
}

#[test]
fn waiting_before_a_retry_does_not_trigger_the_idle_timeout() {
    complete_with_enough_time(Duration::from_secs(7), || {
        let reply = error_reply(429, "rate_limit_error", "later").with_header("retry-after", "2");
        vec![
            Turn::from(reply.clone()),
            reply.into(),
            text_answer("Done.").into(),
        ]
    })
    .assert_completed();
}

#[test]
fn a_cancellation_ends_the_agent_while_it_waits_for_the_service_or_a_tool() {
    let hold = Hold::default();
    let cases: [(Turn, usize); 3] = [
        (Reply::json(200, "{}").after_release(&hold).into(), 1),
        (
            error_reply(429, "rate_limit_error", "later")
                .with_header("retry-after", "300")
                .into(),
            1,
        ),
        (bash_call("touch running; sleep 10000").into(), 1),
    ];
    each(&cases, |(case, requests)| {
        let (receiver, project, model) = (
            Receiver::start(),
            Project::new(),
            Model::start([case.clone()]),
        );
        let cancel = Reply::json(200, r#"{"cancel": true, "reason": "too expensive"}"#);
        let running = worker(&receiver, &project, &model)
            .env("DESCARTES_HEARTBEAT", "100ms")
            .start();
        model.wait_for_requests(requests);
        if let Turn::Answer(_) = case {
            crate::support::wait_until("the tool", || project.path("running").exists());
        }
        receiver.set_default_reply("progress", cancel);
        let ended = running.wait();
        let event: Value = ended.assert_failed(&receiver, "cancelled");
        assert!(
            event["failure"]["message"]
                .to_string()
                .contains("too expensive")
        );
        assert_within(Duration::from_secs(30), ended.duration);
    });
    hold.release();
}

#[test]
fn events_without_content_do_not_extend_the_idle_timeout() {
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n";
    let events = [
        "event: ping\ndata: {\"type\":\"ping\"}\n\n",
        "event: novelty\ndata: {\"type\":\"novelty\",\"text\":\"more\"}\n\n",
        "event: novelty\ndata:\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":1}}\n\n",
    ];
    each(&events, |event| {
        let headers = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        let turn = Turn::Repeat {
            first: format!("{headers}{start}"),
            repeated: event.to_owned(),
        };
        with_enough_time(Duration::from_secs(2), |limit| {
            let run = run_with(Project::new(), vec![turn.clone(); 8], |worker| {
                worker
                    .env("DESCARTES_IDLE_TIMEOUT", duration_setting(limit))
                    .env("DESCARTES_TASK_TIMEOUT", duration_setting(30 * limit))
            });
            let failure = run.worker.result_line()["failure"].clone();
            if failure["reason"] == "idle" {
                return Err("the agent did not report the service".to_owned());
            }
            assert_eq!(failure["reason"], "api_error", "{failure}");
            let message = failure["message"].as_str().expect("a message");
            assert!(
                message.contains("its answer makes no progress"),
                "{message}"
            );
            assert_eq!(failure["retryable"], true);
            Ok(())
        });
    });
}
