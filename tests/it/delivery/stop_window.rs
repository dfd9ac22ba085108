//! After a stop signal, the terminal event is delivered within the stop window.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::assert_sent_to_completed_unchanged;
use crate::support::{
    Project, Receiver, Reply, Worker, assert_no_process_in, assert_within, duration_setting, each,
    wait_until, with_enough_time,
};

#[test]
fn a_failure_goes_to_completed_within_the_stop_window_if_the_route_failed_answers_404() {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.set_default_reply("failed", Reply::status(404));
    let running = Worker::new(&receiver, &project)
        .agent("echo ready; exec sleep 600")
        .start();
    running.wait_for_log("agent: ready");
    running.signal(Signal::TERM);
    running.wait().assert_code(1);
    assert_eq!(
        receiver.routes(),
        ["started", "failed", "failed", "completed"]
    );
    assert_sent_to_completed_unchanged(&receiver);
}

/// Asserts that a worker whose agent ignores signals ends and reports within its stop window. The first attempt has the
/// default window of 5 s; on a slow machine, later attempts have longer ones.
fn assert_ends_within_its_window(signal: Signal, replies: &[Reply]) {
    with_enough_time(Duration::from_secs(5), |window| {
        try_to_end_within(window, signal, replies)
    });
}

/// One attempt of [`assert_ends_within_its_window`]; an error if the machine was too slow.
fn try_to_end_within(window: Duration, signal: Signal, replies: &[Reply]) -> Result<(), String> {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.script("failed", replies.to_vec());
    let running = Worker::new(&receiver, &project)
        .agent("trap '' TERM INT; : > ready; while :; do sleep 0.1; done")
        .env("DESCARTES_STOP_WINDOW", duration_setting(window))
        .env("DESCARTES_HEARTBEAT", "50ms")
        .start();
    wait_until("the agent", || project.path("ready").exists());
    let signal_time = Instant::now();
    running.signal(signal);
    let ended = running.wait();
    let duration = signal_time.elapsed();
    if ended.code == Some(3) {
        return Err("the failure was not delivered".to_owned());
    }
    ended.assert_code(1);
    let failed = receiver.requests_to("failed");
    let last = failed.last().unwrap();
    // The worker reserves this time for its exit.
    let exit_margin = Duration::from_millis(250);
    let delivery_time = last.at - signal_time + exit_margin;
    if duration.max(delivery_time) >= window {
        return Err(format!(
            "the worker did not end (it took {duration:?}; {delivery_time:?} until the last request, with the time for the exit)"
        ));
    }
    assert_eq!(last.event["failure"]["reason"], "interrupted");
    assert_eq!(last.event["failure"]["retryable"], true);
    assert_eq!(ended.result_line(), last.event);
    assert_no_process_in(&project);
    Ok(())
}

#[test]
fn an_agent_that_ignores_signals_is_killed_and_reported_within_the_stop_window() {
    let busy = Reply::status(503).with_header("retry-after", "3600");
    let cases = [
        (Signal::TERM, vec![]),
        (Signal::INT, vec![busy.clone()]),
        (Signal::TERM, vec![busy, Reply::Reset]),
    ];
    each(&cases, |(signal, replies)| {
        assert_ends_within_its_window(signal, &replies);
    });
}

#[test]
fn the_terminal_event_is_delivered_even_if_the_stop_window_is_a_millisecond() {
    // The worker always has half a second for the terminal event. On a busy machine that may not be enough, so there are several
    // attempts.
    for _ in 0..20 {
        let (receiver, project) = (Receiver::start(), Project::new());
        let running = Worker::new(&receiver, &project)
            .agent("touch there; sleep 60")
            .env("DESCARTES_STOP_WINDOW", "1ms")
            .start();
        wait_until("the agent", || project.path("there").exists());
        running.signal(Signal::TERM);
        let ended = running.wait();
        assert_eq!(ended.result_line()["failure"]["reason"], "interrupted");
        if ended.code == Some(1) {
            assert_eq!(receiver.routes(), ["started", "failed"]);
            return;
        }
        ended.assert_code(3);
    }
    panic!("the terminal event was never delivered");
}

#[test]
fn an_outcome_without_an_answer_in_the_stop_window_is_on_stdout() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let no_answer = Reply::status(200).after(Duration::MAX);
    receiver.set_default_reply("completed", no_answer);
    let running = Worker::new(&receiver, &project)
        .agent("true")
        .env("DESCARTES_STOP_WINDOW", "1s")
        .start();
    receiver.wait_for_first("completed");
    let signal_time = Instant::now();
    running.signal(Signal::TERM);
    let ended = running.wait();
    ended.assert_code(3);
    // Without a stop signal, the worker would try to deliver the event for 15 minutes.
    assert_within(Duration::from_secs(60), signal_time.elapsed());
    assert_eq!(ended.result_line()["status"], "completed");
    assert_eq!(receiver.requests_to("failed").len(), 0);
}
