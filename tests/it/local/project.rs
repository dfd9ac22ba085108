//! The settings that say where the project is mean the same for `local` as for any worker.

use super::{assert_in_order, program, timeline_and_log};
use crate::support::{FinishedWorker, Origin, Project};

fn assert_cloned_and_pushed(ended: &FinishedWorker, origin: &Origin, dir: &Project) {
    ended.assert_code(0);
    let (timeline, _) = timeline_and_log(ended);
    let clones = format!("orchestrator     the worker clones {}\n", origin.url());
    assert_in_order(&timeline, &[&clones, "(on branch walls)"]);
    assert_eq!(origin.show("walls", "house"), "four walls");
    let untouched = std::fs::read_dir(dir.dir()).expect("a directory").next();
    assert!(untouched.is_none(), "{untouched:?}");
}

const AGENT: &str = "echo four walls > house";

#[test]
fn local_clones_and_pushes_if_the_environment_names_a_repository() {
    let (origin, dir) = (Origin::new(), Project::empty());
    let ended = program(&["local", "--task", "8"], &dir)
        .env("DESCARTES_REPO", origin.url())
        .env("DESCARTES_BRANCH", "walls")
        .agent(AGENT)
        .run();
    assert_cloned_and_pushed(&ended, &origin, &dir);
}

#[test]
fn local_clones_and_pushes_if_flags_name_a_repository() {
    let (origin, dir) = (Origin::new(), Project::empty());
    let url = origin.url();
    let args = ["local", "--task", "8", "--repo", &url, "--branch", "walls"];
    let ended = program(&args, &dir).agent(AGENT).run();
    assert_cloned_and_pushed(&ended, &origin, &dir);
}

#[test]
fn local_clones_to_the_directory_that_project_names() {
    let (origin, dir) = (Origin::new(), Project::empty());
    let url = origin.url();
    let args = [
        "local",
        "--task",
        "8",
        "--repo",
        &url,
        "--branch",
        "none",
        "--project",
        "clone",
    ];
    let ended = program(&args, &dir).agent(AGENT).run();
    ended.assert_code(0);
    assert_eq!(dir.read("clone/house"), "four walls\n");
    assert_eq!(origin.branches(), ["main"]);
}

#[test]
fn local_works_in_the_workspace_that_the_environment_names_unless_a_flag_names_another_project() {
    let (named, flagged, dir) = (Project::new(), Project::new(), Project::empty());
    let flag = flagged.dir().to_str().expect("UTF-8");
    for (args, project) in [
        (vec!["local", "--task", "8"], &named),
        (vec!["local", "--task", "8", "--project", flag], &flagged),
    ] {
        let ended = program(&args, &dir)
            .env("DESCARTES_WORKSPACE", named.dir())
            .agent(AGENT)
            .run();
        ended.assert_code(0);
        assert_eq!(project.read("house"), "four walls\n");
        std::fs::remove_file(project.path("house")).expect("the file");
    }
    assert!(!named.path("house").exists());
}

#[test]
fn local_rejects_a_branch_or_a_reference_without_a_repository() {
    let project = Project::new();
    let ended = program(&["local", "--task", "8", "--ref", "v1"], &project)
        .env("DESCARTES_BRANCH", "walls")
        .agent("touch worked")
        .run();
    ended.assert_code(2);
    for name in ["DESCARTES_BRANCH", "DESCARTES_REF"] {
        let message = format!(
            "  {name}: needs a repository (--repo or DESCARTES_REPO); without one, `local` changes the project's directory in place, and checks out and pushes nothing\n"
        );
        assert!(ended.stderr.contains(&message), "{ended:#?}");
    }
    assert!(!project.path("worked").exists());
    // `--branch none` pushes nothing, so it needs no repository.
    let nothing = program(&["local", "--task", "8", "--branch", "none"], &project);
    nothing.agent("true").run().assert_code(0);
}
