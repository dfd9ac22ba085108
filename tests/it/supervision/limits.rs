//! No agent hangs forever: every way to hang ends at a time limit.

use std::time::Duration;

use rustix::process::Signal;

use super::{assert_completed, assert_failed, only_failure, tail};
use crate::support::{
    Project, Receiver, Worker, assert_no_process_in, assert_within, duration_setting,
    duration_text, project, with_enough_time,
};

#[test]
fn a_grandchild_that_keeps_the_output_open_does_not_delay_the_end() {
    for grandchild in [
        "sleep 10000 &",
        "setsid sleep 10000 &",
        "(trap '' TERM; sleep 10000) &",
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let agent = format!("{grandchild} echo done");
        let ended = Worker::new(&receiver, &project).agent(&agent).run();
        ended.assert_code(0);
        assert_eq!(assert_completed(&receiver), "done\n");
        assert_within(Duration::from_secs(60), ended.duration);
        assert_no_process_in(&project);
    }
}

#[test]
fn an_agent_that_closes_its_output_can_still_complete_the_task() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let agent = "echo last words; exec >&- 2>&-; sleep 0.2; exit 7";
    Worker::new(&receiver, &project)
        .agent(agent)
        .run()
        .assert_code(1);
    assert_failed(
        &receiver,
        "agent_failed",
        "the agent's command failed with exit code 7",
    );
    assert_eq!(tail(&receiver.only_event("failed")), "last words\n");
}

#[test]
fn an_agent_that_closes_its_output_and_hangs_is_idle() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = Worker::new(&receiver, &project).env("DESCARTES_IDLE_TIMEOUT", "300ms");
    worker
        .agent("exec >&- 2>&-; sleep 10000")
        .run()
        .assert_code(1);
    assert_failed(&receiver, "idle", "the agent printed nothing for 300ms");
    assert_no_process_in(&project);
}

#[test]
fn an_agent_that_does_not_read_a_huge_prompt_does_not_block_the_worker() {
    let line = format!("  {}\n", "wall ".repeat(200));
    let graph = project::GRAPH.replace(
        "  Four walls",
        &format!("{}  Four walls", line.repeat(3000)),
    );
    for agent in ["exec <&-; echo done", "echo done", "wc -c; echo done"] {
        let (receiver, project) = (Receiver::start(), Project::with_graph(&graph));
        Worker::new(&receiver, &project)
            .agent(agent)
            .run()
            .assert_code(0);
        assert!(assert_completed(&receiver).ends_with("done\n"));
    }
}

#[test]
fn an_agent_that_hangs_after_its_last_output_is_idle() {
    assert_idle_after("echo all done; sleep 100000", "all done\n");
}

#[test]
fn an_agent_that_stopped_itself_by_sigstop_is_continued_to_clean_up() {
    // The agent cleans up after SIGTERM, within the grace period of several seconds.
    let agent = "trap 'echo cleaned up; exit' TERM; kill -STOP $$; sleep 100000";
    assert_idle_after(agent, "cleaned up\n");
}

/// Runs an agent that prints these words and then hangs; asserts that the idle timeout ends it.
fn assert_idle_after(agent: &str, words: &str) {
    with_enough_time(Duration::from_millis(500), |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let worker =
            Worker::new(&receiver, &project).env("DESCARTES_IDLE_TIMEOUT", duration_setting(limit));
        worker.agent(agent).run().assert_code(1);
        let message = format!("the agent printed nothing for {}", duration_text(limit));
        assert_failed(&receiver, "idle", &message);
        assert_no_process_in(&project);
        let tail = tail(&receiver.only_event("failed"));
        if tail.is_empty() {
            return Err("the agent printed nothing".to_owned());
        }
        assert_eq!(tail, words);
        Ok(())
    });
}

#[test]
fn an_agent_that_prints_a_byte_from_time_to_time_is_not_idle() {
    with_enough_time(Duration::from_secs(3), |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let worker =
            Worker::new(&receiver, &project).env("DESCARTES_IDLE_TIMEOUT", duration_setting(limit));
        let interval = limit.as_secs_f64() / 6.0;
        let agent = format!("for number in 1 2 3 4 5 6 7 8; do sleep {interval}; printf .; done");
        let ended = worker.agent(agent).run();
        assert!(ended.duration > limit);
        if ended.code == Some(1) {
            return Err(format!("the bytes did not come: {ended:#?}"));
        }
        ended.assert_code(0);
        assert_eq!(assert_completed(&receiver), "........");
        Ok(())
    });
}

#[test]
fn a_flood_of_output_does_not_delay_the_time_limit() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = Worker::new(&receiver, &project).env("DESCARTES_TASK_TIMEOUT", "1s");
    let ended = worker.agent("yes this never ends").run();
    ended.assert_code(1);
    assert_failed(&receiver, "timed_out", "the task was not done within 1s");
    assert_within(Duration::from_secs(30), ended.duration);
    assert_no_process_in(&project);
}

#[test]
fn a_flood_of_output_delays_neither_heartbeats_nor_signals() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = super::worker_with_fast_heartbeats(&receiver, &project)
        .agent("yes this never ends")
        .start();
    super::wait_for_output_in_heartbeats(&receiver, "this never ends");
    receiver.wait_for("more heartbeats", |requests| {
        (requests.len() > 5).then_some(())
    });
    worker.signal(Signal::TERM);
    worker.wait().assert_code(1);
    assert_eq!(only_failure(&receiver)["failure"]["reason"], "interrupted");
    assert_no_process_in(&project);
}

#[test]
fn many_orphans_that_end_do_not_delay_the_time_limit() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = Worker::new(&receiver, &project).env("DESCARTES_TASK_TIMEOUT", "1s");
    let ended = worker.agent("while :; do ( true & ) ; done").run();
    ended.assert_code(1);
    assert_failed(&receiver, "timed_out", "the task was not done within 1s");
    assert_within(Duration::from_secs(30), ended.duration);
    assert_no_process_in(&project);
}
