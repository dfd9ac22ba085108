//! Reports of dispatches.

use std::fs;

use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;

use super::html::Page;
use crate::dispatch::sample::{Gate, Graph};
use crate::support::wait_until;

/// The graph of a project: task 2 is split, task 3 depends on it.
const TASKS: &str = "\
1 | Lay the foundation | P | 1 | H
2 | Build the left | X | 1 | H
2.1 | Left wall | P | 1 | H
2.2 | Left roof | P | 1 | H
3 | Build the right | P | 1 | M

@edges
2 -> 1
2.2 -> 2.1
3 -> 2

@parents
2: 2.1, 2.2

@details
1 | description |
  Dig first.
";

#[test]
fn the_page_shows_the_graph_the_attempts_the_changes_and_the_totals() {
    let graph = Graph::new(TASKS);
    graph.commit_checks(&["echo checked"]);
    let path = graph.project().with_file_name("out.html");
    let agent = "echo working on $TASK_ID; echo done > done-${TASK_ID##*:}";
    let ended = graph.dispatch(agent).arg("--report").arg(&path).run();
    ended.assert_code(0);
    assert!(ended.stderr.contains("the report is in /"), "{ended:#?}");
    let page = Page::read(&path);
    assert_eq!(page.number("tasks done"), "4 of 4");
    assert_eq!(page.number("attempts"), "4");
    // The drawing has all tasks, and the edges that do not follow from others.
    let nodes = page
        .all("rect")
        .filter(|rect| rect.has_class("node") && rect.has_class("done"));
    assert_eq!(nodes.count(), 5 + 1, "five tasks and one in the legend");
    let critical = page
        .all("path")
        .filter(|path| path.has_class("critical"))
        .map(|path| path.attribute("d").matches('M').count())
        .sum::<usize>();
    assert!(critical >= 2, "{critical}");
    // The chart has a row for each attempt, with the stages of its run.
    let lanes: Vec<_> = page
        .all("svg")
        .filter(|svg| svg.has_class("lane"))
        .collect();
    assert_eq!(lanes.len(), 4);
    for stage in ["prepare", "agent", "checks", "push", "merge"] {
        assert!(
            lanes.iter().all(|lane| lane.text.contains(stage)),
            "{stage}: {lanes:?}"
        );
    }
    let first = page.task("Lay the foundation");
    for words in [
        "Dig first.",
        "The prompt",
        "the worker marks the task",
        "working on house:1",
        "Check echo checked passed",
        "checked",
        "done-1",
        "+done",
        "Merged as ",
    ] {
        assert!(first.text.contains(words), "{words}: {}", first.text);
    }
}

#[test]
fn the_page_says_why_an_attempt_failed_and_what_was_done_about_it() {
    let graph = Graph::new(
        "1 | Flaky | P | 1 | H\n2 | Broken | P | 1 | H\n3 | After | P | 1 | H\n\n@edges\n3 -> 2\n",
    );
    let path = graph.project().with_file_name("out.html");
    let agent = r#"case $TASK_ID in
        *:1) grep -q "An earlier attempt" "$DESCARTES_PROMPT_FILE" && echo ok > ok || kill -9 $$ ;;
        *) echo "no such brick"; exit 7 ;;
    esac"#;
    let ended = graph.dispatch(agent).arg("--report").arg(&path).run();
    ended.assert_code(1);
    let page = Page::read(&path);
    assert_eq!(page.number("tasks done"), "1 of 3");
    assert_eq!(page.number("blocked"), "2");
    let flaky = page.task("Flaky");
    for words in [
        "agent_killed",
        "Then: attempt 2, ",
        "An earlier attempt at this task failed",
        "Merged as",
    ] {
        assert!(flaky.text.contains(words), "{words}: {}", flaky.text);
    }
    let broken = page.task("Broken");
    for words in ["agent_failed", "Then: no further attempt.", "no such brick"] {
        assert!(broken.text.contains(words), "{words}: {}", broken.text);
    }
    assert!(
        broken.attributes.iter().any(|(name, _)| name == "open"),
        "a blocked task is open"
    );
    assert!(
        page.task("After")
            .text
            .contains("needs 2, which is blocked")
    );
}

#[test]
fn a_report_that_takes_long_does_not_stop_the_dispatch() {
    let graph = Graph::new("1 | First | P | 1 | H\n2 | Second | P | 1 | H\n\n@edges\n2 -> 1\n");
    let gate = Gate::new();
    let running = graph
        .dispatch_with_gate(&gate, "echo done > done-${TASK_ID##*:}")
        .start();
    gate.wait_for_an_agent();
    // Opening a FIFO to read waits until another process opens it to write, so this log cannot be read yet.
    let runs = fs::read_dir(graph.state_dir().join("runs")).expect("the runs");
    let run = runs.flatten().next().expect("a run").path();
    let log = run.join("log");
    fs::rename(&log, run.join("old-log")).expect("a renamed log");
    let status = std::process::Command::new("mkfifo").arg(&log).status();
    assert!(status.expect("mkfifo").success());
    let path = graph.project().with_file_name("out.html");
    let report = graph.command(&["status", "--report"]).arg(&path).start();
    // The dispatcher answers further questions in the meantime.
    for _ in 0..3 {
        let status = graph.command(&["status"]).run();
        status.assert_code(0);
        assert!(status.stdout.contains("working   1"), "{status:#?}");
    }
    gate.open();
    running.wait_for_log("merged: ");
    assert!(!path.exists(), "the report was made too early");
    // With NONBLOCK, this succeeds only while the report opens the log to read it.
    wait_until("the report to open the log", || {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK;
        rustix::fs::open(&log, flags, Mode::empty()).is_ok()
    });
    report.wait().assert_code(0);
    running.wait().assert_code(0);
    assert!(Page::read(&path).text.contains("First"));
}

#[test]
fn after_a_kill_the_report_covers_the_whole_dispatch() {
    let graph = Graph::new("1 | First | P | 1 | H\n2 | Second | P | 1 | H\n\n@edges\n2 -> 1\n");
    let path = graph.project().with_file_name("out.html");
    let gate = Gate::new();
    let dispatch = || {
        let dispatch = graph.dispatch_with_gate(&gate, "echo done > done-${TASK_ID##*:}");
        dispatch.arg("--report").arg(&path)
    };
    let running = dispatch().start();
    gate.wait_for_an_agent();
    running.signal(Signal::KILL);
    assert_eq!(running.wait().signal, Some(9));
    assert!(!path.exists());
    // Without a dispatcher, the report comes from the journal.
    let report = path.with_file_name("killed.html");
    let status = graph.command(&["status", "--report"]).arg(&report).run();
    status.assert_code(0);
    let page = Page::read(&report);
    assert!(
        page.text.contains("the dispatcher was killed"),
        "{}",
        page.text
    );
    assert_eq!(page.number("tasks done"), "0 of 2");
    gate.open();
    dispatch().run().assert_code(0);
    let page = Page::read(&path);
    assert_eq!(page.number("tasks done"), "2 of 2");
    assert_eq!(page.number("attempts"), "2");
    assert_eq!(page.text.matches("continued").count(), 1, "{}", page.text);
    // Later, the report of the finished dispatch can be written again without any work.
    fs::remove_file(&path).expect("the report");
    graph
        .command(&["status", "--report"])
        .arg(&path)
        .run()
        .assert_code(0);
    assert_eq!(Page::read(&path).number("tasks done"), "2 of 2");
    assert_eq!(graph.entries("intent").len(), 2);
}

#[test]
fn a_running_dispatcher_writes_its_report_when_status_asks_for_it_and_at_ctrl_c() {
    let graph = Graph::new("1 | Endless | P | 1 | H\n");
    let path = graph.project().with_file_name("out.html");
    let running = graph
        .dispatch("echo half > half; sleep 1000")
        .arg("--report")
        .arg(&path)
        .env("DESCARTES_HEARTBEAT", "50ms")
        .start();
    running.wait_for_log(" works");
    for name in ["now.html", "now.json"] {
        let now = path.with_file_name(name);
        graph
            .command(&["status", "--report"])
            .arg(&now)
            .run()
            .assert_code(0);
        let text = fs::read_to_string(&now).expect("a report");
        assert!(text.contains("running"), "{text}");
    }
    let page = Page::read(&path.with_file_name("now.html"));
    assert!(
        page.task("Endless").text.contains("It had not ended"),
        "{}",
        page.text
    );
    running.signal(Signal::INT);
    running.wait_for_log("nothing new starts");
    running.signal(Signal::INT);
    running.wait().assert_code(3);
    let page = Page::read(&path);
    assert!(
        page.task("Endless").text.contains("cancelled"),
        "{}",
        page.text
    );
    assert!(
        page.only("h1", |_| true).text.contains("stopped"),
        "{}",
        page.text
    );
}

#[test]
fn a_report_that_cannot_be_written_is_an_error_before_any_work() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let absent = graph.project().join("absent/out.html");
    for path in [absent, graph.project()] {
        let ended = graph.dispatch("true").arg("--report").arg(&path).run();
        ended.assert_code(2);
        let words = format!("cannot write the report {}: ", path.display());
        assert!(ended.stderr.contains(&words), "{ended:#?}");
    }
    assert!(graph.journal().is_empty());
}

#[test]
fn a_report_that_cannot_be_written_at_the_end_does_not_change_the_outcome() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let dir = graph.project().with_file_name("reports");
    fs::create_dir(&dir).expect("a directory");
    for name in ["out.html", "out.json"] {
        let dispatch = graph.dispatch("rmdir \"$REPORTS\"; echo done > done");
        let ended = dispatch
            .env("REPORTS", &dir)
            .env("DESCARTES_AGENT_ENV", "REPORTS")
            .args(["--fresh", "--report"])
            .arg(dir.join(name))
            .run();
        ended.assert_code(0);
        assert!(!dir.exists() || name == "out.json", "{name}");
        if !dir.exists() {
            assert!(
                ended.stderr.contains("cannot write the report"),
                "{ended:#?}"
            );
        }
        assert_eq!(graph.entries("ended").len(), 1);
        let _ = fs::create_dir(&dir);
    }
}

#[test]
fn commands_that_end_at_once_reject_the_flag() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let commands: [(&[&str], &str); 2] = [(&["--plan"], "--plan"), (&["retry", "1"], "retry")];
    for (args, words) in commands {
        let ended = graph.command(args).args(["--report", "out.html"]).run();
        ended.assert_code(2);
        let words = format!("does not go with {words}");
        assert!(ended.stderr.contains(&words), "{ended:#?}");
    }
}
