//! The partial work of an agent that did not finish.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::BRANCH;
use crate::support::{
    Origin, Receiver, Reply, duration_setting, quoted, wait_until, with_enough_time,
};

/// An agent that writes a file, prints a line and then hangs.
const WRITE_AND_HANG: &str = "echo half > half; echo here; exec sleep 6000";

/// The default of the worker's stop window.
const DEFAULT_STOP_WINDOW: Duration = Duration::from_secs(5);

/// Whether the agent's file has its content; the shell creates the file before it writes.
fn half_is_written(origin: &Origin) -> bool {
    let content = std::fs::read_to_string(origin.workspace().join("half"));
    content.is_ok_and(|content| content == "half\n")
}

/// Asserts that the partial work of a failed task is on the `-wip` branch.
#[track_caller]
fn assert_partial_work_pushed(origin: &Origin, receiver: &Receiver, reason: &str) {
    let event = receiver.only_event("failed");
    assert_eq!(event["failure"]["reason"], reason, "{event}");
    let work = &event["result"]["work"];
    assert_eq!(work["branch"], format!("{BRANCH}-wip"));
    assert_eq!(work["pushed"], true);
    assert!(work["patch"].as_str().unwrap().contains("+half"));
    assert_eq!(
        origin.branches(),
        [format!("{BRANCH}-wip"), "main".to_owned()]
    );
    let wip = format!("{BRANCH}-wip");
    assert_eq!(origin.show(&wip, "half"), "half");
    // The task is not marked as done.
    assert!(
        origin
            .show(&wip, ".scud/tasks/tasks.scg")
            .contains("house | P |")
    );
}

#[test]
fn the_partial_work_of_a_failed_agent_is_pushed_to_the_wip_branch() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    origin
        .worker(&receiver)
        .agent("echo half > half; exit 1")
        .run()
        .assert_code(1);
    assert_partial_work_pushed(&origin, &receiver, "agent_failed");
}

#[test]
fn the_partial_work_is_pushed_to_the_wip_branch_after_a_time_out() {
    with_enough_time(Duration::from_secs(2), |limit| {
        let (receiver, origin) = (Receiver::start(), Origin::new());
        let worker = origin
            .worker(&receiver)
            .env("DESCARTES_TASK_TIMEOUT", duration_setting(limit));
        worker.agent(WRITE_AND_HANG).run().assert_code(1);
        if !half_is_written(&origin) {
            return Err("the agent did nothing".to_owned());
        }
        assert_partial_work_pushed(&origin, &receiver, "timed_out");
        Ok(())
    });
}

#[test]
fn the_partial_work_is_pushed_to_the_wip_branch_after_a_cancellation() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let running = origin
        .worker(&receiver)
        .env("DESCARTES_HEARTBEAT", "50ms")
        .agent(WRITE_AND_HANG)
        .start();
    wait_until("the agent's file", || half_is_written(&origin));
    receiver.set_default_reply("progress", Reply::json(200, r#"{"cancel": true}"#));
    running.wait().assert_code(1);
    assert_partial_work_pushed(&origin, &receiver, "cancelled");
}

#[test]
fn the_partial_work_is_pushed_to_the_wip_branch_within_the_default_stop_window() {
    // The second agent ignores SIGTERM.
    for agent in [
        WRITE_AND_HANG,
        "trap '' TERM; echo half > half; while :; do sleep 1; done",
    ] {
        with_enough_time(DEFAULT_STOP_WINDOW, |window| {
            let (receiver, origin) = (Receiver::start(), Origin::new());
            let running = origin
                .worker(&receiver)
                .env("DESCARTES_STOP_WINDOW", duration_setting(window))
                .agent(agent)
                .start();
            wait_until("the agent's file", || half_is_written(&origin));
            let signal_time = Instant::now();
            running.signal(Signal::TERM);
            let ended = running.wait();
            let duration = signal_time.elapsed();
            if duration >= window {
                return Err(format!("the worker did not end: it took {duration:?}"));
            }
            let is_pushed = ended.code == Some(1)
                && receiver.only_event("failed")["result"]["work"]["pushed"] == true;
            if !is_pushed {
                return Err(format!("the work was not pushed: {ended:?}"));
            }
            ended.assert_code(1);
            assert_partial_work_pushed(&origin, &receiver, "interrupted");
            Ok(())
        });
    }
}

#[test]
fn a_push_that_hangs_ends_within_the_stop_window() {
    with_enough_time(DEFAULT_STOP_WINDOW, try_to_stop_during_a_push_that_hangs);
}

/// One attempt with this stop window; an error if the machine was too slow.
fn try_to_stop_during_a_push_that_hangs(window: Duration) -> Result<(), String> {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    origin.install_hook("pre-receive", "touch begin; exec sleep 6000");
    let running = origin
        .worker(&receiver)
        .env("DESCARTES_STOP_WINDOW", duration_setting(window))
        .agent("echo mine > mine")
        .start();
    wait_until("the hook", || origin.path("project.git/begin").exists());
    let signal_time = Instant::now();
    running.signal(Signal::TERM);
    let ended = running.wait();
    let duration = signal_time.elapsed();
    if duration >= window {
        return Err(format!("the worker did not end: it took {duration:?}"));
    }
    if ended.code == Some(3) {
        return Err("the failure was not delivered".to_owned());
    }
    ended.assert_code(1);
    let event = receiver.only_event("failed");
    assert_eq!(event["failure"]["reason"], "interrupted");
    assert_eq!(
        event["failure"]["message"],
        "the worker was stopped by SIGTERM before the work was pushed"
    );
    assert!(
        event["result"]["work"]["patch"]
            .as_str()
            .unwrap()
            .contains("+mine")
    );
    Ok(())
}

/// Waits until the file exists, and cancels the run in the answer to the next heartbeat.
fn cancel_when(origin: &Origin, receiver: &Receiver, file: &str) {
    wait_until(file, || origin.path(file).exists());
    receiver.set_default_reply("progress", Reply::json(200, r#"{"cancel": true}"#));
}

#[test]
fn a_push_that_has_begun_is_finished_after_a_cancellation_and_the_run_is_completed() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let go = quoted(origin.path("go"));
    let hook = format!("touch begin; until [ -e {go} ]; do sleep 0.02; done");
    origin.install_hook("pre-receive", &hook);
    let running = origin
        .worker(&receiver)
        .env("DESCARTES_HEARTBEAT", "50ms")
        .agent("echo mine > mine")
        .start();
    cancel_when(&origin, &receiver, "project.git/begin");
    running.wait_for_log("stopping: the orchestrator cancelled the task");
    std::fs::write(origin.path("go"), "").expect("a file");
    running.wait().assert_completed(&receiver);
    assert_eq!(origin.branches(), [BRANCH, "main"]);
    assert_eq!(origin.show(BRANCH, "mine"), "mine");
}

#[test]
fn finished_work_goes_to_the_wip_branch_if_the_task_is_cancelled_before_its_push() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    // The filter of the agent's repository delays the first commit of the worker until it is ended.
    let begin = quoted(origin.path("begin"));
    let filter = format!("[ -e {begin} ] || {{ touch {begin}; exec sleep 6000; }}; cat");
    let agent = format!(
        "git config filter.slow.clean {}; echo 'half filter=slow' > .gitattributes; echo half > half",
        quoted(&filter)
    );
    let running = origin
        .worker(&receiver)
        .env("DESCARTES_HEARTBEAT", "50ms")
        .agent(&agent)
        .start();
    cancel_when(&origin, &receiver, "begin");
    running.wait().assert_code(1);
    assert_partial_work_pushed(&origin, &receiver, "cancelled");
}
