//! For whoever merges what several workers made: with the merge driver, tasks whose lines are
//! neighbours in the graph merge like any others.

use std::fs;

use crate::support::origin::git;
use crate::support::project::GRAPH;
use crate::support::{Origin, Project, Receiver, Worker, quoted};

/// A clone of what the workers pushed, with the merge driver set up.
fn clone_with_driver(origin: &Origin) -> std::path::PathBuf {
    let merged = origin.path("merged");
    let to = merged.to_str().expect("UTF-8");
    git(&origin.path("tmp"), &["clone", "-q", &origin.url(), to]);
    let driver = format!(
        "{} merge-graph %O %A %B",
        quoted(env!("CARGO_BIN_EXE_descartes-worker"))
    );
    git(&merged, &["config", "merge.scud.driver", &driver]);
    fs::write(
        merged.join(".git/info/attributes"),
        ".scud/tasks/tasks.scg merge=scud\n",
    )
    .expect("written");
    merged
}

#[test]
fn branches_of_neighbouring_tasks_merge() {
    let origin = Origin::new();
    let receiver = Receiver::start();
    for task in ["8", "9"] {
        let worker = origin.worker(&receiver).env("TASK_ID", task);
        let workspace = origin.path(&format!("workspace-{task}"));
        let worker = worker.env("DESCARTES_WORKSPACE", workspace);
        worker
            .agent(format!("echo {task} > work-{task}"))
            .run()
            .assert_code(0);
    }
    let merged = clone_with_driver(&origin);
    for task in ["8", "9"] {
        let branch = format!("origin/descartes/proj-456/{task}");
        git(&merged, &["merge", "-q", "--no-edit", &branch]);
    }
    let graph = fs::read_to_string(merged.join(".scud/tasks/tasks.scg")).expect("the graph");
    let both = GRAPH
        .replace("house | P |", "house | D |")
        .replace("Paint it | P |", "Paint it | D |");
    assert_eq!(graph, both);
    assert!(merged.join("work-8").exists() && merged.join("work-9").exists());
}

/// Merges three versions; the exit code and what came of it.
fn merge(base: &str, ours: &str, theirs: &str) -> (Option<i32>, String) {
    let project = Project::empty();
    project
        .write("base", base)
        .write("ours", ours)
        .write("theirs", theirs);
    let ended = Worker::bare()
        .dir(project.dir())
        .args(["merge-graph", "base", "ours", "theirs"])
        .run();
    assert_eq!(ended.stderr, "");
    (ended.code, project.read("ours"))
}

#[test]
fn what_letters_do_not_explain_is_merged_as_git_does_it() {
    let done = |graph: &str, title: &str| {
        graph.replace(&format!("{title} | P |"), &format!("{title} | D |"))
    };
    let ours = done(GRAPH, "house");
    let theirs = done(GRAPH, "Paint it").replace("  Not three.\n", "  Not five.\n");
    let (code, merged) = merge(GRAPH, &ours, &theirs);
    assert_eq!((code, merged), (Some(0), done(&theirs, "house")));
    let twice = GRAPH.replace("house | P |", "house | F |");
    let (code, merged) = merge(GRAPH, &ours, &twice);
    assert_eq!(code, Some(1));
    assert!(
        merged.contains("<<<<<<< ours\n8 | Build the \\| house | D |"),
        "{merged}"
    );
    assert!(
        merged.contains("8 | Build the \\| house | F | 5 | C\n>>>>>>> theirs\n"),
        "{merged}"
    );
}

#[test]
fn what_is_no_graph_is_merged_all_the_same() {
    assert_eq!(
        merge("a\n\nb\n", "A\n\nb\n", "a\n\nB\n"),
        (Some(0), "A\n\nB\n".to_owned())
    );
    assert_eq!(merge("a\n", "b\n", "c\n").0, Some(1));
    let ended = Worker::bare()
        .args(["merge-graph", "/nowhere", "/nothing", "/never"])
        .run();
    ended.assert_code(2);
    assert_eq!(
        ended.stderr,
        "/nowhere cannot be read: No such file or directory (os error 2)\n"
    );
}
