//! For whoever merges what several workers made: branches of tasks of one graph merge without a
//! conflict, and SCUD reads what comes of it.
//!
//! Tasks whose lines are neighbours in the graph are left out: git sees one change there, not two,
//! however little of each line is changed.

use std::process::Command;

use crate::support::origin::git;
use crate::support::project::GRAPH;
use crate::support::{Origin, Receiver};

#[test]
fn two_tasks_of_one_graph_merge_and_scud_reads_them_both_as_done() {
    let origin = Origin::new();
    let graph = GRAPH.replace("9 | Paint it", "8.5 | Wait | P | 1 | L\n9 | Paint it");
    origin.commit(&[(".scud/tasks/tasks.scg", &graph)]);
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
    git(
        &origin.path("tmp"),
        &["clone", "-q", &origin.url(), merged.to_str().unwrap()],
    );
    for task in ["8", "9"] {
        git(
            &merged,
            &[
                "merge",
                "-q",
                "--no-edit",
                &format!("origin/descartes/proj-456/{task}"),
            ],
        );
        assert!(merged.join(format!("work-{task}")).exists());
    }
    for task in ["7", "8", "9"] {
        let said = Command::new("/opt/scud/bin/scud")
            .args(["show", task, "--tag", "webapp"])
            .current_dir(&merged)
            .output()
            .expect("scud is installed");
        let said = String::from_utf8_lossy(&said.stdout).to_lowercase();
        let status = said
            .lines()
            .find(|line| line.contains("status"))
            .unwrap_or_default()
            .to_owned();
        assert!(status.contains("done"), "{said}");
    }
    assert_eq!(
        git(&merged, &["diff", "--stat", "origin/main", "--", ".scud"])
            .lines()
            .count(),
        2
    );
}
