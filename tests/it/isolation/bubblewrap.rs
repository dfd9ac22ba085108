//! Tests with bubblewrap, which must be installed and work: the agent is in a PID namespace.

use rustix::process::Signal;

use super::isolation_of;
use crate::support::{
    Origin, Project, Receiver, Worker, assert_no_process_in, describe_processes_in, nobody,
    wait_until,
};

/// A worker that accepts only a PID namespace.
fn strict_worker(receiver: &Receiver, project: &Project) -> Worker {
    Worker::new(receiver, project).env("DESCARTES_ISOLATION", "strict")
}

#[test]
fn the_agent_is_in_a_pid_namespace_as_root_and_as_an_ordinary_user() {
    for is_ordinary in [false, true] {
        let (receiver, project) = (Receiver::start(), nobody::project());
        let bin = nobody::shared_dir();
        let agent = "echo \"parent $PPID\"; ls /proc | grep -c '^[0-9]'";
        let mut worker = strict_worker(&receiver, &project).agent(agent);
        if is_ordinary {
            worker = worker.program(&nobody::copy_worker(&bin));
            worker = worker.change_command(nobody::run_as_nobody);
        }
        let event = worker.run().assert_completed(&receiver);
        assert_eq!(
            isolation_of(&receiver.only_event("started")),
            "pid-namespace"
        );
        assert_eq!(isolation_of(&event), "pid-namespace");
        let tail = event["result"]["output"]["tail"].as_str().unwrap();
        let mut lines = tail.lines();
        assert_eq!(lines.next(), Some("parent 1"));
        // The first process, the shell, ls and grep.
        let count: u32 = lines.next().unwrap().parse().unwrap();
        assert!(count <= 4, "{tail}");
    }
}

#[test]
fn no_process_of_the_agent_survives_a_killed_worker() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let agent = "for number in 1 2 3; do setsid sh -c 'trap \"\" TERM HUP; : > ready.$0; while :; do sleep 1; done' $number & done
                 exec sleep 1000";
    let worker = strict_worker(&receiver, &project).agent(agent).start();
    wait_until("the agent's processes to start", || {
        (1..=3).all(|number| project.path(&format!("ready.{number}")).exists())
    });
    worker.signal(Signal::KILL);
    assert_eq!(worker.wait().signal, Some(Signal::KILL.as_raw()));
    // The test has to wait: the kernel ends the namespace a moment after the worker.
    wait_until("the end of the agent's processes", || {
        describe_processes_in(&project).is_empty()
    });
}

#[test]
fn sigterm_reaches_the_agent_and_its_last_output_is_read() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let agent = "trap 'echo cleaned up; exit' TERM; : > waits; while :; do sleep 0.01; done";
    let worker = strict_worker(&receiver, &project).agent(agent).start();
    wait_until("the agent to start", || project.path("waits").exists());
    worker.signal(Signal::TERM);
    let event = worker.wait().assert_failed(&receiver, "interrupted");
    // Before that, the shell prints that SIGTERM has ended its `sleep`, too.
    let tail = event["result"]["output"]["tail"].as_str().unwrap();
    assert!(tail.ends_with("cleaned up\n"), "{tail}");
    assert_no_process_in(&project);
}

#[test]
fn processes_that_the_agent_leaves_running_get_sigterm_before_the_namespace_ends() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let agent =
        "( trap 'echo the server stops; exit' TERM; : > waits; while :; do sleep 0.01; done ) &
                 until [ -e waits ]; do sleep 0.01; done; echo done";
    // The process has one second for that; on a busy machine that may not be enough.
    for _ in 0..20 {
        let worker = strict_worker(&receiver, &project).agent(agent);
        let ended = worker.env("DESCARTES_FORCE", "true").run();
        ended.assert_code(0);
        let tail = &ended.result_line()["result"]["output"]["tail"];
        let tail = tail.as_str().expect("the end of the output");
        assert!(tail.starts_with("done\n"), "{tail}");
        if tail.ends_with("the server stops\n") {
            return;
        }
        std::fs::remove_file(project.path("waits")).expect("the file");
    }
    panic!("SIGTERM never reached the process that the agent left behind");
}

#[test]
fn exit_codes_and_signals_of_the_agent_are_reported_as_without_a_namespace() {
    for (agent, reason, message) in [
        (
            "exit 7",
            "agent_failed",
            "the agent's command failed with exit code 7",
        ),
        (
            "kill -SEGV $$",
            "agent_killed",
            "the agent was killed by SIGSEGV",
        ),
        (
            "kill -KILL $$",
            "agent_killed",
            "the agent was killed by SIGKILL",
        ),
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let event = strict_worker(&receiver, &project).agent(agent).run();
        let event = event.assert_failed(&receiver, reason);
        assert_eq!(event["failure"]["message"], message);
    }
}

#[test]
fn the_work_of_an_isolated_agent_is_committed_and_pushed() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let worker = origin
        .worker(&receiver)
        .env("DESCARTES_ISOLATION", "strict");
    worker
        .agent("echo mine > mine")
        .run()
        .assert_completed(&receiver);
    assert_eq!(origin.show("descartes/proj-456/8", "mine"), "mine");
}
