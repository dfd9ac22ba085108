//! Another user for the agent: `DESCARTES_AGENT_USER`. Only a worker that runs as root can use it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::support::nobody::{self, NOBODY};
use crate::support::{Origin, Project, Receiver, Worker, path, path_without};

use super::isolation_of;

/// The id of the user `nobody`, as the value of the setting.
const AGENT_UID: &str = "65534";

/// An agent that prints its user and its groups, and writes to all directories that must belong to its user.
const AGENT: &str = "id -u; id -G; echo mine > mine; : > \"$HOME/here\"; : > \"${TMPDIR:-/tmp}/of-$TASK_ID-$$\";
    cat \"$DESCARTES_PROMPT_FILE\" > /dev/null; git add mine; git -c user.name=a -c user.email=a@b commit -qm mine";

/// Asserts that the agent and its check run as `nobody`, and that the work is pushed; returns the word for the isolation.
fn assert_runs_as_nobody(origin: &Origin, receiver: &Receiver, worker: Worker) -> String {
    let worker = worker
        .env("DESCARTES_AGENT_USER", AGENT_UID)
        .env("DESCARTES_CHECKS", "test \"$(id -u)\" = 65534");
    let ended = worker.agent(AGENT).run();
    let event = ended.assert_completed(receiver);
    let tail = event["result"]["output"]["tail"].as_str().unwrap();
    assert_eq!(tail, "65534\n65534\n");
    let worker = &event["worker"];
    assert!(worker["agent_user"].is_string(), "{worker:#}");
    assert!(ended.stderr.contains("the agent runs as the user "));
    assert_eq!(origin.show("descartes/proj-456/8", "mine"), "mine");
    isolation_of(&event)
}

#[test]
fn the_agent_and_its_checks_run_as_another_user_who_owns_the_clone_with_and_without_bubblewrap() {
    if !nobody::is_root() {
        return assert_rejected_without_root();
    }
    let bin = nobody::shared_dir();
    let without_bubblewrap = path_without("bwrap", bin.path());
    for path in [path(), without_bubblewrap.clone()] {
        let (receiver, origin) = (Receiver::start(), Origin::in_dir(nobody::shared_dir()));
        let temporary_dir = nobody::shared_dir();
        let worker = origin.worker(&receiver).env("PATH", &path);
        let worker = worker.env("TMPDIR", temporary_dir.path());
        let word = assert_runs_as_nobody(&origin, &receiver, worker);
        if path == without_bubblewrap {
            assert_ne!(word, "pid-namespace");
        }
    }
}

#[test]
fn the_files_of_the_agents_user_are_pushed_although_the_repository_is_damaged() {
    if !nobody::is_root() {
        return assert_rejected_without_root();
    }
    let (receiver, origin) = (Receiver::start(), Origin::in_dir(nobody::shared_dir()));
    let temporary_dir = nobody::shared_dir();
    let worker = origin.worker(&receiver).env("TMPDIR", temporary_dir.path());
    let worker = worker.env("DESCARTES_AGENT_USER", AGENT_UID);
    let worker = worker.agent("echo mine > mine; rm -rf .git/HEAD .git/refs");
    worker.run().assert_completed(&receiver);
    assert_eq!(origin.show("descartes/proj-456/8", "mine"), "mine");
}

/// Asserts that a worker that does not run as root rejects the setting.
fn assert_rejected_without_root() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = Worker::new(&receiver, &project).env("DESCARTES_AGENT_USER", "1");
    let ended = worker.agent("true").run();
    ended.assert_code(2);
    let words = "DESCARTES_AGENT_USER: \"1\" needs a worker that runs as root";
    assert!(ended.stderr.contains(words), "{ended:#?}");
}

#[test]
fn an_unknown_user_root_and_a_run_without_isolation_are_invalid_settings() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let run = |user: &str| {
        let worker = Worker::new(&receiver, &project).without_isolation();
        worker.env("DESCARTES_AGENT_USER", user).agent("true").run()
    };
    for (user, words) in [
        (
            "no such user",
            "is not a user in /etc/passwd, and not a user id",
        ),
        ("root", "is root; name a user without root's rights"),
    ] {
        let ended = run(user);
        ended.assert_code(2);
        assert!(ended.stderr.contains(words), "{ended:#?}");
    }
    if nobody::is_root() {
        let ended = run(AGENT_UID);
        ended.assert_code(2);
        assert!(ended.stderr.contains("needs isolation"), "{ended:#?}");
    }
}

#[test]
fn a_project_of_another_user_is_refused_before_the_agent_starts() {
    if !nobody::is_root() {
        return assert_rejected_without_root();
    }
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = || {
        let worker = Worker::new(&receiver, &project).env("DESCARTES_AGENT_USER", AGENT_UID);
        worker.agent(": > started")
    };
    let event = worker().run().assert_failed(&receiver, "workspace_failed");
    let message = event["failure"]["message"].as_str().unwrap();
    assert!(
        message.contains("does not belong to DESCARTES_AGENT_USER"),
        "{message}"
    );
    assert!(!project.path("started").exists());
    let check = worker().arg("check").run();
    check.assert_code(2);
    assert!(check.stdout.contains("does not belong to"), "{check:#?}");
}

#[test]
fn a_directory_that_the_agents_user_cannot_enter_is_reported_before_the_agent_starts() {
    if !nobody::is_root() {
        return assert_rejected_without_root();
    }
    let (receiver, project) = (Receiver::start(), nobody::project());
    let closed = tempfile::tempdir().unwrap();
    std::fs::set_permissions(closed.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let worker = || {
        let worker = Worker::new(&receiver, &project).env("DESCARTES_AGENT_USER", AGENT_UID);
        let worker = worker.env("TMPDIR", closed.path());
        worker.agent(": > started")
    };
    let event = worker().run().assert_failed(&receiver, "workspace_failed");
    assert_eq!(event["failure"]["retryable"], false);
    let message = event["failure"]["message"].as_str().unwrap();
    let dir = closed.path().display();
    assert!(
        message.contains(&format!(", cannot enter {dir}")),
        "{message}"
    );
    assert!(!project.path("started").exists());
    let check = worker().arg("check").run();
    check.assert_code(2);
    assert!(check.stdout.contains("cannot enter"), "{check:#?}");
}

#[test]
fn in_an_existing_project_the_agents_files_belong_to_the_agents_user() {
    if !nobody::is_root() {
        return assert_rejected_without_root();
    }
    let (receiver, project) = (Receiver::start(), nobody::project());
    let temporary_dir = nobody::shared_dir();
    let worker = Worker::new(&receiver, &project).env("DESCARTES_AGENT_USER", AGENT_UID);
    let worker = worker.env("TMPDIR", temporary_dir.path());
    let worker = worker.agent(
        "echo mine > mine; cat /proc/$PPID/environ 2>&1 | tr '\\0' '\\n' | grep -c TASK_ID; true",
    );
    worker.run().assert_completed(&receiver);
    let found = std::fs::metadata(project.path("mine")).unwrap();
    assert_eq!(found.uid(), NOBODY);
}

#[test]
fn check_accepts_a_sample_of_root_because_a_run_works_on_a_copy_for_the_agents_user() {
    if !nobody::is_root() {
        return assert_rejected_without_root();
    }
    let (receiver, project) = (Receiver::start(), Project::new());
    let temporary_dir = nobody::shared_dir();
    project.write(".descartes.toml", "sample = \"small\"\n");
    project.write("small/.scud/tasks/tasks.scg", project.graph());
    let worker = || {
        let worker = Worker::new(&receiver, &project).remove_env("DESCARTES_WORKSPACE");
        let worker = worker
            .dir(project.dir())
            .env("TMPDIR", temporary_dir.path());
        worker.env("DESCARTES_AGENT_USER", AGENT_UID).agent("true")
    };
    worker().arg("check").run().assert_code(0);
    worker().run().assert_completed(&receiver);
}
