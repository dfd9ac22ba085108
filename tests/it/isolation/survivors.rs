//! Processes that survive their agent, that try to get the worker's credentials, or that delay a push.

use std::io::{Read, Write};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::nobody::{self, NOBODY};
use crate::support::{
    Forge, Origin, Project, Receiver, Worker, path, path_without, quoted, wait_until,
};

/// The git token of the worker.
const TOKEN: &str = "the-secret-git-token";

#[test]
fn nothing_is_pushed_while_a_process_of_the_agent_cannot_be_killed() {
    if !nobody::is_root() || !nobody::may_become_nobody() {
        // Only root without the capability to kill can have a descendant that it cannot kill.
        return;
    }
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let forge = Forge::start(&origin.path(""), Some(TOKEN));
    let pid = origin.path("pid");
    // The agent ends when its child runs as the other user, and not before.
    let agent = format!(
        "echo mine > mine; setsid setpriv --reuid {NOBODY} --clear-groups sleep 1000 > /dev/null 2>&1 & echo $! > {}; \
         until grep -q '^Uid:.{NOBODY}.{NOBODY}' /proc/$!/status; do sleep 0.01; done",
        quoted(&pid)
    );
    let worker = origin.worker(&receiver).without_isolation();
    let worker = worker
        .env("DESCARTES_REPO", forge.url())
        .env("DESCARTES_GIT_TOKEN", TOKEN)
        .agent(agent)
        .started_by("setpriv", |program| {
            vec![
                "--bounding-set=-kill".into(),
                "--inh-caps=-kill".into(),
                program.into(),
            ]
        });
    let ended = worker.run();
    let survivor = std::fs::read_to_string(&pid).unwrap();
    let survivor = survivor.trim().parse().ok().and_then(Pid::from_raw);
    let kill_result = kill_process(survivor.unwrap(), Signal::KILL);
    let event = ended.assert_failed(&receiver, "push_failed");
    assert_eq!(kill_result, Ok(()), "the process should have survived");
    let failure = event["failure"].to_string();
    let words = "processes of the agent survived SIGKILL, so nothing is collected or pushed";
    assert!(failure.contains(words), "{failure}");
    assert_eq!(origin.branches(), ["main"]);
    let mut requests = forge.requests().into_iter();
    assert!(!requests.any(|request| request.line.contains("git-receive-pack")));
}

/// Whether the worker may make control groups below the group of the tests.
fn may_make_control_groups() -> bool {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let mount = mounts.lines().find(|line| line.contains(" cgroup2 "));
    let mount = mount.and_then(|line| line.split(' ').nth(1));
    let dir = mount
        .zip(path)
        .map(|(mount, path)| format!("{mount}{path}"));
    let name = format!("of-a-test-{}", std::process::id());
    dir.is_some_and(|dir| {
        let group = std::path::Path::new(&dir).join(name);
        let can_kill = std::fs::create_dir(&group).is_ok() && group.join("cgroup.kill").exists();
        let _ = std::fs::remove_dir(&group);
        can_kill
    })
}

#[test]
fn a_control_group_also_ends_processes_of_the_agent_that_have_another_user() {
    if !nobody::is_root() || !nobody::may_become_nobody() {
        return;
    }
    let bin = nobody::shared_dir();
    let (receiver, project) = (Receiver::start(), Project::new());
    // The agent ends when its child runs as the other user, and not before.
    let agent = format!(
        "setsid setpriv --reuid {NOBODY} --clear-groups sleep 1000 > /dev/null 2>&1 & echo $! > pid
         until grep -q '^Uid:.{NOBODY}' /proc/$!/status; do :; done"
    );
    let worker = Worker::new(&receiver, &project).env("PATH", path_without("bwrap", bin.path()));
    let worker = worker.agent(agent).started_by("setpriv", |program| {
        vec![
            "--bounding-set=-kill".into(),
            "--inh-caps=-kill".into(),
            program.into(),
        ]
    });
    worker.run().assert_completed(&receiver);
    let survivor = std::fs::read_to_string(project.path("pid")).unwrap();
    let survivor = survivor.trim().parse().ok().and_then(Pid::from_raw);
    let is_alive = kill_process(survivor.unwrap(), Signal::KILL).is_ok();
    assert_eq!(is_alive, !may_make_control_groups());
}

#[test]
fn a_git_that_the_workers_user_can_write_gets_no_token() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let forge = Forge::start(&origin.path(""), Some(TOKEN));
    let bin = nobody::shared_dir();
    let program = nobody::copy_worker(&bin);
    let path = path();
    let real_git = std::env::split_paths(&path).map(|dir| dir.join("git"));
    let real_git = quoted(real_git.into_iter().find(|git| git.exists()).expect("git"));
    let (git, environment) = (bin.path().join("git"), bin.path().join("environment"));
    crate::support::origin::write_program(
        &git,
        &format!("env >> {}; exec {real_git} \"$@\"", quoted(&environment)),
    );
    if nobody::is_root() {
        chown(&git, Some(NOBODY), Some(NOBODY)).unwrap();
        chown(bin.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut dirs = vec![bin.path().to_owned()];
    dirs.extend(std::env::split_paths(&path));
    let project = nobody::project();
    let worker = Worker::new(&receiver, &project)
        .remove_env("DESCARTES_WORKSPACE")
        .env("PATH", std::env::join_paths(dirs).unwrap())
        .env("TMPDIR", project.path("."))
        .env("DESCARTES_REPO", forge.url())
        .env("DESCARTES_GIT_TOKEN", TOKEN);
    let worker = worker
        .program(&program)
        .change_command(nobody::run_as_nobody);
    let event = worker
        .agent("true")
        .run()
        .assert_failed(&receiver, "workspace_failed");
    let failure = event["failure"].to_string();
    let words = "can be written by the agent's user, so it gets no credential";
    assert!(failure.contains(words), "{failure}");
    assert_eq!(
        forge
            .requests()
            .iter()
            .filter(|request| request.authorization.is_some())
            .count(),
        0
    );
    let environment = std::fs::read_to_string(&environment).unwrap_or_default();
    assert!(!environment.contains(TOKEN), "{environment}");
}

#[test]
fn a_remote_that_never_stops_printing_cannot_extend_a_push_beyond_its_time_limit() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let (begin, end) = (origin.path("begin"), origin.path("end"));
    let script = format!(
        ": > {}; until [ -e {} ]; do echo still here; sleep 0.1; done",
        quoted(&begin),
        quoted(&end)
    );
    origin.install_hook("pre-receive", &script);
    let worker = origin.worker(&receiver).env("DESCARTES_PUSH_TIMEOUT", "3s");
    // The idle timeout ends no attempt, because the remote is never silent for so long.
    let worker = worker.env("DESCARTES_GIT_IDLE_TIMEOUT", "60s");
    let ended = worker.agent("echo mine > mine").run();
    std::fs::write(&end, "").unwrap();
    let event = ended.assert_failed(&receiver, "push_failed");
    let message = event["failure"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("the work was not pushed within 3s"),
        "{message}"
    );
    assert_eq!(origin.branches(), ["main"]);
}

#[test]
fn the_launcher_for_a_namespace_starts_nothing_outside_of_a_namespace() {
    let dir = tempfile::tempdir().unwrap();
    let started = dir.path().join("started");
    let (mut test_side, launcher_side) = UnixStream::pair().unwrap();
    // The message that can carry a file descriptor for the program's standard input. It carries none, so the input is empty.
    test_side.write_all(b"I").unwrap();
    let mut launcher = Command::new(env!("CARGO_BIN_EXE_descartes-worker"));
    launcher
        .args([
            "launch",
            "pid-namespace",
            "no-pwd",
            "program",
            "/bin/sh",
            "-c",
        ])
        .arg(format!(": > {}", quoted(&started)))
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(launcher_side)));
    let status = launcher.status().unwrap();
    drop(launcher);
    assert_eq!(status.code(), Some(127));
    let mut message = Vec::new();
    test_side.read_to_end(&mut message).unwrap();
    // The launcher reports an error.
    assert_eq!(message.first(), Some(&b'E'));
    assert!(!started.exists());
}

/// The capabilities that an agent of root must not have: `PERFMON`, `SYS_ADMIN` and `SYS_PTRACE`.
const DROPPED_CAPABILITIES: u64 = 1 << 38 | 1 << 21 | 1 << 19;

#[test]
fn an_agent_of_root_cannot_read_other_processes_or_unmount_proc_with_and_without_bubblewrap() {
    let bin = nobody::shared_dir();
    for path in [path(), path_without("bwrap", bin.path())] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let agent = "[ $PPID != 1 ] || umount -l /proc 2>/dev/null; grep -h Cap /proc/self/status;
            cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c the-callback-token; true";
        let worker = Worker::new(&receiver, &project)
            .env("PATH", &path)
            .env("DESCARTES_CALLBACK_TOKEN", "the-callback-token");
        let event = worker.agent(agent).run().assert_completed(&receiver);
        let tail = event["result"]["output"]["tail"].as_str().unwrap();
        let sets = tail.lines().filter_map(|line| line.split_once(":\t"));
        let sets: Vec<_> = sets
            .filter(|(name, _)| ["CapPrm", "CapEff", "CapBnd"].contains(name))
            .map(|(_, bits)| u64::from_str_radix(bits, 16).unwrap())
            .collect();
        assert_eq!(sets.len(), 3, "{tail}");
        if nobody::is_root() {
            assert!(
                sets.iter().all(|bits| bits & DROPPED_CAPABILITIES == 0),
                "{tail}"
            );
        }
        assert!(tail.ends_with("\n0\n"), "{tail}");
    }
}

#[test]
fn other_processes_of_the_user_cannot_read_the_environment_of_local_demo_and_dispatch() {
    for command in ["local", "demo", "dispatch"] {
        let project = nobody::project();
        let bin = nobody::shared_dir();
        let worker = Worker::without_settings()
            .program(&nobody::copy_worker(&bin))
            .env("TMPDIR", project.path("."))
            .env("HOME", project.path("."))
            .env("DESCARTES_AGENT_COMMAND", "sleep 1000")
            .env("ANTHROPIC_API_KEY", "sk-ant-the-key")
            .dir(project.path("."))
            .arg(command);
        let worker = match command {
            "local" => worker.args(["--task", "8"]),
            _ => worker,
        };
        let running = worker.change_command(nobody::run_as_nobody).start();
        let file = format!("/proc/{}/environ", running.pid().as_raw_nonzero());
        // If other processes of its user cannot read a process, its files in /proc belong to root.
        wait_until("the process to be unreadable for others", || {
            use std::os::unix::fs::MetadataExt;
            std::fs::metadata(&file).is_ok_and(|found| found.uid() == 0)
        });
        running.signal(Signal::KILL);
        running.wait();
    }
}
