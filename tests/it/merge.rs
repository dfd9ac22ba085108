//! For people who merge the branches of several workers: with the merge driver, the branches merge even if
//! the lines of their tasks are neighbors in the graph.

use std::fs;

use crate::support::origin::{git, write_program};
use crate::support::project::GRAPH;
use crate::support::{Origin, Project, Receiver, Worker, quoted};

/// A clone of the origin, in which git uses the merge driver.
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
fn the_branches_of_neighboring_tasks_merge_without_conflict() {
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

/// Runs the merge driver on three versions; returns its exit code and the merged text.
fn merge(base: &str, ours: &str, theirs: &str) -> (Option<i32>, String) {
    let project = Project::empty();
    project
        .write("base", base)
        .write("ours", ours)
        .write("theirs", theirs);
    let ended = Worker::without_settings()
        .dir(project.dir())
        .args(["merge-graph", "base", "ours", "theirs"])
        .run();
    assert_eq!(ended.stderr, "");
    (ended.code, project.read("ours"))
}

#[test]
fn other_changes_than_status_letters_are_merged_by_git() {
    let done = |graph: &str, title: &str| {
        graph.replace(&format!("{title} | P |"), &format!("{title} | D |"))
    };
    let ours = done(GRAPH, "house");
    let theirs = done(GRAPH, "Paint it").replace("  Not three.\n", "  Not five.\n");
    let (code, merged) = merge(GRAPH, &ours, &theirs);
    assert_eq!((code, merged), (Some(0), done(&theirs, "house")));
    let other_letter = GRAPH.replace("house | P |", "house | F |");
    let (code, merged) = merge(GRAPH, &ours, &other_letter);
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
fn a_file_that_is_not_a_graph_is_merged_as_git_merges_it() {
    assert_eq!(
        merge("a\n\nb\n", "A\n\nb\n", "a\n\nB\n"),
        (Some(0), "A\n\nB\n".to_owned())
    );
    assert_eq!(merge("a\n", "b\n", "c\n").0, Some(1));
}

/// A directory with three versions of the graph; a merge changes the letters of two neighboring tasks.
fn three_versions() -> Project {
    let project = Project::empty();
    project
        .write("base", GRAPH)
        .write("ours", GRAPH.replace("house | P |", "house | D |"))
        .write("theirs", GRAPH.replace("Paint it | P |", "Paint it | D |"));
    project
}

#[test]
fn an_error_has_an_exit_code_that_git_does_not_take_for_a_conflict_and_changes_no_file() {
    let project = three_versions();
    let before = ["base", "ours", "theirs"].map(|name| project.read(name));
    let merge = |args: &[&str]| {
        let worker = Worker::without_settings()
            .dir(project.dir())
            .arg("merge-graph");
        worker.args(args)
    };
    let bin = tempfile::tempdir().expect("a directory");
    write_program(&bin.path().join("git"), "echo broken >&2; exit 255");
    let no_git = Project::empty();
    for (worker, message) in [
        (
            merge(&["base", "ours", "gone"]),
            "their version (%B) gone cannot be read: No such file or directory (os error 2)\n",
        ),
        (
            merge(&["base", "ours", "theirs"]).env("PATH", no_git.dir()),
            "git cannot be started: ",
        ),
        (
            merge(&["base", "ours", "theirs"]).env("PATH", bin.path()),
            "git merge-file ended with exit status: 255: broken\n",
        ),
        (
            merge(&["base", "ours", "theirs"]).env("TMPDIR", project.path("gone")),
            "no temporary directory could be made: ",
        ),
        (merge(&["base", "ours"]), "error: "),
        (merge(&["base", "ours", "theirs", "more"]), "error: "),
        (merge(&["--nonsense"]), "error: "),
    ] {
        let ended = worker.run();
        ended.assert_code(129);
        assert!(ended.stderr.starts_with(message), "{message}: {ended:#?}");
        let after = ["base", "ours", "theirs"].map(|name| project.read(name));
        assert_eq!(after, before);
    }
}

#[test]
fn invalid_settings_do_not_stop_a_merge() {
    let project = three_versions();
    let ended = Worker::without_settings()
        .dir(project.dir())
        .env("RUST_LOG", "foo=verbose")
        .env("DESCARTES_LOG_FORMAT", "xml")
        .env("DESCARTES_HEARTBEAT", "often")
        .env("DESCARTES_NONSENSE", "1")
        .args(["merge-graph", "base", "ours", "theirs"])
        .run();
    ended.assert_code(0);
    assert_eq!(ended.stderr, "");
    let merged = GRAPH
        .replace("house | P |", "house | D |")
        .replace("Paint it | P |", "Paint it | D |");
    assert_eq!(project.read("ours"), merged);
    // The files with the other versions belong to git, so they stay unchanged.
    assert_eq!(project.read("base"), GRAPH);
}

#[test]
fn git_reports_no_conflict_if_the_driver_fails() {
    let project = three_versions();
    let dir = project.dir();
    let write = |version: &str| {
        fs::create_dir_all(dir.join("repo")).expect("a directory");
        fs::write(dir.join("repo/tasks.scg"), project.read(version)).expect("written");
    };
    let repo = dir.join("repo");
    write("base");
    git(&repo, &["init", "-q", "-b", "main"]);
    let driver = format!(
        "{} merge-graph %O %A /nowhere",
        quoted(env!("CARGO_BIN_EXE_descartes-worker"))
    );
    git(&repo, &["config", "merge.scud.driver", &driver]);
    fs::write(repo.join(".git/info/attributes"), "*.scg merge=scud\n").expect("written");
    git(&repo, &["add", "--all"]);
    git(&repo, &["commit", "-q", "-m", "base"]);
    git(&repo, &["checkout", "-q", "-b", "theirs"]);
    write("theirs");
    git(&repo, &["commit", "-q", "-a", "-m", "theirs"]);
    git(&repo, &["checkout", "-q", "main"]);
    write("ours");
    git(&repo, &["commit", "-q", "-a", "-m", "ours"]);
    let merge = std::process::Command::new("git")
        .args([
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@b",
            "merge",
            "theirs",
        ])
        .current_dir(&repo)
        .output()
        .expect("git starts");
    let stderr = String::from_utf8_lossy(&merge.stderr);
    assert!(!merge.status.success(), "{stderr}");
    let words = String::from_utf8_lossy(&merge.stdout);
    assert!(!words.contains("CONFLICT"), "{words}{stderr}");
}
