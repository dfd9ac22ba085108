//! For people who merge: the worker pushes exactly the changes that the agent's own git would commit, and names all other
//! changes.

mod filters;
mod lfs;
#[cfg(feature = "peers")]
mod peers;
mod submodules;

use std::fs;

use serde_json::Value;

use crate::support::worker::FinishedWorker;
use crate::support::{Origin, Receiver, Worker, path};

/// The branch to which workers for task 8 push by default.
const BRANCH: &str = "descartes/proj-456/8";

/// A finished run: its terminal event and its process.
struct Run {
    event: Value,
    worker: FinishedWorker,
}

impl Run {
    fn message(&self) -> &str {
        self.event["message"].as_str().expect("a message")
    }

    /// The message and the detail of the failure.
    fn failure_text(&self) -> String {
        format!(
            "{}\n{}",
            self.event["failure"]["message"]
                .as_str()
                .unwrap_or_default(),
            self.event["failure"]["detail"].as_str().unwrap_or_default()
        )
    }
}

/// A worker whose `PATH` begins with the programs in the origin's directory `bin`.
fn worker(origin: &Origin, receiver: &Receiver) -> Worker {
    let path = format!("{}:{}", origin.path("bin").display(), path().display());
    origin.worker(receiver).env("PATH", path)
}

/// Runs an agent, and asserts that the task is completed.
#[track_caller]
fn run_and_assert_completed(origin: &Origin, agent: &str) -> Run {
    let receiver = Receiver::start();
    let worker = worker(origin, &receiver).agent(agent).run();
    worker.assert_code(0);
    Run {
        event: receiver.only_event("completed"),
        worker,
    }
}

/// Runs an agent, and asserts that a part of the work is not pushed and that the rest is on the branch for partial work.
#[track_caller]
fn run_and_assert_incomplete(origin: &Origin, agent: &str) -> Run {
    let receiver = Receiver::start();
    let worker = worker(origin, &receiver).agent(agent).run();
    worker.assert_code(1);
    let event = receiver.only_event("failed");
    assert_eq!(event["failure"]["reason"], "push_failed", "{event}");
    assert_eq!(event["failure"]["retryable"], false, "{event}");
    assert!(!origin.branches().contains(&BRANCH.to_owned()));
    let wip = format!("{BRANCH}-wip");
    assert_eq!(event["result"]["work"]["branch"], wip);
    // A person who merges that branch must not get a task that is marked as done.
    let graph = |branch: &str| origin.show(branch, ".scud/tasks/tasks.scg");
    assert_eq!(graph(&wip), graph("main"));
    Run { event, worker }
}

/// The paths that differ between `main` and the branch with the result, without the graph.
fn changed_paths(origin: &Origin) -> Vec<String> {
    let paths = origin.git(&["diff", "--name-only", "--no-renames", "main", BRANCH]);
    let paths = paths.lines().map(str::to_owned);
    paths
        .filter(|path| path != ".scud/tasks/tasks.scg")
        .collect()
}

#[test]
fn files_outside_a_sparse_checkout_are_not_deleted() {
    for commit in ["true", "git commit -qam mine"] {
        let files = [("a/x", "a\n"), ("b/y", "b\n"), ("top", "top\n")];
        let origin = Origin::with_files(&files);
        let agent = format!(
            "git sparse-checkout set a; test ! -e b || exit 9; echo edit >> a/x; {commit}; mkdir b; echo new > b/new"
        );
        let run = run_and_assert_completed(&origin, &agent);
        let texts = format!("{}{}", run.message(), run.worker.stderr);
        assert!(!texts.contains("could not be marked"), "{texts}");
        assert_eq!(changed_paths(&origin), ["a/x", "b/new"], "{commit}");
        let graph = origin.show(BRANCH, ".scud/tasks/tasks.scg");
        assert!(graph.contains("house | D |"), "{commit}: {graph}");
    }
}

#[test]
fn a_deleted_graph_is_named_because_it_cannot_be_marked() {
    let origin = Origin::new();
    let run = run_and_assert_completed(&origin, "rm -r .scud");
    let message = run.message();
    assert!(
        message.contains("the graph could not be marked"),
        "{message}"
    );
}

#[test]
fn changed_files_that_the_agent_hid_from_git_are_named_and_not_pushed() {
    let origin = Origin::with_files(&[("a", "a\n"), ("b", "b\n"), ("c", "c\n")]);
    let run = run_and_assert_completed(
        &origin,
        "git update-index --assume-unchanged a c .scud/tasks/tasks.scg; git update-index --skip-worktree b
         echo 1 >> a; echo 2 >> b; echo new > new",
    );
    assert_eq!(changed_paths(&origin), ["new"]);
    let message = run.message();
    assert!(
        message.contains("told git to take them for unchanged: a, b"),
        "{message}"
    );
    let graph = origin.show(BRANCH, ".scud/tasks/tasks.scg");
    assert!(graph.contains("house | D |"), "{graph}");
}

#[test]
fn files_that_the_clone_or_the_user_ignores_are_not_pushed() {
    let origin = Origin::new();
    run_and_assert_completed(
        &origin,
        "echo tool-state >> .git/info/exclude; mkdir -p ~/.config/git; echo '.claude/' > ~/.config/git/ignore
         echo x > tool-state; mkdir .claude; echo x > .claude/permissions; echo y > y",
    );
    assert_eq!(changed_paths(&origin), ["y"]);
}

#[test]
fn a_repository_without_a_commit_inside_the_project_is_named_and_the_rest_pushed() {
    let origin = Origin::new();
    let run = run_and_assert_completed(
        &origin,
        "git init -q app; echo x > app/x; git init -q 'b c'; echo y > y",
    );
    assert_eq!(changed_paths(&origin), ["y"]);
    let message = run.message();
    assert!(
        message.contains("left out, because they are repositories of their own: app, b c"),
        "{message}"
    );
}

#[test]
fn commits_on_another_branch_are_pushed_next_to_the_result_and_named() {
    for (agent, other) in [
        (
            "git checkout -qb feature/x; echo f > f; git add f; git commit -qm f; git checkout -q -",
            "feature/x",
        ),
        (
            "git worktree add -q -b second ../second; cd ../second; echo f > f; git add f; git commit -qm f",
            "second",
        ),
    ] {
        let origin = Origin::new();
        let run = run_and_assert_completed(&origin, agent);
        let pushed = format!("{BRANCH}-{}", other.replace('/', "-"));
        assert_eq!(origin.show(&pushed, "f"), "f");
        let message = run.message();
        assert!(
            message.contains(&format!("the agent's branch {other} is on branch {pushed}")),
            "{message}"
        );
    }
}

#[test]
fn uncommitted_files_and_commits_without_a_branch_in_a_second_working_tree_are_named() {
    let origin = Origin::new();
    let run = run_and_assert_completed(
        &origin,
        "git worktree add -q --detach ../second; cd ../second; echo f > f; git add f; git commit -qm f
         git rev-parse HEAD > ../lost; echo loose > loose; echo more >> README",
    );
    let message = run.message();
    assert!(
        message.contains("that are not committed: README, loose"),
        "{message}"
    );
    let lost = fs::read_to_string(origin.path("lost")).unwrap();
    assert!(
        message.contains(&format!("working tree that no branch has: {}", lost.trim())),
        "{message}"
    );
}

#[test]
fn commits_that_only_the_reflog_has_are_named_in_the_log() {
    let origin = Origin::new();
    let run = run_and_assert_completed(
        &origin,
        "echo f > f; git add f; git commit -qm f; git rev-parse HEAD > ../lost; git reset -q --hard HEAD~1
         echo y > y",
    );
    assert_eq!(changed_paths(&origin), ["y"]);
    let lost = fs::read_to_string(origin.path("lost")).unwrap();
    let log = &run.worker.stderr;
    assert!(
        log.contains("that no branch has") && log.contains(lost.trim()),
        "{log}"
    );
}

#[test]
fn branches_without_new_commits_are_not_pushed() {
    let origin = Origin::new();
    origin.git(&["branch", "theirs", "main"]);
    run_and_assert_completed(
        &origin,
        "git branch old; git fetch -q origin theirs:refs/remotes/origin/theirs; git branch theirs origin/theirs
         git checkout -qb feature; echo f > f; git add f; git commit -qm f",
    );
    assert_eq!(origin.branches(), [BRANCH, "main", "theirs"]);
    assert_eq!(origin.show(BRANCH, "f"), "f");
}

#[test]
fn stashed_work_is_named() {
    let run =
        run_and_assert_completed(&Origin::new(), "echo x >> README; git stash -q; echo y > y");
    assert!(run.message().contains("git stash"), "{}", run.message());
}

#[test]
fn files_and_directories_without_permissions_are_named_and_the_rest_pushed() {
    let (origin, receiver) = (Origin::new(), Receiver::start());
    let agent =
        "echo x > locked; mkdir closed; echo x > closed/x; chmod 000 locked closed; echo y > y";
    let worker = worker(&origin, &receiver)
        .agent(agent)
        .without_root_privileges();
    let ended = worker.run();
    let closed = origin.workspace().join("closed");
    let _ = fs::set_permissions(closed, std::os::unix::fs::PermissionsExt::from_mode(0o700));
    ended.assert_code(0);
    assert_eq!(changed_paths(&origin), ["y"]);
    let event = receiver.only_event("completed");
    let message = event["message"].as_str().unwrap();
    assert!(
        message.contains("could not read them")
            && message.contains("locked")
            && message.contains("closed"),
        "{message}"
    );
}

#[test]
fn staged_and_unstaged_changes_and_file_modes_are_pushed_as_git_has_them() {
    let origin = Origin::with_files(&[("a", "a\n"), ("run", "run\n"), ("gone", "x\n")]);
    run_and_assert_completed(
        &origin,
        "echo 1 >> a; git add a; echo 2 >> a; chmod +x run; git rm -q --cached gone; echo gone >> .gitignore
         git add -N README; ln -s a link",
    );
    assert_eq!(
        changed_paths(&origin),
        [".gitignore", "a", "gone", "link", "run"]
    );
    assert_eq!(origin.show(BRANCH, "a"), "a\n1\n2");
    let modes = origin.git(&["ls-tree", BRANCH, "run", "link"]);
    assert!(
        modes.contains("100755") && modes.contains("120000"),
        "{modes}"
    );
}

#[test]
fn line_endings_are_converted_as_attributes_and_settings_say() {
    let origin = Origin::with_files(&[
        (".gitattributes", "*.txt text eol=crlf\n"),
        ("x.txt", "a\n"),
    ]);
    run_and_assert_completed(
        &origin,
        "git config core.autocrlf input; printf 'a\\r\\nb\\r\\n' > x.txt; printf 'c\\r\\n' > plain",
    );
    let bytes = |file: &str| origin.git(&["cat-file", "-s", &format!("{BRANCH}:{file}")]);
    assert_eq!(bytes("x.txt"), "4");
    assert_eq!(bytes("plain"), "2");
}

#[test]
fn conflict_markers_of_an_unfinished_merge_are_pushed_with_a_warning() {
    let origin = Origin::new();
    let run = run_and_assert_completed(
        &origin,
        "git checkout -qb side; echo side > README; git commit -qam side; git checkout -q -
         echo main > README; git commit -qam main; git merge -q side; git status --short | grep -q '^UU' || exit 9",
    );
    assert!(origin.show(BRANCH, "README").contains("<<<<<<< "));
    let message = run.message();
    assert!(
        message.contains("conflict markers are left in: README"),
        "{message}"
    );
    // The merge's second parent is kept.
    let parents = origin.git(&["log", "-1", "--format=%P", BRANCH]);
    assert_eq!(parents.split(' ').count(), 2, "{parents}");
}

#[test]
fn a_damaged_repository_of_the_agent_loses_no_files() {
    for damage in [
        "touch .git/index.lock .git/HEAD.lock",
        "echo broken > .git/index",
        "rm .git/HEAD",
        "rm -rf .git",
        "rm -rf .git/objects",
        "rm -f .git/index",
        "echo broken >> .git/config",
    ] {
        let origin = Origin::with_files(&[(".gitignore", "ignored\n"), ("old", "x\n")]);
        let agent = format!("echo new > new; echo x > ignored; rm old; {damage}");
        let run = run_and_assert_completed(&origin, &agent);
        assert_eq!(
            changed_paths(&origin),
            ["new", "old"],
            "{damage}: {:#?}",
            run.worker
        );
    }
}
