//! Reports of single runs: `local` and `demo`.

use rustix::process::{Pid, Signal, kill_process};

use super::html::Page;
use crate::support::processes::children;
use crate::support::{Project, Worker};

/// The program with these arguments in a project.
fn program(args: &[&str], project: &Project) -> Worker {
    Worker::without_settings().args(args).dir(project.dir())
}

#[test]
fn local_writes_a_page_about_the_task_the_agent_and_the_checks() {
    let project = Project::new();
    project.set_checks(&["echo checked; exit 3"]);
    let ended = program(&["local", "--task", "8", "--report", "out.html"], &project)
        .agent("echo working; sleep 0.1")
        .run();
    ended.assert_code(1);
    assert!(ended.stderr.contains("the report is in /"), "{ended:#?}");
    let page = Page::read(&project.path("out.html"));
    for words in [
        "checks_failed",
        "working",
        "checked",
        "failed with exit code 3",
        "agent: working",
        "The prompt",
        "these commands will run, and all of them must pass",
    ] {
        assert!(page.text.contains(words), "{words}: {}", page.text);
    }
    let lane = page.only("svg", |svg| svg.has_class("lane"));
    for stage in ["agent", "checks"] {
        assert!(lane.text.contains(stage), "{lane:?}");
    }
    // One task needs no drawing.
    assert!(!page.text.contains("critical path"));
}

#[test]
fn a_worker_that_is_killed_is_in_the_report_with_what_it_logged() {
    let project = Project::new();
    let running = program(&["local", "--task", "8", "--report", "out.html"], &project)
        .agent("echo before; sleep 1000")
        .start();
    running.wait_for_log("agent: before");
    let workers = children(running.pid().as_raw_nonzero().get());
    assert_eq!(workers.len(), 1, "{workers:?}");
    let worker = Pid::from_raw(workers[0].pid).expect("a process");
    kill_process(worker, Signal::KILL).expect("a killed worker");
    let ended = running.wait();
    assert_eq!(ended.code, Some(128 + 9));
    let page = Page::read(&project.path("out.html"));
    for words in [
        "Lost: the worker has ended without a report",
        "agent: before",
    ] {
        assert!(page.text.contains(words), "{words}: {}", page.text);
    }
}

#[test]
fn demo_writes_a_page_with_the_changes() {
    let project = Project::empty();
    let ended = program(&["demo", "--report", "out.html"], &project).run();
    ended.assert_code(0);
    let page = Page::read(&project.path("out.html"));
    for words in [
        "The last guest is not greeted",
        "-while [ $# -gt 1 ]; do",
        "sh test.sh",
    ] {
        assert!(page.text.contains(words), "{words}: {}", page.text);
    }
    assert_eq!(page.number("tasks done"), "1 of 1");
}

#[test]
fn demo_graph_writes_a_page_with_the_conflict_and_the_second_attempt() {
    let project = Project::empty();
    let ended = program(&["demo", "--graph", "--report", "out.html"], &project).run();
    ended.assert_code(0);
    let page = Page::read(&project.path("out.html"));
    assert_eq!(page.number("tasks done"), "8 of 8");
    // Which of the two tasks has the conflict depends on the machine.
    for words in [
        "conflicts with work that was merged meanwhile",
        "Then: attempt 2",
    ] {
        assert!(page.text.contains(words), "{words}: {}", page.text);
    }
}

#[test]
fn a_file_that_does_not_end_in_html_or_cannot_be_written_is_rejected_before_the_run() {
    let project = Project::new();
    for (file, words) in [
        ("out.json", "does not end in .html"),
        ("absent/out.html", "cannot write the report absent/out.html"),
    ] {
        let ended = program(&["local", "--task", "8", "--report", file], &project)
            .agent("touch worked")
            .run();
        ended.assert_code(2);
        assert!(ended.stderr.contains(words), "{ended:#?}");
        assert!(!project.path("worked").exists());
    }
}
