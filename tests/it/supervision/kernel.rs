//! Tests that need root, with the real kernel: a namespace with the worker as its PID 1, a full disk, a control
//! group with little memory. They fail if the test machine does not allow that.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{assert_completed, assert_failed, only_failure, start_after_script};
use crate::support::{Origin, Project, Receiver, Worker, quoted, wait_until};

/// The worker as PID 1 of a new PID namespace.
fn as_pid_1(worker: Worker) -> Worker {
    worker.started_by("unshare", |program| {
        let mut args: Vec<_> = ["--pid", "--fork", "--mount-proc", "--kill-child"]
            .map(Into::into)
            .to_vec();
        args.push(program.into());
        args
    })
}

#[test]
fn as_pid_1_the_worker_reaps_orphans() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = Worker::new(&receiver, &project)
        .env("DESCARTES_TASK_TIMEOUT", "10m")
        .agent(
            "echo \"the parent is $PPID\"
             for number in 1 2 3 4 5; do ( setsid sh -c 'exit 3' & ); done
             while grep -qs '^State:.Z' /proc/[0-9]*/status; do sleep 0.01; done
             echo reaped",
        );
    as_pid_1(worker).run().assert_code(0);
    assert_eq!(assert_completed(&receiver), "the parent is 1\nreaped\n");
}

#[test]
fn as_pid_1_the_worker_reacts_to_stop_signals() {
    for signal in ["TERM", "INT"] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let agent = format!("trap '' TERM; kill -{signal} 1; while :; do sleep 1000; done");
        // With isolation, the agent would be in another PID namespace than the worker.
        let worker = Worker::new(&receiver, &project)
            .without_isolation()
            .agent(&agent);
        as_pid_1(worker).run().assert_code(1);
        let message = format!("the worker was stopped by SIG{signal}");
        assert_failed(&receiver, "interrupted", &message);
    }
}

/// The worker in a mount namespace in which `dir` is a file system of 64 KiB. `script` runs before the worker.
fn start_with_tmpfs(dir: &Path, script: &str, worker: Worker) -> Worker {
    let mount = format!("mount -t tmpfs -o size=64k none {} || exit 99", quoted(dir));
    let script = format!("{mount}\n{script}\nexec \"$0\"");
    worker.started_by("unshare", |program| {
        let mut args: Vec<_> = ["--mount", "/bin/sh", "-c", &script]
            .map(Into::into)
            .to_vec();
        args.push(program.into());
        args
    })
}

#[test]
fn a_full_disk_is_named_if_the_prompt_cannot_be_written() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let dir = tempfile::tempdir().unwrap();
    let fill = "head -c 100000 /dev/zero > \"$TMPDIR/fill\" 2>/dev/null";
    let worker = Worker::new(&receiver, &project)
        .env("TMPDIR", dir.path())
        .agent("echo done");
    start_with_tmpfs(dir.path(), fill, worker)
        .run()
        .assert_code(1);
    let event = only_failure(&receiver);
    assert_eq!(event["failure"]["reason"], "workspace_failed", "{event:#}");
    let message = event["failure"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("the prompt cannot be written to "),
        "{message}"
    );
    let detail = event["failure"]["detail"].as_str().unwrap();
    assert!(detail.contains("No space left on device"), "{detail}");
}

#[test]
fn a_full_disk_is_reported_in_the_words_of_git_if_it_cannot_clone() {
    let receiver = Receiver::start();
    let big = "a house is built of many bricks\n".repeat(20_000);
    let origin = Origin::with_files(&[("bricks", &big)]);
    let dir = tempfile::tempdir().unwrap();
    let worker = origin
        .worker(&receiver)
        .env("DESCARTES_WORKSPACE", dir.path().join("workspace"))
        .agent("touch worked");
    start_with_tmpfs(dir.path(), "true", worker)
        .run()
        .assert_code(1);
    let event = only_failure(&receiver);
    assert_eq!(event["failure"]["reason"], "workspace_failed", "{event:#}");
    let detail = event["failure"]["detail"].as_str().unwrap();
    // git's message depends on the file that it could not write.
    let words = ["No space left on device", "Out of diskspace"];
    assert!(words.iter().any(|word| detail.contains(word)), "{detail}");
}

#[test]
fn a_task_is_reported_although_its_agent_filled_the_disk() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let dir = tempfile::tempdir().unwrap();
    let copy = format!(
        "cp -r {} {}",
        quoted(project.path(".scud")),
        quoted(dir.path())
    );
    let worker = Worker::new(&receiver, &project)
        .env("DESCARTES_WORKSPACE", dir.path())
        .agent("head -c 100000 /dev/zero > fill 2>/dev/null || echo full");
    start_with_tmpfs(dir.path(), &copy, worker)
        .run()
        .assert_code(0);
    assert_eq!(assert_completed(&receiver), "full\n");
}

/// A control group with 64 MiB of memory; removed when it is dropped.
struct SmallControlGroup(PathBuf);

impl SmallControlGroup {
    fn new(name: &str) -> Self {
        // A group is busy until its last process is reaped, so its name is not used again.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("descartes-{name}-{}-{number}", std::process::id());
        let (version_2, version_1) = (
            Path::new("/sys/fs/cgroup"),
            Path::new("/sys/fs/cgroup/memory"),
        );
        let (dir, limit) = if version_1.is_dir() {
            (version_1.join(name), "memory.limit_in_bytes")
        } else {
            fs::write(version_2.join("cgroup.subtree_control"), "+memory")
                .expect("a memory controller");
            (version_2.join(name), "memory.max")
        };
        fs::create_dir(&dir).expect("a control group");
        fs::write(dir.join(limit), "67108864").expect("a limit");
        Self(dir)
    }
}

impl Drop for SmallControlGroup {
    fn drop(&mut self) {
        wait_until("the end of the group's processes", || {
            fs::remove_dir(&self.0).is_ok()
        });
    }
}

#[test]
fn an_agent_that_runs_out_of_memory_is_killed_and_the_worker_reports_it() {
    // In the first case the agent's shell sees the signal. In the second case a shell hides it behind exit code 1.
    let use_memory = "head -c 300000000 /dev/zero | tail -n 1 > /dev/null";
    for agent in [
        use_memory.to_owned(),
        format!("exec sh -c '{use_memory}; exit 1'"),
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let group = SmallControlGroup::new("oom");
        let worker = Worker::new(&receiver, &project).agent(&agent);
        let join = format!(
            "echo $$ > {} || exit 99",
            quoted(group.0.join("cgroup.procs"))
        );
        start_after_script(&join, worker).run().assert_code(1);
        assert_failed(
            &receiver,
            "out_of_memory",
            "the machine ran out of memory, and the kernel killed a process of the agent",
        );
    }
}
