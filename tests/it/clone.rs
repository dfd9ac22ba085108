//! For operators: which commit the worker clones with `DESCARTES_REPO` and `DESCARTES_REF`, and the errors if it cannot clone.

mod errors;
mod network;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::origin::{git, write_program};
use crate::support::worker::FinishedWorker;
use crate::support::{Origin, Project, Receiver, duration_setting, path, quoted, with_enough_time};

/// The git token of the worker.
const TOKEN: &str = "ghp_Hk3nQ8zLw1vT6yXc";

/// The message and the detail of a failure to clone; asserts that the failure is retryable.
#[track_caller]
fn retryable_failure(receiver: &Receiver, ended: &FinishedWorker) -> String {
    workspace_failure(receiver, ended, true)
}

/// The message and the detail of a failure to clone; asserts whether the failure is retryable.
#[track_caller]
fn workspace_failure(receiver: &Receiver, ended: &FinishedWorker, retryable: bool) -> String {
    ended.assert_code(1);
    assert_eq!(receiver.routes(), ["started", "failed"]);
    let failure = receiver.only_event("failed")["failure"].clone();
    assert_eq!(failure["reason"], "workspace_failed", "{failure}");
    assert_eq!(failure["retryable"], retryable, "{failure}");
    format!(
        "{}\n{}",
        text(&failure["message"]),
        text(&failure["detail"])
    )
}

/// The text of a JSON string.
fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// The message and the detail of a failure to clone; asserts that the failure is not retryable.
#[track_caller]
fn permanent_failure(receiver: &Receiver, ended: &FinishedWorker) -> String {
    workspace_failure(receiver, ended, false)
}

#[test]
fn the_default_branch_is_checked_out_if_no_reference_is_set() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let base = origin.git(&["rev-parse", "main"]);
    let ended = origin
        .worker(&receiver)
        .agent("cat README; git status --short | wc -l")
        .run();
    ended.assert_code(0);
    let result = &receiver.only_event("completed")["result"];
    assert_eq!(result["work"]["base_commit"], base);
    assert_eq!(result["output"]["tail"], "A house.\n0\n");
}

#[test]
fn a_branch_a_tag_or_a_commit_is_checked_out() {
    let origin = Origin::new();
    let first = origin.git(&["rev-parse", "main"]);
    origin.git(&["tag", "-m", "first", "v1", "main"]);
    origin.git(&["branch", "old/house", "main"]);
    origin.commit(&[("README", "A castle.\n")]);
    for reference in ["old/house", "v1", &first] {
        let receiver = Receiver::start();
        let ended = origin
            .worker(&receiver)
            .env("DESCARTES_REF", reference)
            .env(
                "DESCARTES_WORKSPACE",
                origin.path(&format!("at-{}", reference.len())),
            )
            .env("DESCARTES_BRANCH", "none")
            .agent("cat README")
            .run();
        ended.assert_code(0);
        let result = &receiver.only_event("completed")["result"];
        assert_eq!(result["work"]["base_commit"], first, "{reference}");
        assert_eq!(result["output"]["tail"], "A house.\n");
        assert_eq!(result["work"]["pushed"], false);
    }
}

#[test]
fn a_clone_contains_one_commit_of_one_branch() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    origin.git(&["branch", "other", "main"]);
    let agent = "git rev-list --count HEAD; git branch -a --format='%(refname:short)'";
    origin.worker(&receiver).agent(agent).run().assert_code(0);
    let result = &receiver.only_event("completed")["result"];
    assert_eq!(result["output"]["tail"], "1\ndescartes/proj-456/8\n");
}

#[test]
fn the_objects_of_a_clone_are_in_one_pack() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let agent = "find .git/objects -type f | sed 's/.*[.]//' | grep -v rev";
    origin.worker(&receiver).agent(agent).run().assert_code(0);
    let result = &receiver.only_event("completed")["result"];
    let mut files: Vec<&str> = text(&result["output"]["tail"]).lines().collect();
    files.sort_unstable();
    assert_eq!(files, ["idx", "pack"]);
}

#[test]
fn a_repository_with_sha256_names_is_cloned_and_pushed_to() {
    let (receiver, origin) = (
        Receiver::start(),
        Origin::with_object_format("sha256", &[("README", "new\n")]),
    );
    origin
        .worker(&receiver)
        .agent("echo more >> README")
        .run()
        .assert_code(0);
    let work = &receiver.only_event("completed")["result"]["work"];
    assert_eq!(text(&work["head_commit"]).len(), 64);
    assert_eq!(origin.show("descartes/proj-456/8", "README"), "new\nmore");
}

#[test]
fn the_log_names_submodules_and_large_files_that_are_not_fetched() {
    let modules = "[submodule \"a\"]\n\tpath = third/party\n\turl = https://git.example/a.git\n";
    let large = "# no pattern\n*.psd filter=lfs diff=lfs merge=lfs -text\n";
    let origin = Origin::with_files(&[(".gitmodules", modules), (".gitattributes", large)]);
    let receiver = Receiver::start();
    let ended = origin.worker(&receiver).agent("true").run();
    ended.assert_code(0);
    assert!(
        ended
            .stderr
            .contains("submodules, which are not fetched: third/party"),
        "{ended:#?}"
    );
    assert!(
        ended.stderr.contains("the clone has their pointers: *.psd"),
        "{ended:#?}"
    );
}

/// The path, the mode and the content of every file and directory below a directory.
fn all_files(dir: &Path) -> Vec<(String, u32, Vec<u8>)> {
    use std::os::unix::fs::PermissionsExt;
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let mode = path.symlink_metadata().unwrap().permissions().mode();
        if path.is_dir() {
            found.extend(all_files(&path));
            found.push((path.display().to_string(), mode, Vec::new()));
        } else {
            found.push((path.display().to_string(), mode, fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_workspace_without_a_clone_is_not_cleaned_committed_to_or_pushed_from() {
    let (receiver, origin, project) = (Receiver::start(), Origin::new(), Project::new());
    git(project.dir(), &["init", "-q", "-b", "main"]);
    git(project.dir(), &["add", "."]);
    git(project.dir(), &["commit", "-qm", "first"]);
    git(project.dir(), &["remote", "add", "origin", &origin.url()]);
    project
        .write("dirty", "yes")
        .write(".git/index.lock", "held");
    let before = all_files(project.dir());
    let worker = crate::support::Worker::new(&receiver, &project).env("DESCARTES_GIT_TOKEN", TOKEN);
    worker.agent("exit 3").run().assert_code(1);
    assert_eq!(all_files(project.dir()), before);
    assert_eq!(origin.branches(), ["main"]);
    assert_eq!(receiver.only_event("failed")["result"]["work"], Value::Null);
}

#[test]
fn the_name_of_a_branch_and_a_tag_is_ambiguous_and_the_full_names_are_not() {
    let origin = Origin::new();
    let first = origin.git(&["rev-parse", "main"]);
    origin.git(&["tag", "twice", "main"]);
    let second = origin.commit(&[("README", "A castle.\n")]);
    origin.git(&["branch", "twice", "main"]);
    let receiver = Receiver::start();
    let worker = origin.worker(&receiver).env("DESCARTES_REF", "twice");
    let ended = worker.agent("true").run();
    let why = permanent_failure(&receiver, &ended);
    assert!(
        why.contains("refs/heads/twice") && why.contains("refs/tags/twice"),
        "{why}"
    );
    assert!(
        why.contains("a branch and a tag have the same name"),
        "{why}"
    );
    for (name, commit) in [("refs/heads/twice", second), ("refs/tags/twice", first)] {
        let receiver = Receiver::start();
        let worker = origin.worker(&receiver).env("DESCARTES_REF", name);
        let worker = worker.env("DESCARTES_WORKSPACE", origin.path(&name.replace('/', "-")));
        worker
            .env("DESCARTES_BRANCH", "none")
            .agent("true")
            .run()
            .assert_code(0);
        let work = &receiver.only_event("completed")["result"]["work"];
        assert_eq!(work["base_commit"], commit, "{name}");
    }
}

#[test]
fn a_commit_of_a_sha256_repository_is_checked_out_by_its_64_digits() {
    let (receiver, origin) = (
        Receiver::start(),
        Origin::with_object_format("sha256", &[("README", "old\n")]),
    );
    let first = origin.git(&["rev-parse", "main"]);
    origin.commit(&[("README", "new\n")]);
    let worker = origin.worker(&receiver).env("DESCARTES_REF", &first);
    worker.agent("grep -q old README").run().assert_code(0);
    assert_eq!(
        receiver.only_event("completed")["result"]["work"]["base_commit"],
        first
    );
}

#[test]
fn a_directory_that_contains_only_lost_and_found_can_be_cloned_into() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    fs::create_dir_all(origin.workspace().join("lost+found")).unwrap();
    let check = origin.worker(&receiver).agent("true").arg("check").run();
    check.assert_code(0);
    origin
        .worker(&receiver)
        .agent("test -e README")
        .run()
        .assert_code(0);
}

/// The git that the tests use.
fn real_git() -> PathBuf {
    let path = path();
    let mut programs = std::env::split_paths(&path).map(|dir| dir.join("git"));
    let git = programs.find(|program| program.is_file());
    git.expect("git is on PATH")
}

#[test]
fn the_time_limit_of_the_task_begins_after_the_clone() {
    with_enough_time(Duration::from_secs(1), |limit| {
        let (receiver, origin) = (Receiver::start(), Origin::new());
        let longer = limit.mul_f64(1.5).as_secs_f64();
        let real = quoted(real_git());
        let script =
            format!("case \" $* \" in *' fetch '*) sleep {longer};; esac\nexec {real} \"$@\"");
        write_program(&origin.path("bin/git"), &script);
        let path = format!("{}:{}", origin.path("bin").display(), path().display());
        let worker = origin.worker(&receiver).env("PATH", path);
        let ended = worker
            .env("DESCARTES_TASK_TIMEOUT", duration_setting(limit))
            .agent("true")
            .run();
        match ended.code {
            Some(0) => Ok(()),
            _ => Err(format!("the agent did not end: {}", ended.stderr)),
        }
    });
}

#[test]
fn a_repository_of_another_user_is_cloned_and_pushed_to() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    // With this variable, which git's own tests use, git treats every repository as one of another user.
    let script = format!(
        "GIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {} \"$@\"",
        quoted(real_git())
    );
    write_program(&origin.path("bin/git"), &script);
    let path = format!("{}:{}", origin.path("bin").display(), path().display());
    let worker = origin.worker(&receiver).env("PATH", path);
    worker.agent("echo done > DONE").run().assert_code(0);
    assert_eq!(origin.show("descartes/proj-456/8", "DONE"), "done");
}

#[test]
fn a_temporary_clone_is_deleted_unless_keep_workspace_is_set() {
    for (keep, clones) in [("false", 0), ("true", 1)] {
        let (receiver, origin) = (Receiver::start(), Origin::new());
        let worker = origin.worker(&receiver).remove_env("DESCARTES_WORKSPACE");
        let worker = worker.env("DESCARTES_KEEP_WORKSPACE", keep);
        worker.agent("exit 3").run().assert_code(1);
        let entries = fs::read_dir(origin.path("tmp")).unwrap();
        let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), clones, "{names:?}");
    }
}

#[test]
fn the_progress_of_a_clone_is_reported_and_not_quoted_in_an_error() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let go_file = quoted(origin.path("go"));
    // After the reason for the failure, git prints as many progress lines as for a large clone.
    let script = format!(
        "[ \"$1\" = fetch ] || exit 0
         echo 'fatal: Authentication failed' >&2
         for line in $(seq 500); do printf 'Receiving objects:  45%% (9/20), 1.25 MiB | 300.00 KiB/s\\r' >&2; done
         until [ -e {go_file} ]; do sleep 0.02; done
         printf 'Receiving objects:  99%% (19/20), 2.25 MiB | 300.00 KiB' >&2; exit 128"
    );
    write_program(&origin.path("bin/git"), &script);
    let path = format!("{}:{}", origin.path("bin").display(), path().display());
    let worker = origin.worker(&receiver).env("PATH", path);
    let running = worker
        .env("DESCARTES_HEARTBEAT", "50ms")
        .agent("true")
        .start();
    let heartbeat = receiver.wait_for("a heartbeat with progress", |requests| {
        let heartbeats = requests
            .iter()
            .filter(|request| request.route == "progress");
        let mut events = heartbeats.map(|request| request.event.clone());
        events.find(|event| !event["progress"]["transfer"].is_null())
    });
    let transfer = &heartbeat["progress"]["transfer"];
    assert_eq!(transfer["phase"], "receiving objects");
    assert_eq!(transfer["percent"], 45);
    assert_eq!(transfer["bytes"], 1_310_720);
    assert_eq!(heartbeat["message"], "preparing: receiving objects, 45 %");
    fs::write(origin.path("go"), "").unwrap();
    let why = permanent_failure(&receiver, &running.wait());
    assert!(why.contains("Authentication failed"), "{why}");
    assert!(!why.contains("Receiving"), "{why}");
}
