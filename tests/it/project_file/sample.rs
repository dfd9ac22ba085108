//! A project whose `.descartes.toml` names a sample.

use std::fs;

use super::worker_in;
use crate::support::project::GRAPH;
use crate::support::{Origin, Project, Receiver, Worker, path};

/// A project that names a sample in `examples/small`.
fn project_with_sample() -> Project {
    let project = Project::empty();
    project.write(".descartes.toml", "sample = \"examples/small\"\n");
    let sample = "agent_command = \"echo work > hello; pwd\"\n";
    project.write("examples/small/.descartes.toml", sample);
    project.write("examples/small/hello", "start\n");
    project.write("examples/small/.scud/tasks/tasks.scg", GRAPH);
    project
}

#[test]
fn a_worker_that_is_started_in_a_project_with_a_sample_works_on_a_copy_that_it_deletes() {
    let (receiver, project) = (Receiver::start(), project_with_sample());
    let temporary_dir = tempfile::tempdir().expect("a temporary directory");
    let worker = worker_in(&project, &receiver).env("TMPDIR", temporary_dir.path());
    let event = worker.run().assert_completed(&receiver);
    let output = event["result"]["output"]["tail"]
        .as_str()
        .expect("the output");
    assert!(output.contains("/descartes-sample-"), "{output}");
    assert_eq!(project.read("examples/small/hello"), "start\n");
    assert_eq!(project.read("examples/small/.scud/tasks/tasks.scg"), GRAPH);
    assert_eq!(
        fs::read_dir(temporary_dir.path())
            .expect("a directory")
            .count(),
        0
    );
}

#[test]
fn the_copy_of_a_sample_stays_if_the_settings_say_so() {
    let (receiver, project) = (Receiver::start(), project_with_sample());
    let temporary_dir = tempfile::tempdir().expect("a temporary directory");
    worker_in(&project, &receiver)
        .env("TMPDIR", temporary_dir.path())
        .arg("--keep-workspace")
        .run()
        .assert_completed(&receiver);
    let mut entries = fs::read_dir(temporary_dir.path()).expect("a directory");
    let copy = entries.next().expect("the copy").expect("an entry").path();
    assert_eq!(
        fs::read_to_string(copy.join("hello")).expect("a file"),
        "work\n"
    );
}

#[test]
fn a_sample_is_ignored_if_the_settings_name_a_workspace_or_a_repository() {
    let receiver = Receiver::start();
    let project = project_with_sample();
    project.write(".scud/tasks/tasks.scg", GRAPH);
    let worker = Worker::new(&receiver, &project).agent("pwd");
    let event = worker.run().assert_completed(&receiver);
    let dir = format!("{}\n", project.dir().display());
    assert_eq!(event["result"]["output"]["tail"], dir);
    let receiver = Receiver::start();
    let origin = Origin::with_files(&[(".descartes.toml", "sample = \"examples/small\"\n")]);
    origin
        .worker(&receiver)
        .agent("echo work > README")
        .run()
        .assert_completed(&receiver);
}

#[test]
fn a_sample_that_leads_out_of_the_project_or_has_a_fifo_fails_the_run_and_check_says_so_before() {
    let outside = Project::new();
    for (make, words) in [
        (
            "rm -r examples/small && ln -s \"$0\" examples/small",
            "it is not a directory in the project",
        ),
        ("rm -r examples/small", "No such file"),
        (
            "mkfifo examples/small/pipe",
            "is not a file, a directory or a symbolic link",
        ),
    ] {
        let (receiver, project) = (Receiver::start(), project_with_sample());
        let status = std::process::Command::new("sh")
            .args(["-c", make])
            .arg(outside.dir())
            .current_dir(project.dir())
            .env("PATH", path())
            .status();
        assert!(status.expect("a shell").success());
        let check = worker_in(&project, &receiver).agent("true").arg("check");
        let check = check.run();
        check.assert_code(2);
        assert!(check.stdout.contains(words), "{make}: {check:#?}");
        let ended = worker_in(&project, &receiver).agent("true").run();
        let event = ended.assert_failed(&receiver, "workspace_failed");
        let failure = event["failure"].to_string();
        assert!(failure.contains(words), "{make}: {failure}");
    }
    assert!(!outside.graph().contains("8 | Build the \\| house | D"));
}

#[test]
fn check_looks_at_the_sample_and_copies_nothing() {
    let (receiver, project) = (Receiver::start(), project_with_sample());
    let temporary_dir = tempfile::tempdir().expect("a temporary directory");
    let worker = worker_in(&project, &receiver).env("TMPDIR", temporary_dir.path());
    let ended = worker.arg("check").run();
    ended.assert_code(0);
    let workspace = project.path("examples/small");
    let line = format!(
        "ok      workspace: a copy of the sample project {}",
        workspace.display()
    );
    assert!(
        ended.stdout.lines().any(|known| known == line),
        "{ended:#?}"
    );
    assert_eq!(
        fs::read_dir(temporary_dir.path())
            .expect("a directory")
            .count(),
        0
    );
    // `local` names the workspace for its worker, so the sample is ignored.
    let worker = worker_in(&project, &receiver).args(["check", "--local"]);
    let ended = worker.agent("true").run();
    ended.assert_code(2);
    let line = format!("ok      workspace: {}", project.dir().display());
    assert!(
        ended.stdout.lines().any(|known| known == line),
        "{ended:#?}"
    );
}
