//! For people who want to know which tasks are ready: `tasks`, and `local` without a task.

use crate::support::{Project, Worker, schema};

/// A graph with tasks in every state that `tasks` prints.
const GRAPH: &str = "\
# SCUD Graph v1
# Phase: webapp

@nodes
1 | Lay the foundation | D | 3 | H
2 | Build the house | X | 5 | H
2.1 | Build the walls | P | 2 | M
2.2 | Build the roof | P | 2 | M
3 | Paint it | P | 2 | L
4 | Buy a carpet | P | 1 | C
5 | Move in | P | 1 | M
6 | Dig for oil | C | 1 | M
7 | Sell the oil | P | 1 | M

@edges
2 -> 1
2.2 -> 2.1
3 -> 2
5 -> 99
7 -> 6

@parents
2: 2.1, 2.2
";

/// The output of `tasks` with these arguments.
fn tasks(args: &[&str]) -> String {
    let project = Project::with_graph(GRAPH);
    let ended = Worker::without_settings()
        .arg("tasks")
        .args(args)
        .dir(project.dir())
        .run();
    ended.assert_code(0);
    ended.stdout.clone()
}

#[test]
fn tasks_lists_ready_tasks_by_priority_and_length_of_the_chain() {
    assert_eq!(
        tasks(&["--ready"]),
        "ready    4        Buy a carpet\nready    2.1      Build the walls\n"
    );
}

#[test]
fn a_terminal_does_not_obey_the_titles_of_tasks() {
    let project = Project::with_graph(
        "# SCUD Graph v1\n# Phase: webapp\n\n@nodes\n1 | Red \u{1b}[31m \u{202e} | P | 1 | M\n",
    );
    for command in ["tasks", "local"] {
        let ended = Worker::without_settings()
            .arg(command)
            .dir(project.dir())
            .run();
        let shown = format!("{}{}", ended.stdout, ended.stderr);
        assert!(shown.contains("Red \u{241b}[31m"), "{ended:#?}");
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{ended:#?}");
    }
}

#[test]
fn tasks_says_why_the_tasks_that_are_not_ready_cannot_run() {
    let all = tasks(&[]);
    for line in [
        "done     1        Lay the foundation\n",
        "split    2        Build the house\n",
        "waiting  2.2      Build the roof (waits for 2.1)\n",
        "waiting  3        Paint it (waits for 2)\n",
        "closed   6        Dig for oil (cancelled)\n",
        "blocked  5        Move in (depends on 99, which is not in the graph)\n",
        "blocked  7        Sell the oil (needs 6, which is cancelled)\n",
    ] {
        assert!(all.contains(line), "{line}{all}");
    }
    assert_eq!(tasks(&["--blocked"]).lines().count(), 2);
}

#[test]
fn tasks_prints_json_for_programs() {
    let json = &schema::cli_object(&tasks(&["--json"]))["tasks"];
    let walls = &json[2];
    assert_eq!(
        (&walls["id"], &walls["standing"]),
        (&"2.1".into(), &"ready".into())
    );
    assert_eq!(walls["chain"], 3, "2.1, 2.2 and 3");
    assert_eq!(json[4]["waits_for"][0], "2");
}

#[test]
fn tasks_prints_an_error_as_json_for_programs() {
    let ended = Worker::without_settings()
        .args(["tasks", "--json"])
        .dir(Project::empty().dir())
        .run();
    ended.assert_code(2);
    let object = schema::cli_object(&ended.stdout);
    assert_eq!(object["type"], "error");
    assert_eq!(
        format!("{}\n", object["messages"][0].as_str().expect("a text")),
        ended.stderr
    );
}

#[test]
fn local_without_a_task_lists_the_ready_tasks() {
    let project = Project::with_graph(GRAPH);
    let ended = Worker::without_settings()
        .arg("local")
        .dir(project.dir())
        .run();
    ended.assert_code(2);
    assert!(
        ended.stderr.contains(
            "TASK_ID: is missing; choose a task with --task\nready are:\n  4        Buy a carpet\n  2.1      Build the walls\n"
        ),
        "{ended:#?}"
    );
    let ended = Worker::without_settings()
        .args(["local", "--json"])
        .dir(project.dir())
        .run();
    ended.assert_code(2);
    let object = schema::cli_object(&ended.stdout);
    assert_eq!(
        object["messages"][0],
        "TASK_ID: is missing; choose a task with --task"
    );
}

#[test]
fn tasks_without_a_graph_says_what_is_missing() {
    let project = Project::empty();
    let ended = Worker::without_settings()
        .arg("tasks")
        .dir(project.dir())
        .run();
    ended.assert_code(2);
    assert_eq!(ended.stderr, MISSING_GRAPH);
    for args in [&["local"][..], &["local", "--task", "8", "--dry-run"]] {
        let ended = Worker::without_settings()
            .args(args)
            .dir(project.dir())
            .run();
        ended.assert_code(2);
        assert!(ended.stderr.ends_with(MISSING_GRAPH), "{ended:#?}");
    }
}

/// The error for a project without a graph.
const MISSING_GRAPH: &str = "./.scud/tasks/tasks.scg does not exist; name the project's directory with --project, or write the task \
                             graph there, by hand or with the command `scud`\n";

#[test]
fn the_output_about_a_long_cycle_grows_only_with_the_number_of_its_tasks() {
    let nodes: Vec<String> = (1..=3_000)
        .map(|task| format!("{task} | Task | P | 1 | M"))
        .collect();
    let edges: Vec<String> = (2..=3_000)
        .map(|task| format!("{task} -> {}", task - 1))
        .collect();
    let project = Project::with_graph(&format!(
        "# SCUD Graph v1\n# Phase: webapp\n\n@nodes\n{}\n\n@edges\n1 -> 3000\n{}\n",
        nodes.join("\n"),
        edges.join("\n")
    ));
    for args in [&["tasks"][..], &["tasks", "--json"]] {
        let ended = Worker::without_settings()
            .args(args)
            .dir(project.dir())
            .run();
        ended.assert_code(0);
        assert!(ended.stdout.contains("2988 more"));
        assert!(
            ended.stdout.len() < 3_000 * 500,
            "{} bytes",
            ended.stdout.len()
        );
    }
}
