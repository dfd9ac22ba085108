//! For whoever waits for branches: where the work goes, that nothing is overwritten, and what is
//! left where it cannot go anywhere.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    Forge, Mood, Origin, Receiver, Reply, assert_within, is_under_load, quoted, setting,
    wait_until, with_enough_time,
};

const BRANCH: &str = "descartes/proj-456/8";
const TOKEN: &str = "ghp_Hk3nQ8zLw1vT6yXc";

/// An agent that leaves something, says so, and stays.
const STAYS: &str = "echo half > half; echo here; exec sleep 6000";
/// The worker's stop window if nothing else is set.
const DEFAULT_WINDOW: Duration = Duration::from_secs(5);

/// Whether the agent's file has its content; the shell creates the file before it writes.
fn half_is_written(origin: &Origin) -> bool {
    let content = std::fs::read_to_string(origin.workspace().join("half"));
    content.is_ok_and(|content| content == "half\n")
}

#[test]
fn a_branch_that_is_taken_stays_and_the_work_gets_its_own() {
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
    let event = receiver.only("completed");
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
        receiver.only("completed")["result"]["work"]["branch"],
        "main-run-7---x"
    );
    assert_eq!(
        origin.git(&["log", "-1", "--format=%s", "main"]),
        "meanwhile"
    );
}

#[test]
fn a_branch_that_only_lacks_the_work_gets_it() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let worker = origin.worker(&receiver).env("DESCARTES_BRANCH", "main");
    worker.agent("echo mine > mine").run().assert_code(0);
    assert_eq!(origin.branches(), ["main"]);
    assert_eq!(origin.show("main", "mine"), "mine");
}

#[test]
fn every_task_and_project_makes_a_branch_that_git_allows() {
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
        // Most of them are not in the graph; the branch is the worker's all the same.
        let code = worker.agent("git branch --show-current").run().code;
        let said = receiver.said();
        let branches = origin.branches();
        if code == Some(0) {
            assert!(branches.contains(&branch.to_owned()), "{branches:?}");
        } else {
            assert_eq!(
                said.last().unwrap().event["failure"]["reason"],
                "task_not_found"
            );
        }
        let head = std::fs::read_to_string(origin.workspace().join(".git/HEAD")).unwrap();
        assert_eq!(head.trim(), format!("ref: refs/heads/{branch}"));
        let valid = Command::new("git")
            .args(["check-ref-format", "--branch", branch])
            .output();
        assert!(valid.unwrap().status.success(), "{branch}");
    }
}

/// The failure of a task whose work could not be pushed; the patch must be there.
#[track_caller]
fn unpushed(receiver: &Receiver) -> Value {
    assert_eq!(receiver.story(), ["started", "failed"]);
    let event = receiver.only("failed");
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
fn a_remote_that_refuses_is_quoted_and_not_asked_again() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    origin.hook(
        "pre-receive",
        "echo asked >> asked; echo 'no work on sundays' >&2; exit 1",
    );
    origin
        .worker(&receiver)
        .agent("echo mine > mine")
        .run()
        .assert_code(1);
    let failure = unpushed(&receiver);
    let detail = failure["detail"].as_str().unwrap();
    assert!(
        detail.contains("no work on sundays") && detail.contains("pre-receive hook declined"),
        "{detail}"
    );
    let asked = std::fs::read_to_string(origin.path("project.git/asked")).unwrap();
    assert_eq!(asked, "asked\n");
}

#[test]
fn credentials_that_are_revoked_meanwhile_leave_the_patch() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let forge = Forge::start(&origin.path(""), Some(TOKEN));
    forge.mood_for_pushes(Mood::Revoked);
    let worker = origin.worker(&receiver).env("DESCARTES_REPO", forge.url());
    let worker = worker.env("DESCARTES_GIT_TOKEN", TOKEN);
    let ended = worker.agent("echo mine > mine").run();
    ended.assert_code(1);
    let failure = unpushed(&receiver);
    assert_eq!(failure["retryable"], false);
    assert!(
        failure["detail"]
            .as_str()
            .unwrap()
            .contains("Authentication failed"),
        "{failure}"
    );
    let asked = forge
        .journal()
        .into_iter()
        .filter(|(asked, sent)| asked.contains("receive-pack") && sent.is_some());
    assert_eq!(asked.count(), 1);
    assert!(!ended.stderr.contains(TOKEN));
}

#[test]
fn a_remote_that_is_away_for_a_moment_gets_the_work_when_it_is_back() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let forge = Forge::start(&origin.path(""), None);
    forge.mood_for_pushes(Mood::Gone);
    let worker = origin.worker(&receiver).env("DESCARTES_REPO", forge.url());
    let running = worker.agent("echo mine > mine").start();
    let asked = || {
        forge
            .journal()
            .iter()
            .any(|(asked, _)| asked.contains("receive-pack"))
    };
    wait_until("a push", asked);
    forge.mood_for_pushes(Mood::Serving);
    running.wait().assert_code(0);
    assert_eq!(origin.show(BRANCH, "mine"), "mine");
}

#[test]
fn a_remote_that_is_gone_leaves_the_patch() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let agent = format!(
        "echo mine > mine; mv {0} {0}.away",
        quoted(origin.path("project.git"))
    );
    origin.worker(&receiver).agent(&agent).run().assert_code(1);
    let failure = unpushed(&receiver);
    assert!(
        failure["detail"]
            .as_str()
            .unwrap()
            .contains("does not appear to be a git repository"),
        "{failure}"
    );
}

/// The work of a task that was not done, which must be on the branch beside the task's.
#[track_caller]
fn so_far(origin: &Origin, receiver: &Receiver, reason: &str) {
    let event = receiver.only("failed");
    assert_eq!(event["failure"]["reason"], reason, "{event}");
    let work = &event["result"]["work"];
    assert_eq!(work["branch"], format!("{BRANCH}-wip"));
    assert_eq!(work["pushed"], true);
    assert!(work["patch"].as_str().unwrap().contains("+half"));
    assert_eq!(
        origin.branches(),
        [format!("{BRANCH}-wip"), "main".to_owned()]
    );
    let wip = format!("{BRANCH}-wip");
    assert_eq!(origin.show(&wip, "half"), "half");
    // The graph says that the task is still to be done.
    assert!(
        origin
            .show(&wip, ".scud/tasks/tasks.scg")
            .contains("house | P |")
    );
}

#[test]
fn what_a_failed_agent_did_is_kept_beside() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    origin
        .worker(&receiver)
        .agent("echo half > half; exit 1")
        .run()
        .assert_code(1);
    so_far(&origin, &receiver, "agent_failed");
}

#[test]
fn what_was_done_when_the_time_was_up_is_kept_beside() {
    with_enough_time(Duration::from_secs(2), |limit| {
        let (receiver, origin) = (Receiver::start(), Origin::new());
        let worker = origin
            .worker(&receiver)
            .env("DESCARTES_TASK_TIMEOUT", setting(limit));
        worker.agent(STAYS).run().assert_code(1);
        if !origin.workspace().join("half").exists() {
            return Err("the agent did nothing".to_owned());
        }
        so_far(&origin, &receiver, "timed_out");
        Ok(())
    });
}

#[test]
fn what_was_done_when_the_task_was_cancelled_is_kept_beside() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let running = origin
        .worker(&receiver)
        .env("DESCARTES_HEARTBEAT", "50ms")
        .agent(STAYS)
        .start();
    wait_until("the agent's file", || half_is_written(&origin));
    receiver.always("progress", Reply::json(200, r#"{"cancel": true}"#));
    running.wait().assert_code(1);
    so_far(&origin, &receiver, "cancelled");
}

#[test]
fn what_was_done_when_a_signal_came_is_kept_beside_within_the_default_window() {
    // The second agent does not go by itself.
    for agent in [
        STAYS,
        "trap '' TERM; echo half > half; while :; do sleep 1; done",
    ] {
        with_enough_time(DEFAULT_WINDOW, |window| {
            let (receiver, origin) = (Receiver::start(), Origin::new());
            let running = origin
                .worker(&receiver)
                .env("DESCARTES_STOP_WINDOW", setting(window))
                .agent(agent)
                .start();
            wait_until("the agent's file", || half_is_written(&origin));
            let told = Instant::now();
            running.signal(Signal::TERM);
            let ended = running.wait();
            assert_within(window, told.elapsed());
            let pushed = ended.code == Some(1)
                && receiver.only("failed")["result"]["work"]["pushed"] == true;
            if !pushed && is_under_load() {
                return Err(format!("the work was not pushed: {ended:?}"));
            }
            ended.assert_code(1);
            so_far(&origin, &receiver, "interrupted");
            Ok(())
        });
    }
}

#[test]
fn a_push_that_hangs_ends_with_the_window_and_not_later() {
    with_enough_time(DEFAULT_WINDOW, push_that_hangs);
}

fn push_that_hangs(window: Duration) -> Result<(), String> {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    origin.hook("pre-receive", "touch asked; exec sleep 6000");
    let running = origin
        .worker(&receiver)
        .env("DESCARTES_STOP_WINDOW", setting(window))
        .agent("echo mine > mine")
        .start();
    wait_until("the hook", || origin.path("project.git/asked").exists());
    let told = Instant::now();
    running.signal(Signal::TERM);
    let ended = running.wait();
    assert_within(window, told.elapsed());
    if ended.code == Some(3) && is_under_load() {
        return Err("the failure was not delivered".to_owned());
    }
    ended.assert_code(1);
    let event = receiver.only("failed");
    assert_eq!(event["failure"]["reason"], "interrupted");
    assert_eq!(
        event["failure"]["message"],
        "the worker was stopped by SIGTERM before the work was pushed"
    );
    assert!(
        event["result"]["work"]["patch"]
            .as_str()
            .unwrap()
            .contains("+mine")
    );
    Ok(())
}

#[test]
fn a_branch_whose_name_another_branch_blocks_falls_back_at_once() {
    for blocking in ["descartes", "descartes/proj-456/8/x"] {
        let (receiver, origin) = (Receiver::start(), Origin::new());
        origin.git(&["branch", blocking, "main"]);
        let ended = origin.worker(&receiver).agent("echo mine > mine").run();
        ended.assert_code(0);
        let event = receiver.only("completed");
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
        let worker = origin
            .worker(&receiver)
            .env("DESCARTES_WORKSPACE", origin.path(&format!("workspace-{attempt}")));
        // Another commit each time.
        let agent = format!("echo {attempt} > mine");
        worker.agent(agent).run().assert_code(0);
        let event = receiver.only("completed");
        let work = &event["result"]["work"];
        assert_eq!(work["branch"], BRANCH);
        assert_eq!(work["head_commit"], origin.git(&["rev-parse", BRANCH]));
        let message = event["message"].as_str().unwrap();
        let is_again = message.contains("pushed by an earlier worker of this run");
        assert_eq!(is_again, attempt > 1, "{message}");
        assert_eq!(origin.show(BRANCH, "mine"), "1");
        assert_eq!(origin.branches(), [BRANCH, "main"]);
    }
}

#[test]
fn a_branch_with_the_runs_suffix_that_is_taken_too_gets_a_number() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    origin.commit(&[("theirs", "theirs")]);
    for branch in ["descartes/proj-456/8", "descartes/proj-456/8-run-1", "descartes-proj-456-8-run-1"] {
        origin.git(&["branch", branch, "main"]);
    }
    origin.git(&["update-ref", "refs/heads/main", "main~1"]);
    let worker = origin.worker(&receiver).agent("echo mine > mine");
    worker.run().assert_code(0);
    let branch = &receiver.only("completed")["result"]["work"]["branch"];
    assert_eq!(*branch, "descartes/proj-456/8-run-1-2");
}

#[test]
fn a_cancellation_ends_a_push_that_hangs() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let begun = origin.path("begun");
    origin.hook("pre-receive", &format!(": > {}; exec sleep 1000", quoted(&begun)));
    let worker = origin.worker(&receiver).env("DESCARTES_HEARTBEAT", "20ms");
    let worker = worker.agent("echo mine > mine").start();
    wait_until("the push to begin", || begun.exists());
    receiver.always("progress", Reply::json(200, r#"{"cancel": true}"#));
    worker.wait().assert_code(1);
    let failure = &receiver.only("failed")["failure"];
    assert_eq!(failure["reason"], "cancelled");
    let message = "the orchestrator cancelled the task before the work was pushed";
    assert_eq!(failure["message"], message);
}

#[test]
fn a_git_that_the_agent_has_rewritten_gets_no_credential() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let forge = Forge::start(&origin.path(""), Some(TOKEN));
    let (git, stolen) = (origin.path("bin/git"), origin.path("stolen"));
    let path = crate::support::path();
    let real = std::env::split_paths(&path)
        .map(|dir| dir.join("git"))
        .find(|git| git.exists());
    let real = quoted(real.expect("git"));
    crate::support::origin::program(&git, &format!("exec {real} \"$@\""));
    let mut dirs = vec![origin.path("bin")];
    dirs.extend(std::env::split_paths(&path));
    let rewrite = format!(
        "echo mine > mine; cat > {git} <<'END'\n#!/bin/sh\nenv >> {stolen}\nexec {real} \"$@\"\nEND",
        stolen = quoted(&stolen),
        git = quoted(&git),
    );
    let worker = origin
        .worker(&receiver)
        .env("PATH", std::env::join_paths(dirs).unwrap())
        .env("DESCARTES_REPO", forge.url())
        .env("DESCARTES_GIT_TOKEN", TOKEN);
    worker.agent(rewrite).run().assert_code(1);
    let failure = &receiver.only("failed")["failure"];
    assert_eq!(failure["reason"], "push_failed");
    assert_eq!(failure["retryable"], false);
    let detail = failure["detail"].as_str().unwrap();
    let words = "was changed since the worker started, so it gets no credential";
    assert!(detail.contains(words), "{detail}");
    let stolen = std::fs::read_to_string(&stolen).unwrap_or_default();
    assert!(!stolen.contains(TOKEN), "{stolen}");
}
