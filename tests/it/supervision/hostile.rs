//! Unusual environments: the run works or fails with a clear message, and is reported either way.

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use super::secrets::as_unprivileged_user;
use super::{
    assert_completed, assert_failed, only_failure, start_after_script,
    wait_for_output_in_heartbeats, worker_with_fast_heartbeats,
};
use crate::support::nobody;
use crate::support::{
    Project, Receiver, Worker, assert_within, describe_processes_in, duration_setting,
    with_enough_time,
};

#[test]
fn a_limit_of_64_file_descriptors_is_enough() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = Worker::new(&receiver, &project).agent("ulimit -n; echo done");
    start_after_script("ulimit -n 64", worker)
        .run()
        .assert_code(0);
    assert_eq!(assert_completed(&receiver), "64\ndone\n");
}

#[test]
fn closed_standard_streams_do_not_fail_the_run() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = Worker::new(&receiver, &project).agent("echo done");
    start_after_script("exec <&- >&- 2>&-", worker)
        .run()
        .assert_code(0);
    assert_eq!(assert_completed(&receiver), "done\n");
}

#[test]
fn standard_streams_without_a_reader_do_not_fail_the_run() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let (_, stdout) = io::pipe().unwrap();
    let (_, stderr) = io::pipe().unwrap();
    let worker = Worker::new(&receiver, &project).agent("echo done");
    let ended = worker.change_command(|command| {
        command.stdout(stdout).stderr(stderr);
    });
    ended.run().assert_code(0);
    assert_eq!(assert_completed(&receiver), "done\n");
}

/// A pipe that is full to the last byte.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    for size in [4096, 1] {
        while writer.write(&vec![b'x'; size]).is_ok() {}
    }
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

#[test]
fn the_delivery_does_not_wait_for_a_reader_of_standard_output() {
    /// How long the worker waits for a reader of its standard output before it exits.
    const MAX_READER_WAIT: Duration = Duration::from_millis(500);
    // One of twenty attempts must be quicker than that: on a busy machine, everything may take longer.
    let waits = (0..20).map(|_| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let (_reader, stdout) = full_pipe();
        let worker = Worker::new(&receiver, &project).agent("echo done");
        let running = worker
            .change_command(|command| {
                command.stdout(stdout);
            })
            .start();
        running.wait_for_log("agent: done");
        let agent_ended = Instant::now();
        running.wait().assert_code(0);
        let delivered = receiver.requests_to("completed")[0].at;
        delivered.saturating_duration_since(agent_ended)
    });
    let delayed = waits.take_while(|wait| *wait >= MAX_READER_WAIT).count();
    assert!(delayed < 20, "every delivery waited");
}

#[test]
fn standard_streams_that_are_not_read_do_not_delay_the_run() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let (_stdout_reader, stdout) = full_pipe();
    let (_stderr_reader, stderr) = full_pipe();
    let worker = Worker::new(&receiver, &project).env("RUST_LOG", "trace");
    let agent = "count=0; while [ $count -lt 2000 ]; do echo some words; count=$((count + 1)); done; echo done";
    let ended = worker
        .agent(agent)
        .change_command(|command| {
            command.stdout(stdout).stderr(stderr);
        })
        .run();
    ended.assert_code(0);
    assert!(assert_completed(&receiver).ends_with("done\n"));
    assert_within(Duration::from_secs(30), ended.duration);
}

#[test]
fn a_stop_signal_is_reported_although_standard_streams_are_not_read() {
    with_enough_time(Duration::from_secs(2), try_to_stop_with_full_pipes);
}

/// One attempt with this stop window; an error if the machine was too slow.
fn try_to_stop_with_full_pipes(window: Duration) -> Result<(), String> {
    let (receiver, project) = (Receiver::start(), Project::new());
    let (_stdout_reader, stdout) = full_pipe();
    let (_stderr_reader, stderr) = full_pipe();
    let worker = worker_with_fast_heartbeats(&receiver, &project)
        .env("DESCARTES_STOP_WINDOW", duration_setting(window))
        .agent("trap '' TERM; echo ready; while :; do sleep 1000; done")
        .change_command(|command| {
            command.stdout(stdout).stderr(stderr);
        })
        .start();
    wait_for_output_in_heartbeats(&receiver, "ready");
    let signal_time = Instant::now();
    worker.signal(rustix::process::Signal::TERM);
    let ended = worker.wait();
    if ended.code == Some(3) {
        return Err("the failure was not delivered".to_owned());
    }
    ended.assert_code(1);
    let delivery_time = receiver.wait_for_first("failed").at;
    if delivery_time - signal_time >= window {
        return Err("the failure was not delivered".to_owned());
    }
    assert_eq!(only_failure(&receiver)["failure"]["reason"], "interrupted");
    let processes = describe_processes_in(&project);
    if !processes.is_empty() {
        return Err(format!("the agent was not dead: {processes:?}"));
    }
    Ok(())
}

#[test]
fn a_missing_directory_for_temporary_files_is_named() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = Worker::new(&receiver, &project).env("TMPDIR", "/no/such/place");
    worker.agent("echo done").run().assert_code(1);
    assert_failed(
        &receiver,
        "workspace_failed",
        "no temporary directory for the prompt could be made; set TMPDIR to a directory that the worker can write",
    );
    let event = only_failure(&receiver);
    let detail = event["failure"]["detail"].as_str().unwrap();
    assert!(detail.contains("/no/such/place"), "{detail}");
}

#[test]
fn an_unwritable_home_directory_does_not_fail_the_run() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = Worker::new(&receiver, &project).env("HOME", "/proc/no/home");
    worker.agent("echo $HOME").run().assert_code(0);
    assert_eq!(assert_completed(&receiver), "/proc/no/home\n");
}

#[test]
fn an_unreadable_workspace_is_named() {
    let (receiver, project) = (Receiver::start(), nobody::project());
    let bin = nobody::shared_dir();
    let worker = Worker::new(&receiver, &project).agent("echo done");
    let worker = as_unprivileged_user("", worker, &bin);
    fs::set_permissions(project.dir(), fs::Permissions::from_mode(0o000)).unwrap();
    let ended = worker.run();
    fs::set_permissions(project.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    ended.assert_code(1);
    let dir = project.dir().display();
    assert_failed(
        &receiver,
        "workspace_failed",
        &format!("the workspace cannot be read: {dir}"),
    );
}

#[test]
fn a_workspace_that_the_agent_deleted_is_named() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = Worker::new(&receiver, &project).env("DESCARTES_CHECKS", "true");
    worker.agent("rm -rf \"$PWD\"").run().assert_code(1);
    let dir = project.dir().display();
    assert_failed(
        &receiver,
        "workspace_failed",
        &format!("cannot use the working directory {dir}"),
    );
}

#[test]
fn a_limit_on_processes_that_keeps_the_agent_from_starting_is_named() {
    let (receiver, project) = (Receiver::start(), nobody::project());
    let bin = nobody::shared_dir();
    // The kernel lets root start any number of processes, even without capabilities.
    let limit = "prlimit --nproc=0 --pid $$ || exit 99";
    let worker = Worker::new(&receiver, &project).agent("echo done");
    let ended = as_unprivileged_user(limit, worker, &bin).run();
    if nobody::is_root() && !nobody::may_become_nobody() && ended.code == Some(0) {
        assert_eq!(assert_completed(&receiver), "done\n");
        return;
    }
    ended.assert_code(1);
    assert_failed(&receiver, "agent_failed", "cannot start /bin/sh");
    let failure = &only_failure(&receiver)["failure"];
    let detail = failure["detail"].as_str().unwrap();
    assert!(
        detail.contains("Resource temporarily unavailable"),
        "{detail}"
    );
    assert_eq!(failure["retryable"], true);
}
