//! For owners of a project: the right task is found, or it is said which ones there are.

use serde_json::Value;

use crate::support::project::GRAPH;
use crate::support::{Project, Receiver, Worker};

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

/// Runs an agent that succeeds; gives what became of the task.
#[track_caller]
fn run(project: &Project, task: &str, change: impl FnOnce(Worker) -> Worker) -> Value {
    let receiver = Receiver::start();
    let worker = Worker::new(&receiver, project)
        .env("TASK_ID", task)
        .agent("touch worked");
    let ended = change(worker).run();
    let event = receiver.said().pop().expect("an event").event;
    let completed = event["event"] == "task.completed";
    ended.assert_code(i32::from(!completed));
    event
}

/// The message of a run that must succeed.
#[track_caller]
fn done(project: &Project, task: &str, change: impl FnOnce(Worker) -> Worker) -> String {
    let event = run(project, task, change);
    assert_eq!(event["event"], "task.completed", "{event:#}");
    event["message"].as_str().expect("a message").to_owned()
}

/// The message of a run that must fail before the agent starts, and leave the graph as it is.
#[track_caller]
fn refused(project: &Project, task: &str, reason: &str) -> String {
    let event = run(project, task, |worker| worker);
    assert_eq!(event["failure"]["reason"], reason, "{event:#}");
    assert_eq!(event["result"]["agent"], Value::Null);
    assert!(!project.path("worked").exists());
    event["message"].as_str().expect("a message").to_owned()
}

fn same(worker: Worker) -> Worker {
    worker
}

#[test]
fn a_task_is_found_by_its_phase_and_id() {
    let project = Project::with_graph(TWO_PHASES);
    assert_eq!(
        done(&project, "mobile:8", same),
        "task 8 of phase mobile is done: Pitch the tent"
    );
    assert_eq!(
        done(&project, "webapp:8", same),
        "task 8 of phase webapp is done: Build the house"
    );
}

#[test]
fn a_task_is_found_in_the_phase_that_is_set() {
    let project = Project::with_graph(TWO_PHASES);
    let tag = |worker: Worker| worker.env("DESCARTES_TAG", "mobile");
    assert_eq!(
        done(&project, "8", tag),
        "task 8 of phase mobile is done: Pitch the tent"
    );
}

#[test]
fn a_task_is_found_where_its_id_is_unique() {
    let project = Project::with_graph(TWO_PHASES);
    // The active phase is another one, and is not asked.
    project.write(".scud/active-tag", "webapp\n");
    assert_eq!(
        done(&project, "8.1", same),
        "task 8.1 of phase mobile is done: Sew the tent"
    );
}

#[test]
fn a_task_is_found_in_the_active_phase() {
    let project = Project::with_graph(TWO_PHASES);
    project.write(".scud/active-tag", "mobile\n");
    assert_eq!(
        done(&project, "8", same),
        "task 8 of phase mobile is done: Pitch the tent"
    );
}

#[test]
fn the_phase_that_is_set_wins_over_the_active_one() {
    let project = Project::with_graph(TWO_PHASES);
    project.write(".scud/active-tag", "mobile");
    let tag = |worker: Worker| worker.env("DESCARTES_TAG", "webapp");
    assert_eq!(
        done(&project, "8", tag),
        "task 8 of phase webapp is done: Build the house"
    );
}

#[test]
fn an_ambiguous_id_is_refused_with_the_names_of_its_phases() {
    let project = Project::with_graph(TWO_PHASES);
    assert_eq!(
        refused(&project, "8", "task_not_found"),
        format!(
            "the task `8` of {} is in several phases: `webapp`, `mobile`",
            project.path(".scud/tasks/tasks.scg").display()
        )
    );
    assert_eq!(project.graph(), TWO_PHASES);
}

#[test]
fn a_task_that_is_not_there_is_answered_with_the_closest_ones() {
    let project = Project::with_graph(TWO_PHASES);
    let graph = project.path(".scud/tasks/tasks.scg");
    assert_eq!(
        refused(&project, "8.2", "task_not_found"),
        format!("no task `8.2` in {}, the closest: `8.1`", graph.display())
    );
    assert_eq!(
        refused(&project, "webap:12", "task_not_found"),
        format!(
            "no task `webap:12` in {}, the closest: `webapp:12`",
            graph.display()
        )
    );
    assert_eq!(
        refused(&project, "test-123", "task_not_found"),
        format!(
            "no task `test-123` in {}, which holds `webapp`, `mobile`",
            graph.display()
        )
    );
    assert_eq!(project.graph(), TWO_PHASES);
}

#[test]
fn a_phase_that_is_not_there_is_answered_with_those_that_are() {
    let project = Project::with_graph(TWO_PHASES);
    let event = run(&project, "8", |worker| {
        worker.env("DESCARTES_TAG", "desktop")
    });
    assert_eq!(event["failure"]["reason"], "task_not_found");
    assert_eq!(
        event["message"],
        format!(
            "no phase `desktop` in {}, which holds `webapp`, `mobile`",
            project.path(".scud/tasks/tasks.scg").display()
        )
    );
}

#[test]
fn a_task_that_needs_no_work_is_refused_unless_it_is_forced() {
    for (letter, status) in [('D', "done"), ('C', "cancelled"), ('X', "expanded")] {
        let graph = GRAPH.replace("house | P |", &format!("house | {letter} |"));
        let project = Project::with_graph(&graph);
        assert_eq!(
            refused(&project, "8", "task_not_actionable"),
            format!(
                "the task `8` of the phase `webapp` is {status}; DESCARTES_FORCE=true runs it all the same"
            )
        );
        assert_eq!(project.graph(), graph);
        done(&project, "8", |worker| {
            worker.env("DESCARTES_FORCE", "true")
        });
        assert_eq!(project.graph(), GRAPH.replace("house | P |", "house | D |"));
        assert!(project.path("worked").exists());
    }
}

#[test]
fn a_task_in_any_other_state_is_run() {
    for letter in ['P', 'I', 'R', 'B', 'F', '!'] {
        let project =
            Project::with_graph(&GRAPH.replace("house | P |", &format!("house | {letter} |")));
        done(&project, "8", same);
        assert_eq!(project.graph(), GRAPH.replace("house | P |", "house | D |"));
    }
}

#[test]
fn a_dependency_that_is_not_done_is_warned_of_by_name() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .env("TASK_ID", "9")
        .agent("true")
        .run();
    ended.completed(&receiver);
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
