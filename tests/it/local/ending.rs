//! `local` and its worker end together, and each task runs only once at a time.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{assert_in_order, program};
use crate::support::processes::processes_with_working_directory;
use crate::support::{FinishedWorker, Project, RunningWorker, wait_until};

/// For workers whose receiver is killed: they must not send their outcome for long, because another test may get the port.
const SHORT_FINISH_DEADLINE: &str = "100ms";

/// Starts `local --task 8`, and waits until its agent runs.
fn start_local(project: &Project, agent: &str) -> RunningWorker {
    let running = program(&["local", "--task", "8"], project)
        .agent(agent)
        .start();
    running.wait_for_log("agent: ready");
    running
}

#[test]
fn closing_the_terminal_stops_the_worker() {
    let project = Project::new();
    let local = start_local(&project, "echo ready; exec sleep 600");
    local.signal(Signal::HUP);
    let ended = local.wait();
    ended.assert_code(1);
    assert_in_order(
        &ended.stderr,
        &[
            "POST /failed     8: the worker was stopped by SIGHUP [interrupted]\n",
            "worker           ended with exit code 1\n",
        ],
    );
    assert_eq!(processes_with_working_directory(project.dir()), []);
}

#[test]
fn closing_the_terminal_has_no_effect_on_local_and_its_worker_under_nohup() {
    let project = Project::new();
    let local = program(&["local", "--task", "8"], &project)
        .agent("echo ready; until [ -e go ]; do sleep 0.02; done")
        .started_by("/bin/sh", |program| {
            let script = "trap '' HUP; exec \"$0\" local --task 8";
            vec!["-c".into(), script.into(), program.into()]
        })
        .dir(project.dir())
        .start();
    local.wait_for_log("agent: ready");
    local.signal(Signal::HUP);
    project.write("go", "");
    local.wait().assert_code(0);
}

#[test]
fn if_local_is_killed_its_worker_and_the_agent_end() {
    let project = Project::new();
    let local = program(&["local", "--task", "8"], &project)
        .env("DESCARTES_FINISH_DEADLINE", SHORT_FINISH_DEADLINE)
        .agent("trap '' HUP; echo ready; sleep 600 & wait")
        .start();
    local.wait_for_log("agent: ready");
    local.signal(Signal::KILL);
    assert_eq!(local.wait().signal, Some(9));
    wait_until("the worker and its agent to end", || {
        processes_with_working_directory(project.dir()).is_empty()
    });
}

#[test]
fn if_demo_is_killed_its_worker_and_the_agent_end() {
    let (dir, temporary) = (Project::empty(), Project::empty());
    let demo = program(&["demo"], &dir)
        .env("TMPDIR", temporary.dir())
        .env("DESCARTES_FINISH_DEADLINE", SHORT_FINISH_DEADLINE)
        .agent("echo ready; exec sleep 600")
        .start();
    let line = demo.wait_for_log("a sample project with a failing check, in ");
    let sample = line.split_once(", in ").expect("a directory").1.to_owned();
    demo.wait_for_log("agent: ready");
    demo.signal(Signal::KILL);
    assert_eq!(demo.wait().signal, Some(9));
    wait_until("the worker and its agent to end", || {
        processes_with_working_directory(dir.dir()).is_empty()
            && processes_with_working_directory(sample.as_ref()).is_empty()
    });
}

#[test]
fn a_second_local_with_the_same_task_is_refused() {
    let project = Project::new();
    let first = start_local(&project, "echo ready; exec sleep 600");
    // The same directory by another name, and the same task by another name.
    let other_name = project
        .path("../")
        .join(project.dir().file_name().expect("a name"));
    let other_name = other_name.to_str().expect("UTF-8");
    for args in [
        vec!["local", "--task", "8"],
        vec!["local", "--task", "webapp:8", "--project", other_name],
    ] {
        let second = program(&args, &project).agent("touch worked").run();
        second.assert_code(2);
        let message = format!(
            "task webapp:8 is already running in {}, started by process {pid}; wait until it ends, or stop it with `kill {pid}`\n",
            project.dir().display(),
            pid = first.pid().as_raw_nonzero(),
        );
        assert_eq!(second.stderr, message);
    }
    assert!(!project.path("worked").exists());
    // Another task, and the same task of another project, can run.
    let other_task = ["local", "--task", "9"];
    program(&other_task, &project)
        .agent("true")
        .run()
        .assert_code(0);
    let same_task = ["local", "--task", "8"];
    program(&same_task, &Project::new())
        .agent("true")
        .run()
        .assert_code(0);
    first.signal(Signal::TERM);
    first.wait().assert_code(1);
    program(&same_task, &project)
        .agent("true")
        .run()
        .assert_code(0);
}

#[test]
fn tasks_with_the_same_id_in_two_phases_run_at_the_same_time() {
    let phase =
        |tag: &str| format!("# SCUD Graph v1\n# Phase: {tag}\n\n@nodes\n8 | Build | P | 1 | L\n");
    let project = Project::with_graph(&format!("{}\n---\n\n{}", phase("a"), phase("b")));
    let first = program(&["local", "--task", "a:8"], &project)
        .agent("echo ready; until [ -e go ]; do sleep 0.05; done")
        .start();
    first.wait_for_log("agent: ready");
    let local = |args: &[&str]| program(args, &project).agent("touch go").run();
    // The phase can also be a separate setting.
    let same_task = local(&["local", "--task", "8", "--tag", "a"]);
    same_task.assert_code(2);
    let words = "task a:8 is already";
    assert!(same_task.stderr.starts_with(words), "{same_task:#?}");
    local(&["local", "--task", "8", "--tag", "b"]).assert_code(0);
    first.wait().assert_code(0);
}

#[test]
fn the_task_stays_locked_until_the_worker_of_a_killed_local_has_ended() {
    // On a slow machine, the grace period of the agent may end before the second `local` has looked at the lock, so there are
    // several attempts.
    let is_checked = (0..10).any(|_| check_that_the_task_stays_locked());
    assert!(is_checked, "the second `local` was always too slow");
}

/// How long the agent may take after SIGTERM before the worker kills it.
const GRACE_PERIOD: Duration = Duration::from_secs(10);

/// Returns whether the second `local` looked at the lock during the grace period of the first agent.
fn check_that_the_task_stays_locked() -> bool {
    let (project, temporary) = (Project::new(), Project::empty());
    let local = |finish_deadline: &str| {
        program(&["local", "--task", "8"], &project)
            .env("TMPDIR", temporary.dir())
            .env("DESCARTES_STOP_WINDOW", "600s")
            .env("DESCARTES_FINISH_DEADLINE", finish_deadline)
    };
    // The worker that outlives the first `local` has no orchestrator that it can report to, and must not try for long.
    let first = local(SHORT_FINISH_DEADLINE)
        .agent("trap 'touch stopping; until [ -e end ]; do sleep 0.01; done; exit' TERM; echo ready; while :; do sleep 0.01; done")
        .start();
    first.wait_for_log("agent: ready");
    let kill_time = Instant::now();
    first.signal(Signal::KILL);
    first.wait();
    wait_until("the agent to be stopped", || {
        project.path("stopping").exists()
    });
    let second = local("10m").agent("true").run();
    if second.code == Some(0) && kill_time.elapsed() >= GRACE_PERIOD {
        return false;
    }
    second.assert_code(2);
    let is_locked = |ended: &FinishedWorker| {
        let words = "task webapp:8 is already running in ";
        ended.stderr.contains(words)
    };
    assert!(is_locked(&second), "{second:#?}");
    project.write("end", "");
    // The worker unlocks the task when it ends, which is later than the agent's end.
    wait_until("the task to be unlocked", || {
        let ended = local("10m").agent("true").run();
        assert!(is_locked(&ended) || ended.code == Some(0), "{ended:#?}");
        ended.code == Some(0)
    });
    true
}
