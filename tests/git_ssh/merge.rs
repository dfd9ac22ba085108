//! For people who merge the branches of several workers: branches of tasks of one graph merge without a
//! conflict, and SCUD can read the result.
//!
//! If the lines of two tasks are neighbors in the graph, the merge driver is needed: without it, git treats changes
//! in two neighboring lines as a conflict.

use std::fs;
use std::process::Command;

use crate::support::origin::git;
use crate::support::project::GRAPH;
use crate::support::{Origin, Receiver, quoted};

#[test]
fn tasks_that_are_not_neighbors_in_the_graph_merge_without_the_driver_and_scud_reads_them_both_as_done()
 {
    let graph = GRAPH.replace("9 | Paint it", "8.5 | Wait | P | 1 | L\n9 | Paint it");
    assert_merges(&graph, "");
}

#[test]
fn neighbors_in_the_graph_merge_with_the_driver_and_scud_reads_them_both_as_done() {
    assert_merges(GRAPH, ".scud/tasks/tasks.scg merge=scud\n");
}

/// Runs two workers on tasks 8 and 9, and asserts that their branches merge with these git attributes.
#[track_caller]
fn assert_merges(graph: &str, attributes: &str) {
    let origin = Origin::new();
    origin.commit(&[(".scud/tasks/tasks.scg", graph)]);
    let receiver = Receiver::start();
    let workers = ["8", "9"].map(|task| {
        let worker = origin
            .worker(&receiver)
            .env("TASK_ID", task)
            .env("DESCARTES_RUN_ID", format!("run-{task}"));
        let worker = worker.env(
            "DESCARTES_WORKSPACE",
            origin.path(&format!("workspace-{task}")),
        );
        worker.agent(format!("echo {task} > work-{task}")).start()
    });
    for worker in workers {
        worker.wait().assert_code(0);
    }
    let merged = origin.path("merged");
    let to = merged.to_str().expect("UTF-8");
    git(&origin.path("tmp"), &["clone", "-q", &origin.url(), to]);
    let worker = quoted(env!("CARGO_BIN_EXE_descartes-worker"));
    let driver = format!("{worker} merge-graph %O %A %B");
    git(&merged, &["config", "merge.scud.driver", &driver]);
    fs::write(merged.join(".git/info/attributes"), attributes).expect("a written file");
    for task in ["8", "9"] {
        let branch = format!("origin/descartes/proj-456/{task}");
        git(&merged, &["merge", "-q", "--no-edit", &branch]);
        assert!(merged.join(format!("work-{task}")).exists());
    }
    for task in ["7", "8", "9"] {
        let output = Command::new("scud")
            .args(["show", task, "--tag", "webapp"])
            .current_dir(&merged)
            .output()
            .expect("scud is on PATH");
        let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
        let status = text
            .lines()
            .find(|line| line.contains("status"))
            .unwrap_or_default()
            .to_owned();
        assert!(status.contains("done"), "{text}");
    }
    let stat = git(&merged, &["diff", "--stat", "origin/main", "--", ".scud"]);
    // One line for the graph and one for the total: no other file of SCUD has changed.
    assert_eq!(stat.lines().count(), 2);
}
