//! For owners of a project: the worker finds the right task, or the error names similar tasks.

use serde_json::Value;

use crate::support::project::GRAPH;
use crate::support::{FinishedWorker, Project, Receiver, Worker};

/// Two phases that share an id.
const TWO_PHASES: &str = "\
# SCUD Graph v1
# Phase: webapp

@nodes
# id | title | status | complexity | priority
8 | Build the house | P | 5 | C
12 | Only here | P | 1 | M

---
# SCUD Graph v1
# Phase: mobile

@nodes
8 | Pitch the tent | P | 2 | H
8.1 | Sew the tent | P | 2 | H
";

/// Runs an agent that succeeds; returns the terminal event.
#[track_caller]
fn run(project: &Project, task: &str, change: impl FnOnce(Worker) -> Worker) -> Value {
    let receiver = Receiver::start();
    let worker = Worker::new(&receiver, project)
        .env("TASK_ID", task)
        .agent("touch worked");
    let ended = change(worker).run();
    let event = receiver.requests().pop().expect("an event").event;
    let is_completed = event["event"] == "task.completed";
    ended.assert_code(i32::from(!is_completed));
    event
}

/// The message of a run that must succeed.
#[track_caller]
fn success_message(project: &Project, task: &str, change: impl FnOnce(Worker) -> Worker) -> String {
    let event = run(project, task, change);
    assert_eq!(event["event"], "task.completed", "{event:#}");
    event["message"].as_str().expect("a message").to_owned()
}

/// The message of a run that must fail before the agent starts.
#[track_caller]
fn failure_message(project: &Project, task: &str, reason: &str) -> String {
    let event = run(project, task, |worker| worker);
    assert_eq!(event["failure"]["reason"], reason, "{event:#}");
    assert_eq!(event["result"]["agent"], Value::Null);
    assert!(!project.path("worked").exists());
    event["message"].as_str().expect("a message").to_owned()
}

/// For [`success_message`]: adds no settings to the worker.
fn without_changes(worker: Worker) -> Worker {
    worker
}

#[test]
fn a_task_is_found_by_its_phase_and_id() {
    let project = Project::with_graph(TWO_PHASES);
    assert_eq!(
        success_message(&project, "mobile:8", without_changes),
        "task 8 of phase mobile is done: Pitch the tent"
    );
    assert_eq!(
        success_message(&project, "webapp:8", without_changes),
        "task 8 of phase webapp is done: Build the house"
    );
}

#[test]
fn a_task_is_found_in_the_phase_that_the_settings_name() {
    let project = Project::with_graph(TWO_PHASES);
    let tag = |worker: Worker| worker.env("DESCARTES_TAG", "mobile");
    assert_eq!(
        success_message(&project, "8", tag),
        "task 8 of phase mobile is done: Pitch the tent"
    );
}

#[test]
fn a_unique_id_is_found_in_another_phase_than_the_active_one() {
    let project = Project::with_graph(TWO_PHASES);
    project.write(".scud/active-tag", "webapp\n");
    assert_eq!(
        success_message(&project, "8.1", without_changes),
        "task 8.1 of phase mobile is done: Sew the tent"
    );
}

#[test]
fn a_task_is_found_in_the_active_phase() {
    let project = Project::with_graph(TWO_PHASES);
    project.write(".scud/active-tag", "mobile\n");
    assert_eq!(
        success_message(&project, "8", without_changes),
        "task 8 of phase mobile is done: Pitch the tent"
    );
}

#[test]
fn the_phase_in_the_settings_takes_precedence_over_the_active_one() {
    let project = Project::with_graph(TWO_PHASES);
    project.write(".scud/active-tag", "mobile");
    let tag = |worker: Worker| worker.env("DESCARTES_TAG", "webapp");
    assert_eq!(
        success_message(&project, "8", tag),
        "task 8 of phase webapp is done: Build the house"
    );
}

#[test]
fn the_error_for_an_ambiguous_id_names_its_phases() {
    let project = Project::with_graph(TWO_PHASES);
    assert_eq!(
        failure_message(&project, "8", "task_not_found"),
        format!(
            "task `8` of {} is in several phases (`webapp`, `mobile`): use `webapp:8`, or --tag",
            project.path(".scud/tasks/tasks.scg").display()
        )
    );
    assert_eq!(project.graph(), TWO_PHASES);
}

#[test]
fn the_error_for_an_unknown_task_suggests_similar_ids() {
    let project = Project::with_graph(TWO_PHASES);
    let graph = project.path(".scud/tasks/tasks.scg");
    assert_eq!(
        failure_message(&project, "8.2", "task_not_found"),
        format!(
            "there is no task `8.2` in {}; did you mean `8.1`?",
            graph.display()
        )
    );
    assert_eq!(
        failure_message(&project, "webap:12", "task_not_found"),
        format!(
            "there is no task `webap:12` in {}; did you mean `webapp:12`?",
            graph.display()
        )
    );
    assert_eq!(
        failure_message(&project, "test-123", "task_not_found"),
        format!(
            "there is no task `test-123` in {}, which has the phases `webapp`, `mobile`",
            graph.display()
        )
    );
    assert_eq!(project.graph(), TWO_PHASES);
}

#[test]
fn the_error_for_an_unknown_phase_names_all_phases() {
    let project = Project::with_graph(TWO_PHASES);
    let event = run(&project, "8", |worker| {
        worker.env("DESCARTES_TAG", "desktop")
    });
    assert_eq!(event["failure"]["reason"], "task_not_found");
    assert_eq!(
        event["message"],
        format!(
            "there is no phase `desktop` in {}, which has the phases `webapp`, `mobile`",
            project.path(".scud/tasks/tasks.scg").display()
        )
    );
}

#[test]
fn a_finished_task_is_rejected_unless_the_run_is_forced() {
    for (letter, advice) in [
        ('D', "is done; set DESCARTES_FORCE=true to run it anyway"),
        (
            'C',
            "is cancelled; set DESCARTES_FORCE=true to run it anyway",
        ),
        (
            'X',
            "has been split into subtasks; run those, or set DESCARTES_FORCE=true",
        ),
    ] {
        let graph = GRAPH.replace("house | P |", &format!("house | {letter} |"));
        let project = Project::with_graph(&graph);
        assert_eq!(
            failure_message(&project, "8", "task_not_actionable"),
            format!("task `8` of phase `webapp` {advice}")
        );
        assert_eq!(project.graph(), graph);
        success_message(&project, "8", |worker| {
            worker.env("DESCARTES_FORCE", "true")
        });
        assert_eq!(project.graph(), GRAPH.replace("house | P |", "house | D |"));
        assert!(project.path("worked").exists());
    }
}

#[test]
fn a_task_with_any_other_status_is_run() {
    for letter in ['P', 'I', 'R', 'B', 'F', '!'] {
        let project =
            Project::with_graph(&GRAPH.replace("house | P |", &format!("house | {letter} |")));
        success_message(&project, "8", without_changes);
        assert_eq!(project.graph(), GRAPH.replace("house | P |", "house | D |"));
    }
}

#[test]
fn a_dependency_that_is_not_done_produces_a_warning_with_its_id() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .env("TASK_ID", "9")
        .agent("true")
        .run();
    ended.assert_completed(&receiver);
    let warnings: Vec<&str> = ended
        .stderr
        .lines()
        .filter(|line| line.contains("\"WARN\""))
        .collect();
    let [warning] = warnings[..] else {
        panic!("{warnings:#?}")
    };
    let warning: Value = serde_json::from_str(warning).expect("a JSON log");
    assert_eq!(
        warning["message"],
        "the task depends on 8, which is not done"
    );
    assert_eq!(warning["status"], "pending");
}

#[test]
fn a_graph_with_a_nul_fails_the_run_before_the_agent_starts() {
    let (receiver, project) = (
        Receiver::start(),
        Project::with_graph(&GRAPH.replace("Four walls", "Four\0walls")),
    );
    let worker = Worker::new(&receiver, &project).agent(": > started");
    let event = worker.run().assert_failed(&receiver, "workspace_failed");
    let text = event["failure"].to_string();
    assert!(
        text.contains("line 21: the text contains a NUL character; remove it"),
        "{text}"
    );
    assert!(!project.path("started").exists());
}

#[test]
fn control_characters_of_a_title_and_a_check_are_made_visible() {
    let graph = GRAPH.replace("Build the", "Build\r\u{1b}]0;x\u{7}\u{9b}31m the");
    let (receiver, project) = (Receiver::start(), Project::with_graph(&graph));
    let ended = Worker::new(&receiver, &project)
        .env("DESCARTES_HEARTBEAT", "20ms")
        .env("DESCARTES_CHECKS", "sleep 1; : \u{1b}[31m\u{9b}2J")
        .agent("cat \"$DESCARTES_PROMPT_FILE\"")
        .run();
    let event = assert_completed_with_heartbeats(&ended, &receiver);
    let command = event["result"]["checks"][0]["command"].as_str().unwrap();
    assert_eq!(command, "sleep 1; : ␛[31m\u{fffd}2J");
    let control_characters = ['\u{1b}', '\u{9b}', '\u{7}', '\r'];
    for request in receiver.requests() {
        let texts = [
            &request.event["message"],
            &request.event["progress"]["activity"],
        ];
        for text in texts.into_iter().filter_map(|text| text.as_str()) {
            assert!(!text.contains(control_characters), "{text:?}");
        }
    }
    let tail = event["result"]["output"]["tail"].as_str().unwrap();
    assert!(
        tail.contains("Build␍␛]0;x␇\u{fffd}31m the | house"),
        "{tail:?}"
    );
    assert!(
        !ended.stderr.contains(control_characters),
        "{}",
        ended.stderr
    );
}

#[test]
fn thousands_of_edges_to_a_task_with_a_huge_title_count_once_and_the_title_is_cut() {
    let edges = "8 -> 7\n".repeat(5_000);
    let graph = GRAPH.replace("8 -> 7\n", &edges);
    let graph = graph.replace("Lay the foundation", &"x".repeat(200_000));
    let (receiver, project) = (Receiver::start(), Project::with_graph(&graph));
    let worker = Worker::new(&receiver, &project).agent("wc -c < \"$DESCARTES_PROMPT_FILE\"");
    let event = worker.run().assert_completed(&receiver);
    let size = event["result"]["output"]["tail"].as_str().unwrap().trim();
    let size: u32 = size.parse().unwrap();
    assert!(size < 10_000, "{size}");
}

#[test]
fn a_prompt_that_is_too_large_because_of_its_template_fails_the_run_before_the_agent_starts() {
    let graph = GRAPH.replace("  Four walls", &format!("  {}", "x".repeat(200_000)));
    let graph = graph.replace("@details", "@agents\n8 | builder\n\n@details");
    let (receiver, project) = (Receiver::start(), Project::with_graph(&graph));
    let template = "{task.description}".repeat(5_000);
    let definition =
        format!("[agent]\nname = \"builder\"\n[model]\n[prompt]\ntemplate = \"{template}\"\n");
    project.write(".scud/agents/builder.toml", &definition);
    let worker = Worker::new(&receiver, &project).agent(": > started");
    let event = worker.run().assert_failed(&receiver, "workspace_failed");
    let message = event["failure"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("the prompt of task 8 would be larger than 8 MiB"),
        "{message}"
    );
    assert!(!project.path("started").exists());
}

/// Asserts that the task is done; returns the terminal event.
fn assert_completed_with_heartbeats(ended: &FinishedWorker, receiver: &Receiver) -> Value {
    ended.assert_code(0);
    receiver.only_event("completed")
}
