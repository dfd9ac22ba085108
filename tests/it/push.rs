//! For people who use the pushed branches: the name of the branch; no work of others is overwritten; the terminal event has the patch if
//! the worker cannot push.

mod partial_work;

use std::process::Command;

use serde_json::Value;

use crate::support::{Forge, Origin, Receiver, Reply, ServerBehavior, nobody, quoted, wait_until};

/// The branch to which workers for task 8 push by default.
const BRANCH: &str = "descartes/proj-456/8";

/// The git token of the worker.
const TOKEN: &str = "ghp_Hk3nQ8zLw1vT6yXc";

#[test]
fn a_branch_with_other_work_stays_and_the_work_goes_to_another_branch() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    origin.commit(&[("theirs", "theirs")]);
    origin.git(&["branch", BRANCH, "main"]);
    let theirs = origin.git(&["rev-parse", BRANCH]);
    origin.git(&["update-ref", "refs/heads/main", "main~1"]);
    origin
        .worker(&receiver)
        .agent("echo mine > mine")
        .run()
        .assert_code(0);
    let event = receiver.only_event("completed");
    assert_eq!(event["result"]["work"]["branch"], format!("{BRANCH}-run-1"));
    assert_eq!(origin.git(&["rev-parse", BRANCH]), theirs);
    assert_eq!(origin.show(&format!("{BRANCH}-run-1"), "mine"), "mine");
}

#[test]
fn a_branch_that_moves_while_the_agent_works_is_not_overwritten() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let seed = origin.path("seed");
    let agent = format!(
        "echo mine > mine; cd {} && git -c user.name=a -c user.email=b commit -q --allow-empty -m meanwhile && git push -q {} HEAD:main",
        quoted(&seed),
        quoted(origin.url())
    );
    let worker = origin.worker(&receiver).env("DESCARTES_BRANCH", "main");
    worker
        .env("DESCARTES_RUN_ID", "run/7:..x")
        .agent(&agent)
        .run()
        .assert_code(0);
    assert_eq!(
        receiver.only_event("completed")["result"]["work"]["branch"],
        "main-run-7---x"
    );
    assert_eq!(
        origin.git(&["log", "-1", "--format=%s", "main"]),
        "meanwhile"
    );
}

#[test]
fn an_unchanged_branch_that_exists_gets_the_work() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let worker = origin.worker(&receiver).env("DESCARTES_BRANCH", "main");
    worker.agent("echo mine > mine").run().assert_code(0);
    assert_eq!(origin.branches(), ["main"]);
    assert_eq!(origin.show("main", "mine"), "mine");
}

#[test]
fn every_task_and_project_id_gives_a_valid_branch_name() {
    for (project, task, branch) in [
        ("proj-456", "8", "descartes/proj-456/8"),
        (
            "a b~c^d:e?f*g[h\\i",
            "webapp:8",
            "descartes/a-b-c-d-e-f-g-h-i/webapp-8",
        ),
        ("..", "8.lock", "descartes/_/8"),
        (".a..b.", "8.lock.lock", "descartes/a--b/8"),
        ("x/y@{1}", "-8", "descartes/x-y--1-/8"),
        ("größe 1", "8.", "descartes/größe-1/8"),
    ] {
        let (receiver, origin) = (Receiver::start(), Origin::new());
        let worker = origin
            .worker(&receiver)
            .env("PROJECT_ID", project)
            .env("TASK_ID", task);
        // Most of these tasks are not in the graph, but the branch is made from the settings before that is known.
        let code = worker.agent("git branch --show-current").run().code;
        let requests = receiver.requests();
        let branches = origin.branches();
        if code == Some(0) {
            assert!(branches.contains(&branch.to_owned()), "{branches:?}");
        } else {
            assert_eq!(
                requests.last().unwrap().event["failure"]["reason"],
                "task_not_found"
            );
        }
        let head = std::fs::read_to_string(origin.workspace().join(".git/HEAD")).unwrap();
        assert_eq!(head.trim(), format!("ref: refs/heads/{branch}"));
        let check = Command::new("git")
            .args(["check-ref-format", "--branch", branch])
            .output();
        assert!(check.unwrap().status.success(), "{branch}");
    }
}

/// Asserts that the task failed because its work could not be pushed, and that the terminal event has the patch; returns the failure.
#[track_caller]
fn assert_push_failed(receiver: &Receiver) -> Value {
    assert_eq!(receiver.routes(), ["started", "failed"]);
    let event = receiver.only_event("failed");
    assert_eq!(event["failure"]["reason"], "push_failed", "{event}");
    let work = &event["result"]["work"];
    assert_eq!(
        (&work["pushed"], &work["branch"]),
        (&false.into(), &Value::Null)
    );
    assert!(work["patch"].as_str().unwrap().contains("+mine"), "{work}");
    event["failure"].clone()
}

#[test]
fn a_rejected_push_is_not_retried_and_the_remotes_message_is_quoted() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    origin.install_hook(
        "pre-receive",
        "echo run >> runs; echo 'no work on sundays' >&2; exit 1",
    );
    origin
        .worker(&receiver)
        .agent("echo mine > mine")
        .run()
        .assert_code(1);
    let failure = assert_push_failed(&receiver);
    let detail = failure["detail"].as_str().unwrap();
    assert!(
        detail.contains("no work on sundays") && detail.contains("pre-receive hook declined"),
        "{detail}"
    );
    let runs = std::fs::read_to_string(origin.path("project.git/runs")).unwrap();
    assert_eq!(runs, "run\n");
}

#[test]
fn the_terminal_event_has_the_patch_if_the_credentials_are_revoked_during_the_run() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let forge = Forge::start(&origin.path(""), Some(TOKEN));
    forge.set_behavior_for_pushes(ServerBehavior::RejectCredentials);
    let worker = origin.worker(&receiver).env("DESCARTES_REPO", forge.url());
    let worker = worker.env("DESCARTES_GIT_TOKEN", TOKEN);
    let ended = worker.agent("echo mine > mine").run();
    ended.assert_code(1);
    let failure = assert_push_failed(&receiver);
    assert_eq!(failure["retryable"], false);
    assert!(
        failure["detail"]
            .as_str()
            .unwrap()
            .contains("Authentication failed"),
        "{failure}"
    );
    let pushes = forge
        .requests()
        .into_iter()
        .filter(|request| request.line.contains("receive-pack") && request.authorization.is_some());
    assert_eq!(pushes.count(), 1);
    assert!(!ended.stderr.contains(TOKEN));
}

#[test]
fn a_push_is_retried_if_the_remote_is_unreachable_for_a_short_time() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let forge = Forge::start(&origin.path(""), None);
    forge.set_behavior_for_pushes(ServerBehavior::CloseConnections);
    let worker = origin.worker(&receiver).env("DESCARTES_REPO", forge.url());
    let running = worker.agent("echo mine > mine").start();
    let has_push = || {
        forge
            .requests()
            .iter()
            .any(|request| request.line.contains("receive-pack"))
    };
    wait_until("a push", has_push);
    forge.set_behavior_for_pushes(ServerBehavior::Serve);
    running.wait().assert_code(0);
    assert_eq!(origin.show(BRANCH, "mine"), "mine");
}

#[test]
fn the_terminal_event_has_the_patch_if_the_remote_has_disappeared() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let agent = format!(
        "echo mine > mine; mv {0} {0}.away",
        quoted(origin.path("project.git"))
    );
    origin.worker(&receiver).agent(&agent).run().assert_code(1);
    let failure = assert_push_failed(&receiver);
    assert!(
        failure["detail"]
            .as_str()
            .unwrap()
            .contains("does not appear to be a git repository"),
        "{failure}"
    );
}

#[test]
fn the_work_goes_to_another_branch_at_once_if_a_branch_blocks_the_name() {
    for blocking in ["descartes", "descartes/proj-456/8/x"] {
        let (receiver, origin) = (Receiver::start(), Origin::new());
        origin.git(&["branch", blocking, "main"]);
        let ended = origin.worker(&receiver).agent("echo mine > mine").run();
        ended.assert_code(0);
        let event = receiver.only_event("completed");
        let branch = event["result"]["work"]["branch"].as_str().unwrap();
        assert!(branch.ends_with("-run-1"), "{branch}");
        assert_eq!(origin.show(branch, "mine"), "mine");
        assert!(!ended.stderr.contains("trying again"), "{ended:#?}");
    }
}

#[test]
fn a_worker_that_is_started_again_with_the_same_run_id_pushes_nothing_twice() {
    let origin = Origin::new();
    for attempt in 1..=3 {
        let receiver = Receiver::start();
        let worker = origin.worker(&receiver).env(
            "DESCARTES_WORKSPACE",
            origin.path(&format!("workspace-{attempt}")),
        );
        // Each worker makes another commit.
        let agent = format!("echo {attempt} > mine");
        worker.agent(agent).run().assert_code(0);
        let event = receiver.only_event("completed");
        let work = &event["result"]["work"];
        assert_eq!(work["branch"], BRANCH);
        assert_eq!(work["head_commit"], origin.git(&["rev-parse", BRANCH]));
        let message = event["message"].as_str().unwrap();
        let says_so = message.contains("pushed by an earlier worker of this run");
        assert_eq!(says_so, attempt > 1, "{message}");
        assert_eq!(origin.show(BRANCH, "mine"), "1");
        assert_eq!(origin.branches(), [BRANCH, "main"]);
    }
}

#[test]
fn a_number_is_added_if_the_branch_with_the_runs_suffix_exists_too() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    origin.commit(&[("theirs", "theirs")]);
    for branch in [
        "descartes/proj-456/8",
        "descartes/proj-456/8-run-1",
        "descartes-proj-456-8-run-1",
    ] {
        origin.git(&["branch", branch, "main"]);
    }
    origin.git(&["update-ref", "refs/heads/main", "main~1"]);
    let worker = origin.worker(&receiver).agent("echo mine > mine");
    worker.run().assert_code(0);
    let branch = &receiver.only_event("completed")["result"]["work"]["branch"];
    assert_eq!(*branch, "descartes/proj-456/8-run-1-2");
}

#[test]
fn a_cancellation_ends_a_push_that_hangs() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let begin = origin.path("begin");
    origin.install_hook(
        "pre-receive",
        &format!(": > {}; exec sleep 1000", quoted(&begin)),
    );
    let worker = origin.worker(&receiver).env("DESCARTES_HEARTBEAT", "20ms");
    let worker = worker.agent("echo mine > mine").start();
    wait_until("the push to begin", || begin.exists());
    receiver.set_default_reply("progress", Reply::json(200, r#"{"cancel": true}"#));
    worker.wait().assert_code(1);
    let failure = &receiver.only_event("failed")["failure"];
    assert_eq!(failure["reason"], "cancelled");
    let message = "the orchestrator cancelled the task before the work was pushed";
    assert_eq!(failure["message"], message);
}

#[test]
fn a_git_that_the_agent_has_rewritten_gets_no_credential() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let forge = Forge::start(&origin.path(""), Some(TOKEN));
    let (git, environment) = (origin.path("bin/git"), origin.path("environment"));
    let path = crate::support::path();
    let real_git = std::env::split_paths(&path)
        .map(|dir| dir.join("git"))
        .find(|git| git.exists());
    let real_git = quoted(real_git.expect("git"));
    crate::support::origin::write_program(&git, &format!("exec {real_git} \"$@\""));
    let mut dirs = vec![origin.path("bin")];
    dirs.extend(std::env::split_paths(&path));
    let rewrite = format!(
        "echo mine > mine; cat > {git} <<'END'\n#!/bin/sh\nenv >> {environment}\nexec {real_git} \"$@\"\nEND",
        environment = quoted(&environment),
        git = quoted(&git),
    );
    let worker = origin
        .worker(&receiver)
        .env("PATH", std::env::join_paths(dirs).unwrap())
        .env("DESCARTES_REPO", forge.url())
        .env("DESCARTES_GIT_TOKEN", TOKEN);
    worker.agent(rewrite).run().assert_code(1);
    let failure = &receiver.only_event("failed")["failure"];
    // A user who is not root owns the program, and can write it before the clone, so already the clone fails.
    let (reason, words) = if nobody::is_root() {
        ("push_failed", "was changed since the worker started")
    } else {
        ("workspace_failed", "can be written by the agent's user")
    };
    assert_eq!(failure["reason"], reason);
    assert_eq!(failure["retryable"], false);
    let failure = failure.to_string();
    let words = format!("{words}, so it gets no credential");
    assert!(failure.contains(&words), "{failure}");
    let environment = std::fs::read_to_string(&environment).unwrap_or_default();
    assert!(!environment.contains(TOKEN), "{environment}");
}
