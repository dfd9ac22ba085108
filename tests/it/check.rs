//! For operators before their first run: is everything here that it would need?

use crate::support::{Ended, Project, Receiver, Worker};

/// Asserts the lines of a `check`, and that the orchestrator heard nothing of it.
#[track_caller]
fn assert_says(ended: &Ended, code: i32, lines: &[&str]) {
    ended.assert_code(code);
    assert_eq!(ended.stderr, "");
    assert_eq!(ended.stdout.lines().collect::<Vec<_>>(), lines);
}

fn check(receiver: &Receiver, project: &Project) -> Worker {
    Worker::new(receiver, project).arg("check")
}

#[test]
fn a_machine_that_lacks_nothing_is_told_so_and_left_alone() {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.checks(&["touch checked", "true"]);
    let before = project.graph();
    let ended = check(&receiver, &project).agent("touch worked").run();
    assert_says(
        &ended,
        0,
        &[
            "ok      settings: valid",
            &format!("ok      workspace: {}", project.dir().display()),
            "ok      task: 8 of phase webapp: Build the | house",
            "ok      checks: touch checked, true",
            "ok      agent definition: none",
            "ok      agent: command",
        ],
    );
    assert!(receiver.said().is_empty());
    assert_eq!(project.graph(), before);
    assert!(!project.path("checked").exists() && !project.path("worked").exists());
}

#[test]
fn everything_that_is_missing_has_its_line() {
    let (receiver, project) = (Receiver::start(), Project::empty());
    project.write(".scud/config.toml", "[swarm.backpressure]\n");
    let ended = check(&receiver, &project).run();
    let dir = project.dir().display();
    assert_says(
        &ended,
        2,
        &[
            "ok      settings: valid",
            &format!("ok      workspace: {dir}"),
            &format!("MISSING task: {dir}/.scud/tasks/tasks.scg does not exist"),
            &format!("MISSING checks: {dir}/.scud/config.toml, line 1: missing field `commands`"),
            "ok      agent definition: none",
            "MISSING agent: there is no agent to run: set DESCARTES_AGENT_COMMAND to the command that starts one, or ANTHROPIC_API_KEY for one that the worker knows",
        ],
    );
    assert!(receiver.said().is_empty());
}

#[test]
fn a_missing_workspace_ends_the_list() {
    let (receiver, project) = (Receiver::start(), Project::empty());
    let gone = project.path("gone");
    let ended = check(&receiver, &project)
        .env("DESCARTES_WORKSPACE", &gone)
        .agent("true")
        .run();
    assert_says(
        &ended,
        2,
        &[
            "ok      settings: valid",
            &format!(
                "MISSING workspace: there is no workspace at {}: No such file or directory (os error 2)",
                gone.display()
            ),
        ],
    );
}

#[test]
fn a_task_that_is_done_is_missing_as_a_task() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = check(&receiver, &project)
        .env("TASK_ID", "7")
        .agent("true")
        .run();
    ended.assert_code(2);
    let line = "MISSING task: the task `7` of the phase `webapp` is done; \
                DESCARTES_FORCE=true runs it all the same";
    assert!(ended.stdout.lines().any(|said| said == line), "{ended:#?}");
}

#[test]
fn a_broken_agent_definition_is_missing() {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.write(
        ".scud/tasks/tasks.scg",
        project.graph() + "\n@agents\n8 | builder\n",
    );
    project.write(".scud/agents/builder.toml", "[agent]\n");
    let ended = check(&receiver, &project).agent("true").run();
    ended.assert_code(2);
    let line = ended.stdout.lines().last().expect("a line");
    let path = project.path(".scud/agents/builder.toml");
    assert!(
        line.starts_with(&format!(
            "MISSING agent definition: {}, line 1: ",
            path.display()
        )),
        "{ended:#?}"
    );
}

#[test]
fn bad_settings_are_said_as_a_run_would_say_them() {
    let ended = Worker::bare().arg("check").run();
    ended.assert_code(2);
    assert!(
        ended
            .stderr
            .starts_with("3 settings are invalid; nothing was sent\n  TASK_ID: is missing"),
        "{ended:#?}"
    );
}
