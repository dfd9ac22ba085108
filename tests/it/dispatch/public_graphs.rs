//! Graphs like those of public projects: with split tasks, chains, several phases, and tasks that are already done or
//! cancelled.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::sample::Graph;
use crate::support::Worker;

/// The variable with a folder of further graphs (`*.scg`). Without it, only [`PUBLIC_SHAPE`] is used.
const GRAPHS: &str = "DISPATCH_GRAPHS";

const PUBLIC_SHAPE: &str = "\
# SCUD Graph v1
# Phase: init

@meta {
  name init
  updated 2026-04-06T15:20:00Z
}

@nodes
# id | title | status | complexity | priority
1 | Analyze the old code | D | 3 | H
2 | Design modules \\| layers | X | 5 | H
2.1 | Outline the modules | P | 0 | H
2.2 | Define interfaces — keep them small | P | 0 | M
3 | Set up the project | P | 2 | C
4 | Old idea | C | 1 | L
5 | Add tests | X | 8 | H
5.1 | Test the parser | P | 0 | H
5.2 | Test the reports | P | 0 | L

@edges
# dependent -> dependency
2 -> 1
2.2 -> 2.1
3 -> 2
5 -> 3
5.2 -> 5.1

@parents
2: 2.1, 2.2
5: 5.1, 5.2

@details
2.1 | description |
  Layers, from the top to the ground.

  | P | is no status here.

---

# SCUD Graph v1
# Phase: polish

@meta {
  name polish
  updated 2026-04-06T15:20:00Z
}

@nodes
1 | Write the manual | P | 1 | M
2 | Publish it | P | 1 | M

@edges
1 -> init:5
2 -> 1
";

/// The tasks with these standings, from `tasks --json`, as `phase:id`.
fn tasks_with(graph: &Graph, standings: &[&str]) -> Vec<String> {
    let ended = Worker::without_settings()
        .args(["tasks", "--json"])
        .dir(graph.project())
        .run();
    ended.assert_code(0);
    let tasks: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let tasks = tasks["tasks"].as_array().expect("tasks").clone();
    let matching = tasks.iter().filter(|task| {
        let standing = task["standing"].as_str().expect("a standing");
        standings.contains(&standing)
    });
    let names = matching.map(|task| {
        let id = task["id"].as_str().expect("an id");
        let phase = task["phase"].as_str().expect("a phase");
        format!("{phase}:{}", id.rsplit(':').next().unwrap_or(id))
    });
    names.collect()
}

/// Runs `dispatch` on a graph, and asserts that each task that can be done was merged once.
fn dispatch_and_assert_merged(name: &str, text: &str) -> Graph {
    let graph = Graph::with_text(text);
    let doable = tasks_with(&graph, &["ready", "waiting"]);
    let blocked = tasks_with(&graph, &["blocked"]);
    let code = i32::from(!blocked.is_empty());
    let agent = "echo \"$TASK_ID\" > \"done-$(echo \"$TASK_ID\" | tr :/ --)\"";
    let dispatch = graph.dispatch(agent);
    let ended = dispatch
        .args(["--all-phases", "--branch", "all", "--jobs", "4"])
        .run();
    assert_eq!(ended.code, Some(code), "{name}: {blocked:?}\n{ended:#?}");
    graph.git(&["checkout", "--quiet", "all"]);
    assert_eq!(tasks_with(&graph, &["ready", "waiting"]), [""; 0], "{name}");
    for task in &doable {
        let key = format!("done-{}", task.replace([':', '/'], "-"));
        assert_eq!(graph.show("all", &key), format!("{task}\n"), "{name}");
    }
    let merged = graph.entries("merged");
    assert_eq!(merged.len(), doable.len(), "{name}");
    graph
}

/// The graphs to test, with their names.
fn graphs() -> Vec<(String, String)> {
    let mut all = vec![("public shape".to_owned(), PUBLIC_SHAPE.to_owned())];
    let Some(folder) = folder_of_further_graphs() else {
        return all;
    };
    for entry in fs::read_dir(folder).expect("the folder of graphs") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "scg") {
            let text = fs::read_to_string(&path).expect("a graph");
            all.push((path.display().to_string(), text));
        }
    }
    all
}

#[expect(
    clippy::disallowed_methods,
    reason = "the developer names further graphs with a variable"
)]
fn folder_of_further_graphs() -> Option<PathBuf> {
    std::env::var_os(GRAPHS).map(PathBuf::from)
}

#[test]
fn all_tasks_that_can_be_done_of_graphs_like_those_of_public_projects_are_done() {
    for (name, text) in graphs() {
        dispatch_and_assert_merged(&name, &text);
    }
}

#[cfg(feature = "peers")]
mod peers {
    use std::process::Command;

    use super::*;

    /// The tasks of a phase, as the real scud lists them.
    fn list_with_scud(dir: &std::path::Path, phase: &str) -> Vec<Value> {
        let output = Command::new("scud")
            .args(["list", "--tag", phase, "--json"])
            .current_dir(dir)
            .env("NO_COLOR", "1")
            .output()
            .expect("scud on PATH: cargo install --locked scud-cli@1.67.0");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scud list --tag {phase}: {error}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    #[test]
    fn scud_reads_the_graph_of_every_commit_and_each_merge_marks_one_task_as_done() {
        for (name, text) in graphs() {
            let graph = dispatch_and_assert_merged(&name, &text);
            let phases: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix("# Phase: "))
                .map(str::trim)
                .collect();
            let commits = graph.git(&["rev-list", "--reverse", "--first-parent", "all"]);
            let dir = tempfile::tempdir().expect("a directory");
            let file = dir.path().join(".scud/tasks/tasks.scg");
            fs::create_dir_all(file.parent().expect("a parent")).expect("directories");
            let mut done_before = None;
            for commit in commits.lines() {
                fs::write(&file, graph.show(commit, ".scud/tasks/tasks.scg")).expect("a file");
                let tasks = phases
                    .iter()
                    .flat_map(|phase| list_with_scud(dir.path(), phase));
                let tasks: Vec<Value> = tasks.collect();
                let count = |status: &str| {
                    let tasks = tasks.iter().filter(|task| task["status"] == status);
                    tasks.count()
                };
                assert_eq!(
                    count("in-progress") + count("failed"),
                    0,
                    "{name}: {commit}"
                );
                let done = count("done");
                let expected = done_before.map_or(done, |before| before + 1);
                assert_eq!(done, expected, "{name}: {commit}");
                done_before = Some(done);
            }
            // The commits of workers contain the graph, too.
            let all = graph.git(&["rev-list", "all"]);
            for commit in all.lines() {
                fs::write(&file, graph.show(commit, ".scud/tasks/tasks.scg")).expect("a file");
                for phase in &phases {
                    list_with_scud(dir.path(), phase);
                }
            }
        }
    }
}
