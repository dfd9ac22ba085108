//! The settings that say where the project is mean the same for `local` as for any worker.

use rustix::process::Signal;

use super::{assert_in_order, program, timeline_and_log};
use crate::support::{FinishedWorker, Origin, Project};

/// Asserts that the worker cloned and pushed, and that the current directory `dir` is still empty.
fn assert_cloned_and_pushed(ended: &FinishedWorker, origin: &Origin, dir: &Project) {
    ended.assert_code(0);
    let (timeline, _) = timeline_and_log(ended);
    let clones = format!("orchestrator     the worker clones {}\n", origin.url());
    assert_in_order(&timeline, &[&clones, "(on branch walls)"]);
    assert_eq!(origin.show("walls", "house"), "four walls");
    let entry = std::fs::read_dir(dir.dir()).expect("a directory").next();
    assert!(entry.is_none(), "{entry:?}");
}

/// The command of an agent that writes a file.
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
    let (from_variable, from_flag, dir) = (Project::new(), Project::new(), Project::empty());
    let flag = from_flag.dir().to_str().expect("UTF-8");
    for (args, project) in [
        (vec!["local", "--task", "8"], &from_variable),
        (vec!["local", "--task", "8", "--project", flag], &from_flag),
    ] {
        let ended = program(&args, &dir)
            .env("DESCARTES_WORKSPACE", from_variable.dir())
            .agent(AGENT)
            .run();
        ended.assert_code(0);
        assert_eq!(project.read("house"), "four walls\n");
        std::fs::remove_file(project.path("house")).expect("the file");
    }
    assert!(!from_variable.path("house").exists());
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
            "  {name}: needs a repository (--repo or DESCARTES_REPO) or --commit; without them, `local` changes the project's directory in place, and checks out and pushes nothing\n"
        );
        assert!(ended.stderr.contains(&message), "{ended:#?}");
    }
    assert!(!project.path("worked").exists());
    // `--branch none` pushes nothing, so it needs no repository.
    let worker = program(&["local", "--task", "8", "--branch", "none"], &project);
    worker.agent("true").run().assert_code(0);
}

/// A project whose directory is a git repository with one commit.
fn project_in_git() -> Project {
    let project = Project::new();
    for args in [
        &["init", "--quiet", "--initial-branch=main"][..],
        &["add", "--all"],
        &["commit", "--quiet", "--message", "The foundation"],
    ] {
        git(&project, args);
    }
    project
}

/// Runs git in the directory of a project; returns its output.
#[track_caller]
fn git(project: &Project, args: &[&str]) -> String {
    crate::support::origin::git(project.dir(), args)
}

#[test]
fn the_suggested_merge_quotes_the_name_of_the_branch_for_the_shell() {
    let project = project_in_git();
    let ended = program(&["local", "--task", "8", "--commit"], &project)
        .env("DESCARTES_BRANCH", "fix;x")
        .agent(AGENT)
        .run();
    ended.assert_code(0);
    assert_in_order(&ended.stderr, &["next        git merge 'fix;x'\n"]);
}

#[test]
fn local_with_commit_leaves_the_work_on_a_branch_and_the_files_of_the_project_as_they_are() {
    let project = project_in_git();
    project.write("unfinished", "of the user");
    let ended = program(&["local", "--task", "8", "--commit"], &project)
        .agent(AGENT)
        .run();
    ended.assert_code(0);
    let branch = "descartes/local/8";
    assert_eq!(
        git(&project, &["show", &format!("{branch}:house")]),
        "four walls"
    );
    assert!(!project.path("house").exists());
    assert_eq!(git(&project, &["status", "--porcelain"]), "?? unfinished");
    assert_eq!(
        git(&project, &["log", "--format=%s", "main"]),
        "The foundation"
    );
    assert_in_order(
        &ended.stderr,
        &[
            "changes     2 files, 2 lines added and 1 removed\n",
            &format!("branch      {branch} of {}\n", project.dir().display()),
            &format!("next        git merge {branch}\n"),
        ],
    );
}

#[test]
fn local_that_is_stopped_leaves_no_clone_with_many_files_behind() {
    let (project, temporary) = (project_in_git(), Project::empty());
    let agent = "echo many > .git/info/exclude; mkdir many; cd many; seq 20000 | xargs touch; echo ready; exec sleep 600";
    let local = program(&["local", "--task", "8", "--commit"], &project)
        .env("TMPDIR", temporary.dir())
        .agent(agent)
        .start();
    local.wait_for_log("agent: ready");
    let names = || {
        let entries = std::fs::read_dir(temporary.dir()).expect("a directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let names = names.map(|name| name.into_string().expect("UTF-8"));
        let names = names.filter(|name| name.starts_with("descartes-workspace-"));
        names.collect::<Vec<_>>()
    };
    assert_eq!(names().len(), 1);
    local.signal(Signal::TERM);
    local.wait().assert_code(1);
    assert_eq!(names(), [""; 0]);
}

#[test]
fn local_with_commit_uses_the_branch_that_a_flag_names() {
    let project = project_in_git();
    let args = ["local", "--task", "8", "--commit", "--branch", "walls"];
    program(&args, &project).agent(AGENT).run().assert_code(0);
    assert_eq!(git(&project, &["show", "walls:house"]), "four walls");
}

#[test]
fn local_with_commit_does_not_push_to_a_branch_that_is_checked_out() {
    let project = project_in_git();
    let second = project.dir().with_extension("second");
    git(
        &project,
        &[
            "worktree",
            "add",
            "--quiet",
            "-b",
            "side",
            second.to_str().expect("UTF-8"),
        ],
    );
    for branch in ["main", "side"] {
        let ended = program(
            &["local", "--task", "8", "--commit", "--branch", branch],
            &project,
        )
        .agent(AGENT)
        .run();
        ended.assert_code(2);
        let message = format!("DESCARTES_BRANCH: is {branch}, which is checked out: ");
        assert!(ended.stderr.contains(&message), "{ended:#?}");
    }
    std::fs::remove_dir_all(&second).expect("the second working tree");
}

#[test]
fn local_with_commit_starts_no_agent_if_the_default_branch_or_its_branch_for_unfinished_work_is_checked_out()
 {
    let project = project_in_git();
    for (branch, relation) in [
        ("descartes/local/8", ""),
        (
            "descartes/local/8-wip",
            ", and unfinished work would go to descartes/local/8-wip",
        ),
    ] {
        git(&project, &["checkout", "--quiet", "-b", branch]);
        let worked = project.path("worked");
        let ended = program(&["local", "--task", "8", "--commit"], &project)
            .agent(format!("touch '{}'", worked.display()))
            .run();
        ended.assert_code(2);
        let message = format!(
            "1 setting is invalid\n  DESCARTES_BRANCH: is unset, and its default is descartes/local/8{relation}, which is checked out: "
        );
        assert!(ended.stderr.starts_with(&message), "{ended:#?}");
        assert!(!worked.exists());
        git(&project, &["checkout", "--quiet", "main"]);
    }
}

#[test]
fn local_with_commit_is_rejected_without_a_git_repository_or_a_branch_and_with_another_repository()
{
    let project = Project::new();
    let commit = |args: &[&str]| {
        let ended = program(&["local", "--task", "8", "--commit"], &project)
            .args(args)
            .agent("touch worked")
            .run();
        ended.assert_code(2);
        assert!(!project.path("worked").exists());
        ended.stderr
    };
    assert_eq!(
        commit(&[]),
        "--commit needs a git repository, and . has no .git; run `git init` and commit the project there, or name another \
         directory with --project, or leave --commit out to change the directory in place\n"
    );
    assert_eq!(
        commit(&["--branch", "none"]),
        "1 setting is invalid\n  DESCARTES_BRANCH: is none, but --commit leaves the work on a branch; name a branch, or leave \
         one of them out\n"
    );
    assert_eq!(
        commit(&["--repo", "/nowhere"]),
        "1 setting is invalid\n  --commit: cannot be combined with a repository (--repo or DESCARTES_REPO): \
         with one, `local` always commits\n"
    );
}
