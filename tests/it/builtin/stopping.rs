//! Stop signals and cancellations while a tool runs.

use std::time::Duration;

use rustix::process::Signal;

use super::{run, run_with, worker};
use crate::support::model::{bash_call, text_answer};
use crate::support::{
    Model, Project, Receiver, Reply, assert_no_process_in, duration_setting, each, wait_until,
    with_enough_time,
};

/// A command that needs 0.3 seconds after SIGTERM to clean up, and then writes the file `cleaned`.
const COMMAND_THAT_CLEANS_UP: &str = "sh -c 'trap \"sleep 0.3; echo done > cleaned; exit\" TERM; touch running; \
                         while :; do sleep 0.02; done'";

#[test]
fn a_running_command_gets_sigterm_and_time_to_clean_up() {
    each(&["interrupted", "cancelled"], |reason| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let model = Model::start([bash_call(COMMAND_THAT_CLEANS_UP)]);
        let running = worker(&receiver, &project, &model)
            .env("DESCARTES_HEARTBEAT", "50ms")
            .env("DESCARTES_STOP_WINDOW", "60s")
            .start();
        wait_until("the command", || project.path("running").exists());
        if reason == "interrupted" {
            running.signal(Signal::TERM);
        } else {
            receiver.set_default_reply("progress", Reply::json(200, r#"{"cancel": true}"#));
        }
        running.wait().assert_failed(&receiver, reason);
        assert_eq!(project.read("cleaned"), "done\n");
    });
}

#[test]
fn a_command_that_takes_too_long_gets_sigterm_first() {
    with_enough_time(Duration::from_secs(8), |limit| {
        let script = [bash_call(COMMAND_THAT_CLEANS_UP), text_answer("Done.")];
        let run = run_with(Project::new(), script, |worker| {
            worker.env("DESCARTES_IDLE_TIMEOUT", duration_setting(limit))
        });
        if run.worker.code != Some(0) || !run.project.path("cleaned").exists() {
            return Err(format!("the command did not clean up: {:#?}", run.worker));
        }
        Ok(())
    });
}

#[test]
fn a_command_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let command = "sh -c 'trap \"\" TERM; echo $$ > pid; while :; do sleep 0.05; done'";
    with_enough_time(Duration::from_secs(5), |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let model = Model::start([bash_call(command)]);
        let running = worker(&receiver, &project, &model)
            .env("DESCARTES_STOP_WINDOW", duration_setting(limit))
            .start();
        let has_pid = || std::fs::read(project.path("pid")).is_ok_and(|pid| pid.ends_with(b"\n"));
        wait_until("the command", has_pid);
        running.signal(Signal::TERM);
        let ended = running.wait();
        assert_no_process_in(&project);
        if ended.code == Some(3) {
            return Err(format!("the outcome was not delivered: {ended:#?}"));
        }
        ended.assert_failed(&receiver, "interrupted");
        Ok(())
    });
}

#[test]
fn an_agent_that_is_stopped_by_another_process_counts_as_killed() {
    let event = run([bash_call("kill -TERM $PPID; sleep 1000")]).assert_failed("agent_killed");
    assert_eq!(
        event["failure"]["message"],
        "the agent ended with exit code 143, without a result: SIGTERM killed it"
    );
}
