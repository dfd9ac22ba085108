//! For anyone who pays for a machine: no process of the agent survives the worker, alive or as a zombie, even if the worker
//! has a bug.

#[cfg(debug_assertions)]
use std::time::Duration;

use rustix::process::Signal;

use super::{assert_completed, wait_for_output_in_heartbeats, worker_with_fast_heartbeats};
use crate::support::processes::{Process, children, processes_with_working_directory};
#[cfg(debug_assertions)]
use crate::support::{FinishedWorker, Origin, RunningWorker, duration_setting, with_enough_time};
use crate::support::{Project, Receiver, Worker, quoted, wait_until};

/// Starts processes that ignore SIGTERM, in every way in which a process can leave its parent.
const START_PROCESSES_THAT_IGNORE_SIGTERM: &str = "
    sh ignore-signals.sh a &
    setsid sh ignore-signals.sh b &
    ( ( setsid sh ignore-signals.sh c & ) & )
    ( setsid sh -c 'sh ignore-signals.sh d <&- >&- 2>&- & sh ignore-signals.sh e' & )
    until [ -e a ] && [ -e b ] && [ -e c ] && [ -e d ] && [ -e e ]; do sleep 0.01; done
    echo ready";

/// A project with `ignore-signals.sh`: it ignores stop signals, makes the file in its argument, and sleeps.
fn project_with_script_that_ignores_signals() -> Project {
    let project = Project::new();
    project.write(
        "ignore-signals.sh",
        "trap '' TERM HUP INT; echo > \"$1\"; while :; do sleep 1000; done\n",
    );
    project
}

/// Asserts that none of these processes exists, not even as a zombie.
#[track_caller]
fn assert_none_exists(processes: &[Process]) {
    let existing: Vec<_> = processes
        .iter()
        .filter(|process| process.exists())
        .collect();
    assert!(existing.is_empty(), "these exist: {existing:?}");
}

#[test]
fn every_process_of_a_stopped_agent_is_dead_and_reaped_when_the_worker_has_ended() {
    // In a PID namespace the kernel kills all of them; without isolation the worker must.
    for has_isolation in [true, false] {
        let (receiver, project) = (
            Receiver::start(),
            project_with_script_that_ignores_signals(),
        );
        let mut worker = worker_with_fast_heartbeats(&receiver, &project);
        if !has_isolation {
            worker = worker.without_isolation();
        }
        let worker = worker
            .agent(format!(
                "{START_PROCESSES_THAT_IGNORE_SIGTERM}; exec sleep 1000"
            ))
            .start();
        wait_for_output_in_heartbeats(&receiver, "ready");
        let processes = processes_with_working_directory(project.dir());
        assert!(processes.len() >= 6, "{processes:?}");
        worker.signal(Signal::TERM);
        worker.wait().assert_code(1);
        assert_none_exists(&processes);
        assert_eq!(processes_with_working_directory(project.dir()), []);
    }
}

#[test]
fn orphans_that_die_while_the_agent_works_are_reaped() {
    let (receiver, project) = (Receiver::start(), Project::new());
    // In a PID namespace, its first process reaps orphans.
    let worker = worker_with_fast_heartbeats(&receiver, &project)
        .without_isolation()
        .agent(
            "for number in 1 2 3 4 5; do ( setsid sh -c 'exit 3' & ); done; echo ready; exec sleep 1000",
        )
        .start();
    wait_for_output_in_heartbeats(&receiver, "ready");
    let pid = worker.pid().as_raw_nonzero().get();
    wait_until("the worker to reap dead processes", || {
        let children = children(pid);
        children.len() == 1 && children[0].state != 'Z'
    });
    worker.signal(Signal::TERM);
    worker.wait().assert_code(1);
}

#[test]
fn the_pid_of_an_ended_agent_stays_reserved_while_its_process_group_gets_signals() {
    let (receiver, project) = (Receiver::start(), Project::new());
    // A process that the agent leaves behind prints the state of the agent's process when it gets SIGTERM.
    let look =
        "grep ^State: /proc/$agent/status > state.new || echo gone > state.new; mv state.new state";
    let agent = format!(
        "agent=$$; ( trap '{look}; exit' TERM; : > waits; while :; do sleep 0.01; done ) &
         until [ -e waits ]; do sleep 0.01; done"
    );
    // This process has one second for that; on a busy machine, a second may not be enough.
    for _ in 0..20 {
        // In a PID namespace, its first process reaps the agent.
        let worker = Worker::new(&receiver, &project).without_isolation();
        let worker = worker.agent(&agent);
        worker.env("DESCARTES_FORCE", "true").run().assert_code(0);
        if project.path("state").exists() {
            assert_eq!(project.read("state"), "State:\tZ (zombie)\n");
            return;
        }
        std::fs::remove_file(project.path("waits")).expect("the file");
    }
    panic!("SIGTERM never reached the process that the agent left behind");
}

#[test]
#[cfg(debug_assertions)]
fn a_panic_in_the_worker_leaves_no_process_and_is_reported() {
    let (receiver, project) = (
        Receiver::start(),
        project_with_script_that_ignores_signals(),
    );
    let worker = Worker::new(&receiver, &project)
        .env("DESCARTES_FAILURE_POINT", "agent output")
        // The panic happens when the worker reads `ready`.
        .agent(format!(
            "( cat /proc/[0-9]*/stat > all ) 2>/dev/null; {START_PROCESSES_THAT_IGNORE_SIGTERM}; exec sleep 1000"
        ));
    let ended = worker.run();
    let event = ended.assert_failed(&receiver, "internal");
    let message = event["failure"]["message"].as_str().expect("a message");
    assert!(
        message.starts_with("the worker has a bug: it panicked with"),
        "{message}"
    );
    assert!(project.path("e").exists(), "the processes had started");
    assert_eq!(processes_with_working_directory(project.dir()), []);
}

#[test]
#[cfg(debug_assertions)]
fn the_work_so_far_is_pushed_after_a_panic_in_the_worker() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let worker = origin
        .worker(&receiver)
        .env("DESCARTES_FAILURE_POINT", "agent output")
        .agent("echo half > house; echo ready; exec sleep 1000");
    worker.run().assert_failed(&receiver, "internal");
    let branch = "descartes/proj-456/8-wip";
    assert_eq!(origin.branches(), [branch, "main"]);
    assert_eq!(origin.show(branch, "house"), "half");
}

/// A worker with a clone whose deletion blocks its thread. 30 % of the stop window are for the terminal event.
#[cfg(debug_assertions)]
fn worker_whose_deletion_hangs(origin: &Origin, receiver: &Receiver, window: Duration) -> Worker {
    origin
        .worker(receiver)
        .remove_env("DESCARTES_WORKSPACE")
        .env("DESCARTES_FAILURE_POINT", "delete")
        .env("DESCARTES_STOP_WINDOW", duration_setting(window))
}

/// Waits for the end of a worker; an error if its stop window was too short for the terminal event.
#[cfg(debug_assertions)]
fn wait_for_delivery(worker: RunningWorker) -> Result<FinishedWorker, String> {
    let ended = worker.wait();
    if ended.code == Some(3) {
        return Err("the terminal event was not delivered".to_owned());
    }
    Ok(ended)
}

#[test]
#[cfg(debug_assertions)]
fn a_stop_signal_while_the_clone_is_deleted_leaves_time_for_the_terminal_event() {
    with_enough_time(Duration::from_secs(10), |window| {
        let (receiver, origin) = (Receiver::start(), Origin::new());
        let worker = worker_whose_deletion_hangs(&origin, &receiver, window)
            // Another thread deletes many files.
            .agent("mkdir many; for number in $(seq 500); do : > many/$number; done")
            .start();
        worker.wait_for_log("the blocking point `delete` is armed");
        worker.signal(Signal::TERM);
        let ended = wait_for_delivery(worker)?;
        ended.assert_completed(&receiver);
        assert!(
            ended.stderr.contains("there was no time to delete"),
            "{ended:#?}"
        );
        Ok(())
    });
}

#[test]
#[cfg(debug_assertions)]
fn after_a_stop_signal_the_terminal_event_does_not_wait_for_the_deletion_of_the_clone() {
    with_enough_time(Duration::from_secs(5), |window| {
        let (receiver, origin) = (Receiver::start(), Origin::new());
        let worker = worker_whose_deletion_hangs(&origin, &receiver, window)
            .agent("echo ready; exec sleep 600")
            .start();
        worker.wait_for_log("agent: ready");
        worker.signal(Signal::TERM);
        let ended = wait_for_delivery(worker)?;
        ended.assert_failed(&receiver, "interrupted");
        let words = "the blocking point `delete` is armed";
        assert!(ended.stderr.contains(words), "{ended:#?}");
        Ok(())
    });
}

#[test]
#[cfg(debug_assertions)]
fn a_stop_signal_while_a_failed_clone_is_deleted_leaves_time_for_the_terminal_event() {
    with_enough_time(Duration::from_secs(5), |window| {
        let (receiver, origin) = (Receiver::start(), Origin::new());
        let worker = worker_whose_deletion_hangs(&origin, &receiver, window)
            .env("DESCARTES_REF", "no-such-branch")
            .agent("true")
            .start();
        worker.wait_for_log("the blocking point `delete` is armed");
        worker.signal(Signal::TERM);
        let ended = wait_for_delivery(worker)?;
        ended.assert_failed(&receiver, "workspace_failed");
        Ok(())
    });
}

#[test]
fn a_process_that_ran_before_the_worker_survives_it() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let pid_file = quoted(project.path("service.pid"));
    let script = format!("sleep 1000 >/dev/null 2>&1 & echo $! > {pid_file}");
    let worker = Worker::new(&receiver, &project).agent("setsid sleep 1000 & true");
    let ended = super::start_after_script(&script, worker).run();
    let pid = project.read("service.pid").trim().parse().expect("a pid");
    let service = Process::with_pid(pid).expect("the service");
    let _ = rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).expect("a pid"),
        Signal::KILL,
    );
    ended.assert_code(0);
    assert_completed(&receiver);
    assert_ne!(service.state, 'Z', "the service was killed");
    assert_eq!(processes_with_working_directory(project.dir()), []);
}
