//! Every process that the agent started is ended: its process group, and those that left the group.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{
    assert_completed, assert_failed, only_failure, start_after_script, tail,
    wait_for_output_in_heartbeats, worker_with_fast_heartbeats,
};
use crate::support::{
    Project, Receiver, Worker, assert_no_process_in, assert_within, describe_processes_in,
    duration_setting, wait_until, with_enough_time,
};

#[test]
fn a_stop_signal_lets_the_agent_clean_up_and_is_reported_as_interrupted() {
    for (signal, name) in [
        (Signal::TERM, "SIGTERM"),
        (Signal::INT, "SIGINT"),
        (Signal::HUP, "SIGHUP"),
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let worker = worker_with_fast_heartbeats(&receiver, &project)
            .agent("trap 'echo cleaned up; exit 0' TERM; echo ready; sleep 1000 & wait")
            .start();
        wait_for_output_in_heartbeats(&receiver, "ready");
        worker.signal(signal);
        worker.wait().assert_code(1);
        assert_failed(
            &receiver,
            "interrupted",
            &format!("the worker was stopped by {name}"),
        );
        assert_eq!(tail(&receiver.only_event("failed")), "ready\ncleaned up\n");
        assert_no_process_in(&project);
    }
}

#[test]
fn sighup_has_no_effect_on_a_worker_that_was_started_with_it_ignored() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = worker_with_fast_heartbeats(&receiver, &project)
        .agent("echo ready; until [ -e go ]; do sleep 0.02; done; echo finished");
    let worker = start_after_script("trap '' HUP", worker).start();
    wait_for_output_in_heartbeats(&receiver, "ready");
    worker.signal(Signal::HUP);
    project.write("go", "");
    worker.wait().assert_code(0);
    let event = receiver.only_event("completed");
    assert_eq!(tail(&event), "ready\nfinished\n");
}

#[test]
fn an_agent_that_ignores_sigterm_is_dead_and_reported_within_the_stop_window() {
    // The default stop window, and a shorter one.
    for seconds in [5, 2] {
        with_enough_time(Duration::from_secs(seconds), |window| {
            let (receiver, project) = (Receiver::start(), Project::new());
            let worker = worker_with_fast_heartbeats(&receiver, &project);
            let worker = if window == Duration::from_secs(5) {
                worker.remove_env("DESCARTES_STOP_WINDOW")
            } else {
                worker.env("DESCARTES_STOP_WINDOW", duration_setting(window))
            };
            let worker = worker
                .agent("trap '' TERM; echo ready; while :; do sleep 1000; done")
                .start();
            wait_for_output_in_heartbeats(&receiver, "ready");
            let signal_time = Instant::now();
            worker.signal(Signal::TERM);
            let ended = worker.wait();
            let is_too_late = signal_time.elapsed() >= window
                || ended.code == Some(3)
                || ended.stderr.contains("survived SIGKILL");
            if is_too_late {
                return Err(format!("it was not dead and reported: {ended:?}"));
            }
            ended.assert_code(1);
            assert_eq!(only_failure(&receiver)["failure"]["reason"], "interrupted");
            assert_no_process_in(&project);
            Ok(())
        });
    }
}

#[test]
fn a_second_stop_signal_kills_at_once() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = worker_with_fast_heartbeats(&receiver, &project)
        .agent("trap 'echo got SIGTERM' TERM; echo ready; while :; do sleep 0.05; done")
        .start();
    wait_for_output_in_heartbeats(&receiver, "ready");
    worker.signal(Signal::TERM);
    wait_for_output_in_heartbeats(&receiver, "got SIGTERM");
    let signal_time = Instant::now();
    worker.signal(Signal::INT);
    worker.wait().assert_code(1);
    // After one signal, the agent would have had ten seconds.
    assert_within(Duration::from_secs(9), signal_time.elapsed());
    assert_eq!(only_failure(&receiver)["failure"]["reason"], "interrupted");
    assert_no_process_in(&project);
}

#[test]
fn processes_that_left_the_process_group_are_killed_too() {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.write(
        "ignore-signals.sh",
        "trap '' TERM HUP INT; echo > \"$1\"; while :; do sleep 1000; done\n",
    );
    let ended = Worker::new(&receiver, &project)
        .agent(
            "setsid sh ignore-signals.sh a &
             ( ( setsid sh ignore-signals.sh b & ) & )
             ( setsid sh -c 'sh ignore-signals.sh c & sh ignore-signals.sh d' <&- >&- 2>&- & )
             ( sh ignore-signals.sh e & )
             until [ -e a ] && [ -e b ] && [ -e c ] && [ -e d ] && [ -e e ]; do sleep 0.01; done
             echo done",
        )
        .run();
    ended.assert_code(0);
    assert_eq!(assert_completed(&receiver), "done\n");
    assert_no_process_in(&project);
}

#[test]
fn processes_that_left_the_group_are_killed_even_if_the_stop_window_leaves_no_time() {
    // With less than a millisecond for everything, timers expire in a random order, so there are many attempts.
    for _ in 0..10 {
        let (receiver, project) = (Receiver::start(), Project::new());
        let worker = worker_with_fast_heartbeats(&receiver, &project)
            .env("DESCARTES_STOP_WINDOW", "1ms")
            .agent(
                "trap '' TERM
                 ( setsid sh -c \"trap '' TERM; : > ignores; while :; do sleep 1000; done\" & )
                 until [ -e ignores ]; do sleep 0.01; done
                 echo ready; while :; do sleep 1000; done",
            )
            .start();
        wait_for_output_in_heartbeats(&receiver, "ready");
        worker.signal(Signal::TERM);
        worker.wait();
        // The worker does not wait for the end of the processes that it has killed.
        wait_until("the end of all processes", || {
            describe_processes_in(&project).is_empty()
        });
    }
}

#[test]
fn processes_that_fork_again_and_again_are_killed() {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.write("fork.sh", ": > forked; setsid sh fork.sh & exit\n");
    let ended = Worker::new(&receiver, &project)
        .agent(
            "for number in 1 2 3; do setsid sh fork.sh; done; until [ -e forked ]; do sleep 0.01; done",
        )
        .run();
    ended.assert_code(0);
    assert_completed(&receiver);
    assert!(
        !ended.stderr.contains("survived SIGKILL"),
        "{}",
        ended.stderr
    );
    assert_no_process_in(&project);
}

#[test]
fn hundreds_of_forgotten_processes_are_killed() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let script = "count=0; while [ $count -lt 300 ]; do setsid sleep 1000 & count=$((count + 1)); done; echo done";
    let ended = Worker::new(&receiver, &project).agent(script).run();
    ended.assert_code(0);
    assert_eq!(assert_completed(&receiver), "done\n");
    assert_no_process_in(&project);
}

#[test]
fn processes_that_a_check_leaves_behind_are_killed_too() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .agent("true")
        .env("DESCARTES_CHECKS", "setsid sleep 1000 & sleep 1000 & true")
        .run();
    ended.assert_code(0);
    assert_completed(&receiver);
    assert_no_process_in(&project);
}
