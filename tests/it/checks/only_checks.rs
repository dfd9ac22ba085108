//! A run that only checks a commit.

use serde_json::{Value, json};

use super::checks;
use crate::support::{Origin, Project, Receiver, Worker};

/// A repository with two checks; the second one needs a file.
fn origin_with_checks() -> Origin {
    let config = "[swarm.backpressure]\ncommands = [\"echo one\", \"cat house\"]\n";
    Origin::with_files(&[("README", "A house.\n"), (".scud/config.toml", config)])
}

#[test]
fn a_run_that_only_checks_runs_the_checks_of_one_commit_and_pushes_nothing() {
    let origin = origin_with_checks();
    let good = origin.commit(&[("house", "four walls\n")]);
    origin.commit(&[("house", "no roof\n")]);
    let branches = origin.branches();
    let receiver = Receiver::start();
    // There is no such task, and no such agent.
    let event = origin
        .worker(&receiver)
        .env("TASK_ID", "99")
        .env("DESCARTES_ONLY_CHECKS", "true")
        .env("DESCARTES_REF", &good)
        .agent("touch \"$HOME\"/worked")
        .run()
        .assert_completed(&receiver);
    assert_eq!(
        checks(&event),
        [
            ("echo one", json!(0), "one\n"),
            ("cat house", json!(0), "four walls\n")
        ]
    );
    assert_eq!(event["message"], "all 2 checks passed");
    assert_eq!(event["result"]["agent"], Value::Null);
    assert_eq!(event["result"]["work"], Value::Null);
    assert_eq!(
        receiver.only_event("started")["worker"]["agent"],
        Value::Null
    );
    assert_eq!(origin.branches(), branches);
    assert!(!origin.path("home/worked").exists());
}

#[test]
fn a_run_that_only_checks_reports_the_check_that_failed_and_starts_no_repair() {
    let (origin, receiver) = (origin_with_checks(), Receiver::start());
    let branches = origin.branches();
    let event = origin
        .worker(&receiver)
        .arg("--only-checks")
        .env("DESCARTES_CHECKS", "echo a > made; echo no roof; exit 3")
        .agent("touch \"$HOME\"/worked")
        .run()
        .assert_failed(&receiver, "checks_failed");
    assert_eq!(
        checks(&event),
        [("echo a > made; echo no roof; exit 3", json!(3), "no roof\n")]
    );
    assert_eq!(event["failure"]["detail"], "no roof\n");
    assert_eq!(origin.branches(), branches);
    assert!(!origin.path("home/worked").exists());
}

#[test]
fn check_needs_neither_task_nor_agent_for_a_run_that_only_checks() {
    let (receiver, project) = (Receiver::start(), Project::empty());
    project.set_checks(&["true"]);
    let ended = Worker::new(&receiver, &project)
        .env("DESCARTES_ONLY_CHECKS", "true")
        .arg("check")
        .run();
    ended.assert_code(0);
    assert!(
        ended.stdout.contains("ok      checks: true\n"),
        "{ended:#?}"
    );
    assert!(!ended.stdout.contains(" agent: "), "{ended:#?}");
}
