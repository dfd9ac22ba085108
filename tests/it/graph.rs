//! For owners of a project: a run changes one letter of the graph, or nothing.

use std::fmt::Write;
use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::support::project::GRAPH;
use crate::support::{Project, Receiver, Worker};

/// The message of a run that must fail before the agent starts.
#[track_caller]
fn failure_message(project: &Project) -> String {
    let receiver = Receiver::start();
    let event = Worker::new(&receiver, project)
        .agent("touch worked")
        .run()
        .assert_failed(&receiver, "workspace_failed");
    assert_eq!(event["result"]["agent"], Value::Null);
    assert_eq!(event["failure"]["retryable"], false, "{event:#}");
    assert!(!project.path("worked").exists());
    event["message"].as_str().expect("a message").to_owned()
}

/// The message of a run that must succeed.
#[track_caller]
fn success_message(project: &Project, task: &str) -> String {
    let receiver = Receiver::start();
    let event = Worker::new(&receiver, project)
        .env("TASK_ID", task)
        .agent("true")
        .run()
        .assert_completed(&receiver);
    event["message"].as_str().expect("a message").to_owned()
}

#[test]
fn success_changes_one_letter_of_the_graph() {
    // Details that a rewrite of the file would lose: comments, odd spacing, unknown sections, no last newline.
    let before = GRAPH.replace("8 | Build", "  8   |Build").replace(
        "@edges",
        "@tomorrow\nwhat | ever\n\n\n@edges\n# a comment\n",
    );
    let before = before.trim_end();
    let project = Project::with_graph(before);
    success_message(&project, "8");
    assert_eq!(
        project.graph(),
        before.replace("house | P |", "house | D |")
    );
}

#[test]
fn failure_changes_nothing_in_the_graph() {
    for (agent, reason) in [
        ("exit 1", "agent_failed"),
        ("kill -9 $$", "agent_killed"),
        ("no-such-program", "agent_not_found"),
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        Worker::new(&receiver, &project)
            .agent(agent)
            .run()
            .assert_failed(&receiver, reason);
        assert_eq!(project.graph(), GRAPH);
    }
    let (receiver, project) = (Receiver::start(), Project::new());
    Worker::new(&receiver, &project)
        .env("DESCARTES_CHECKS", "false")
        .agent("true")
        .run()
        .assert_failed(&receiver, "checks_failed");
    assert_eq!(project.graph(), GRAPH);
}

#[test]
fn changes_that_others_make_to_the_graph_during_the_run_stay() {
    let (receiver, project) = (Receiver::start(), Project::new());
    Worker::new(&receiver, &project)
        .agent("sed -i.old -e '/^7 |/d' -e 's/^9 |.*/9 | Paint it red | I | 2 | L/' .scud/tasks/tasks.scg")
        .run()
        .assert_completed(&receiver);
    let changed = GRAPH
        .replace("7 | Lay the foundation | D | 3 | H\n", "")
        .replace("9 | Paint it | P", "9 | Paint it red | I");
    assert_eq!(
        project.graph(),
        changed.replace("house | P |", "house | D |")
    );
}

#[test]
fn a_project_without_a_graph_fails_with_workspace_failed() {
    let project = Project::empty();
    let graph = project.path(".scud/tasks/tasks.scg");
    assert_eq!(
        failure_message(&project),
        format!("{} does not exist", graph.display())
    );
}

#[test]
fn the_error_for_a_missing_workspace_names_its_path() {
    let project = Project::empty();
    let gone = project.path("gone");
    let receiver = Receiver::start();
    let event = Worker::new(&receiver, &project)
        .env("DESCARTES_WORKSPACE", &gone)
        .agent("true")
        .run()
        .assert_failed(&receiver, "workspace_failed");
    assert_eq!(
        event["message"],
        format!("there is no workspace at {}", gone.display())
    );
    assert_eq!(
        event["failure"]["detail"],
        "No such file or directory (os error 2)"
    );
}

#[test]
fn the_error_for_a_malformed_graph_names_its_path_and_line() {
    for (graph, line, message) in [
        (
            "tasks:\n  - 8\n".to_owned(),
            1,
            "expected `# SCUD Graph v1`, found `tasks:`",
        ),
        (
            GRAPH.replace("# Phase: webapp", "@nodes"),
            2,
            "expected `# Phase: <tag>`, found `@nodes`",
        ),
        (
            GRAPH.replace("9 | Paint", "8 | Paint"),
            13,
            "task `8` is defined twice (lines 12 and 13)",
        ),
    ] {
        let project = Project::with_graph(&graph);
        let path = project.path(".scud/tasks/tasks.scg");
        assert_eq!(
            failure_message(&project),
            format!("{}, line {line}: {message}", path.display())
        );
        assert_eq!(project.graph(), graph);
    }
}

#[test]
fn a_graph_behind_a_symbolic_link_is_rejected() {
    let (project, elsewhere) = (Project::empty(), Project::new());
    symlink(elsewhere.path(".scud"), project.path(".scud")).expect("a link");
    let message = failure_message(&project);
    assert!(
        message.ends_with(
            "is not a regular file, or its path contains a symbolic link, which is not followed"
        ),
        "{message}"
    );
}

#[test]
fn the_work_is_completed_even_if_the_agent_removed_the_graph() {
    let message_start =
        "task 8 of phase webapp is done: Build the | house (but the graph could not be marked: ";
    for (agent, why) in [
        ("rm -r .scud", "does not exist"),
        (
            "mv .scud/tasks/tasks.scg other; ln -s ../../other .scud/tasks/tasks.scg",
            "symbolic link, which is not followed",
        ),
        ("sed -i.old '/^8 /d' .scud/tasks/tasks.scg", "no longer in"),
        ("echo rubbish > .scud/tasks/tasks.scg", "line 1: expected"),
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let ended = Worker::new(&receiver, &project).agent(agent).run();
        let event = ended.assert_completed(&receiver);
        let message = event["message"].as_str().expect("a message");
        assert!(
            message.starts_with(message_start) && message.contains(why),
            "{agent}: {message}"
        );
        assert!(
            ended.stderr.contains("the graph could not be marked"),
            "{ended:#?}"
        );
        if project.path("other").exists() {
            assert_eq!(project.read("other"), GRAPH);
        }
    }
}

#[test]
fn a_task_in_a_graph_of_20_000_tasks_is_completed() {
    let mut graph = String::from("# SCUD Graph v1\n# Phase: big\n\n@nodes\n");
    for id in 1..=20_000 {
        let _ = writeln!(graph, "{id} | Task number {id} | P | 3 | M");
    }
    graph.push_str("\n@edges\n");
    for id in 2..=20_000 {
        let _ = writeln!(graph, "{id} -> {}", id - 1);
    }
    let project = Project::with_graph(&graph);
    assert_eq!(
        success_message(&project, "19999"),
        "task 19999 of phase big is done: Task number 19999"
    );
    let line = "19999 | Task number 19999 |";
    assert_eq!(
        project.graph(),
        graph.replace(&format!("{line} P"), &format!("{line} D"))
    );
}
