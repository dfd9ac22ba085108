//! Which worker gets a task while another worker has it, and after that worker has ended or died.

use std::time::Duration;

use rustix::process::Signal;

use super::{program, receive, receive_with, stop, worker};
use crate::support::{Project, duration_setting, wait_until, with_enough_time};

#[test]
fn a_task_is_refused_to_a_second_worker_while_the_first_one_works_and_the_refusal_is_shown() {
    let (receiving, url) = receive();
    let project = Project::new();
    let first = worker(&url, &project)
        .agent("echo ready; exec sleep 600")
        .start();
    first.wait_for_log("agent: ready");
    let second = worker(&url, &project)
        .env("DESCARTES_RUN_ID", "second")
        .agent("touch worked")
        .run();
    second.assert_code(4);
    let words = "is working on this task";
    assert!(second.stderr.contains(words), "{second:#?}");
    assert!(!project.path("worked").exists());
    receiving.wait_for_log("POST /progress   8: agent: ready");
    first.signal(Signal::TERM);
    first.wait().assert_code(1);
    // The task is free again.
    let third = worker(&url, &project).env("DESCARTES_RUN_ID", "third");
    third.agent("true").run().assert_code(0);
    let stderr = stop(receiving).stderr;
    assert!(!stderr.contains("protocol  "), "{stderr}");
    let line_of = |run: &str| {
        let words = format!("POST /started    8: run {run} on ");
        let line = stderr.lines().find(|line| line.contains(&words));
        line.unwrap_or_else(|| panic!("no {words:?} in {stderr}"))
    };
    let refused = line_of("second");
    assert!(refused.contains(" → refused (409): run "), "{refused}");
    assert!(refused.ends_with(words), "{refused}");
    assert!(!line_of("third").contains("refused"), "{stderr}");
}

#[test]
fn a_dead_workers_task_is_free_when_its_lease_is_over() {
    with_enough_time(Duration::from_secs(1), |lease| {
        let (receiving, url) =
            receive_with(&["--lease", &duration_setting(lease)], |worker| worker);
        let project = Project::new();
        let dead = worker(&url, &project)
            .env("DESCARTES_RUN_ID", "dead")
            .agent("echo ready; exec sleep 600")
            .start();
        receiving.wait_for_log("POST /progress   8: agent: ready");
        dead.signal(Signal::KILL);
        receiving.wait_for_log("8: run dead has been silent for ");
        let second = worker(&url, &project).agent("true").run();
        assert!(!stop(receiving).stderr.contains("protocol  "));
        if second.code == Some(4) {
            // The worker was already silent before it was killed, and a later heartbeat renewed its lease.
            return Err("the lease of the killed worker was not over".to_owned());
        }
        second.assert_code(0);
        Ok(())
    });
}

#[test]
fn a_completed_task_is_granted_again_only_if_a_person_allows_it() {
    for (flags, code) in [(&[][..], 4), (&["--again"][..], 0)] {
        let (receiving, url) = receive_with(flags, |worker| worker);
        worker(&url, &Project::new())
            .agent("true")
            .run()
            .assert_code(0);
        let second = worker(&url, &Project::new()).agent("true").run();
        second.assert_code(code);
        let words = "has ended this task for good";
        assert_eq!(second.stderr.contains(words), code == 4, "{second:#?}");
        stop(receiving);
    }
}

#[test]
fn heartbeats_renew_a_lease() {
    with_enough_time(Duration::from_secs(3), |lease| {
        let (receiving, url) =
            receive_with(&["--lease", &duration_setting(lease)], |worker| worker);
        let project = Project::new();
        let work_time = lease.as_secs_f64() * 1.3;
        let first = worker(&url, &project)
            .agent(format!(
                "sleep {work_time}; touch over; until [ -e go ]; do sleep 0.05; done"
            ))
            .start();
        wait_until("the end of the lease", || project.path("over").exists());
        let second = worker(&url, &project).agent("true").run();
        project.write("go", "");
        let first = first.wait();
        let stderr = stop(receiving).stderr;
        if stderr.contains("its lease is over") {
            return Err(format!("no heartbeat arrived: {stderr}"));
        }
        second.assert_code(4);
        first.assert_code(0);
        Ok(())
    });
}

#[test]
fn finished_and_dead_runs_leave_the_status_line() {
    let dir = Project::empty();
    let receiving = program(
        &["receive", "--listen", "127.0.0.1:0", "--lease", "1s"],
        &dir,
    )
    .env("TERM", "xterm")
    .on_terminal(120)
    .start();
    let line = receiving.wait_for_output_line("listens at http://127.0.0.1:");
    let (_, url) = line.split_once("listens at ").expect("a URL");
    let url = url.split_whitespace().next().expect("a URL");
    let project = Project::new();
    let dead = worker(url, &project)
        .env("DESCARTES_RUN_ID", "dead")
        .agent("echo dying; exec sleep 600")
        .start();
    receiving.wait_for_live_area("8: agent: dying · heartbeat");
    dead.signal(Signal::KILL);
    receiving.wait_for_output_line("run dead has been silent for 0:0");
    receiving.wait_for_live_area("waiting for workers");
    // The last heartbeat of the dead worker may arrive now, and renew its lease once more. Then a new worker is refused.
    wait_until("the task to be free", || {
        let ended = worker(url, &project).agent("true").run();
        assert!(matches!(ended.code, Some(0 | 4)), "{ended:#?}");
        ended.code == Some(0)
    });
    receiving.wait_for_output_line("POST /completed");
    let screen = receiving.wait_for_live_area("waiting for workers");
    let (_, end_of_output) = screen
        .rsplit_once("POST /completed")
        .expect("the end of the run");
    assert!(!end_of_output.contains("heartbeat"), "{end_of_output:?}");
    receiving.signal(Signal::TERM);
}
