//! For people who merge the branches: the commits that a worker makes from an agent's work, and `result.work` in the event.

mod patch;

use serde_json::Value;

use crate::support::{Origin, Receiver};

/// The branch to which workers for task 8 push by default.
const BRANCH: &str = "descartes/proj-456/8";

/// Runs an agent on a clone; returns `result.work` of the completed task.
#[track_caller]
fn completed_work(origin: &Origin, agent: &str) -> Value {
    let receiver = Receiver::start();
    origin.worker(&receiver).agent(agent).run().assert_code(0);
    receiver.only_event("completed")["result"]["work"].clone()
}

/// Runs an agent on a clone whose work must not be pushed; returns the failure and `result.work`.
#[track_caller]
fn push_failure(origin: &Origin, agent: &str, token: &str) -> (Value, Value) {
    let receiver = Receiver::start();
    let worker = origin.worker(&receiver).env("DESCARTES_GIT_TOKEN", token);
    worker.agent(agent).run().assert_code(1);
    let event = receiver.only_event("failed");
    assert_eq!(event["failure"]["reason"], "push_failed", "{event}");
    assert!(!origin.branches().contains(&BRANCH.to_owned()));
    (event["failure"].clone(), event["result"]["work"].clone())
}

#[test]
fn the_agents_changes_become_one_commit_that_names_task_project_and_run() {
    let origin = Origin::new();
    let work = completed_work(
        &origin,
        "echo two >> README; mkdir a; echo new > a/new; rm -f nothing",
    );
    let log = origin.git(&[
        "log",
        "-1",
        "--format=%an <%ae>|%cn|%s|%(trailers:only,unfold)",
        BRANCH,
    ]);
    assert_eq!(
        log.trim_end(),
        "descartes-worker <descartes-worker@localhost>|descartes-worker|8: Build the | house|\
         Task-Id: 8\nProject-Id: proj-456\nRun-Id: run-1"
    );
    let base = origin.git(&["rev-parse", "main"]);
    assert_eq!(
        origin.git(&["rev-list", &format!("main..{BRANCH}")]),
        work["head_commit"]
    );
    assert_eq!(work["base_commit"], base);
    assert_eq!(work["branch"], BRANCH);
    assert_eq!(work["pushed"], true);
    // Two files of the agent, and the graph.
    assert_eq!(
        (
            &work["files_changed"],
            &work["insertions"],
            &work["deletions"]
        ),
        (&3.into(), &3.into(), &1.into())
    );
}

#[test]
fn the_commit_changes_only_the_letter_of_the_task_in_the_graph() {
    let origin = Origin::new();
    completed_work(&origin, "echo work > work");
    let diff = origin.git(&["diff", "--unified=0", "main", BRANCH, "--", ".scud"]);
    let changed_lines: Vec<&str> = diff
        .lines()
        .filter(|line| line.starts_with(['-', '+']))
        .skip(2)
        .collect();
    assert_eq!(
        changed_lines,
        [
            "-8 | Build the \\| house | P | 5 | C",
            "+8 | Build the \\| house | D | 5 | C"
        ]
    );
}

#[test]
fn the_agents_commits_are_kept_and_other_changes_become_one_more_commit() {
    let origin = Origin::new();
    let agent = "echo a > a; git add a; git commit -qm 'my first'
        git checkout -qb side; echo b > b; git add b; git commit -qm 'aside'
        git checkout -q -; echo c > c; git add c; git commit -qm 'my second'
        git merge -q -m 'together' side; echo rest > rest";
    let work = completed_work(&origin, agent);
    let log = origin.git(&[
        "log",
        "--topo-order",
        "--format=%s",
        &format!("main..{BRANCH}"),
    ]);
    let mut log: Vec<&str> = log.lines().collect();
    assert_eq!(log[..2], ["8: Build the | house", "together"]);
    log.sort_unstable();
    assert_eq!(
        log,
        [
            "8: Build the | house",
            "aside",
            "my first",
            "my second",
            "together"
        ]
    );
    assert_eq!(
        origin.git(&["log", "-1", "--format=%an", &format!("{BRANCH}^")]),
        "descartes-worker"
    );
    assert_eq!(work["files_changed"], 5);
    assert_eq!(origin.show(BRANCH, "rest"), "rest");
}

#[test]
fn commits_that_do_not_descend_from_the_base_become_one_commit() {
    for rewrite in [
        "git checkout -q --orphan mine; git commit -qm 'all new'",
        "git commit -q --amend -m 'history is mine'",
        "rm -rf .git; git init -q; git add .; git -c user.name=a -c user.email=b commit -qm fresh",
    ] {
        let origin = Origin::new();
        let work = completed_work(&origin, &format!("echo new > new; {rewrite}"));
        let log = origin.git(&["log", "--format=%s", &format!("main..{BRANCH}")]);
        assert_eq!(log, "8: Build the | house", "{rewrite}");
        assert_eq!(origin.show(BRANCH, "new"), "new");
        assert_eq!(work["files_changed"], 2);
    }
}

#[test]
fn commits_behind_packed_references_and_a_detached_head_are_pushed() {
    for command in [
        "git pack-refs --all",
        "git checkout -q --detach",
        "git gc -q",
        "git checkout -qb x/y",
    ] {
        let origin = Origin::new();
        completed_work(
            &origin,
            &format!("echo a > a; git add a; git commit -qm mine; {command}"),
        );
        let log = origin.git(&["log", "--format=%s", &format!("main..{BRANCH}")]);
        assert_eq!(log, "8: Build the | house\nmine", "{command}");
    }
}

#[test]
fn settings_choose_the_author_and_the_branch() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let worker = origin
        .worker(&receiver)
        .env("DESCARTES_GIT_NAME", "René")
        .env("DESCARTES_GIT_EMAIL", "rene@example.com")
        .env("DESCARTES_BRANCH", "refs/heads/doubts/one");
    worker.agent("echo ergo > sum").run().assert_code(0);
    let log = origin.git(&["log", "-1", "--format=%an <%ae> %cn", "doubts/one"]);
    assert_eq!(log, "René <rene@example.com> René");
}

#[test]
fn the_message_says_that_nothing_was_changed() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    origin.worker(&receiver).agent("true").run().assert_code(0);
    let event = receiver.only_event("completed");
    let message = event["message"].as_str().unwrap();
    assert!(
        message.contains("nothing was changed but the task graph"),
        "{message}"
    );

    // A failed task does not change the graph either.
    let (receiver, origin) = (Receiver::start(), Origin::new());
    origin
        .worker(&receiver)
        .agent("exit 1")
        .run()
        .assert_code(1);
    let work = &receiver.only_event("failed")["result"]["work"];
    assert_eq!(work["base_commit"], work["head_commit"]);
    assert_eq!(
        (&work["patch"], &work["files_changed"]),
        (&Value::Null, &0.into())
    );
    assert_eq!(origin.branches(), ["main"]);
}

#[test]
fn ignored_files_are_not_committed_and_a_change_in_the_second_of_the_clone_is_committed() {
    let origin = Origin::with_files(&[(".gitignore", "target\n"), ("flag", "a\n")]);
    // The same length, the same second, the same file: git has to look at the content.
    completed_work(
        &origin,
        "printf b | dd of=flag conv=notrunc status=none; mkdir target; echo x > target/x",
    );
    assert_eq!(origin.show(BRANCH, "flag"), "b");
    let files = origin.git(&["ls-tree", "-r", "--name-only", BRANCH]);
    assert!(!files.contains("target"), "{files}");
}

#[test]
fn committed_files_over_fifty_mebibytes_prevent_the_push_and_are_named() {
    let origin = Origin::new();
    let agent = "truncate -s 50M fits; truncate -s 52428801 'too large'; echo fine > fine
                 git add -A; git commit -qm large";
    let (failure, work) = push_failure(&origin, agent, "unused-token");
    assert_eq!(
        failure["message"],
        "the work was not pushed, because of files larger than 50 MiB: too large"
    );
    assert_eq!(failure["retryable"], false);
    assert_eq!(work["pushed"], false);
    assert!(work["patch"].as_str().is_some());
}

#[test]
fn a_new_file_of_gigabytes_is_named_without_being_read_and_the_rest_is_pushed() {
    let origin = Origin::with_files(&[("known", "small\n")]);
    // It would take hours to read the file, and its object would fill the disk.
    let agent = "truncate -s 10995116277760 big; truncate -s 10995116277760 known; mkdir a; truncate -s 60M 'a/[b]'; echo fine > fine";
    let (failure, work) = push_failure(&origin, agent, "unused-token");
    let message = failure["message"].as_str().unwrap();
    assert!(
        message.contains("the rest is on branch descartes/proj-456/8-wip"),
        "{message}"
    );
    let detail = failure["detail"].as_str().unwrap();
    for words in [
        "larger than 50 MiB: a/[b], big",
        "could not be added: known",
    ] {
        assert!(detail.contains(words), "{detail}");
    }
    assert_eq!(work["pushed"], true);
    let wip = format!("{BRANCH}-wip");
    assert_eq!(origin.show(&wip, "fine"), "fine");
    assert_eq!(origin.show(&wip, "known"), "small");
}

#[test]
fn a_known_secret_in_a_file_a_name_or_a_message_prevents_the_push() {
    let token = "ghp_0123456789abcdefXYZ";
    for (agent, named) in [
        (format!("mkdir d; echo 'token={token}' > d/.env"), "d/.env"),
        (
            format!("echo {token} > x; git add x; git commit -qm x; git rm -q x; git commit -qm y"),
            "x",
        ),
        (
            format!("git commit -q --allow-empty -m 'with {token}'"),
            "a commit's message",
        ),
        (format!("touch {token}"), "a file's name"),
    ] {
        let origin = Origin::new();
        let (failure, work) = push_failure(&origin, &agent, token);
        let message = failure["message"].as_str().unwrap();
        let expected = format!("holding a secret that the worker knows: {named}");
        assert!(message.ends_with(&expected), "{message}");
        assert!(!work.to_string().contains(token), "{work}");
    }
}

#[test]
fn a_renamed_file_is_pushed_although_the_same_new_content_would_not_be() {
    let (token, receiver) = ("ghp_0123456789abcdefXYZ", Receiver::start());
    let origin = Origin::with_files(&[("secret", token), ("new/conflict", CONFLICT)]);
    let ended = origin
        .worker(&receiver)
        .env("DESCARTES_GIT_TOKEN", token)
        .agent("mv secret renamed; cp new/conflict copied")
        .run();
    ended.assert_code(0);
    assert_eq!(origin.show(BRANCH, "renamed"), token);
    let event = receiver.only_event("completed");
    let message = event["message"].as_str().unwrap();
    assert!(!message.contains("conflict markers"), "{message}");
}

#[test]
fn conflict_markers_that_are_not_committed_by_the_agent_are_named() {
    let (origin, receiver) = (Origin::new(), Receiver::start());
    let agent = format!("printf '{}' > README", CONFLICT.replace('\n', "\\n"));
    origin.worker(&receiver).agent(&agent).run().assert_code(0);
    let event = receiver.only_event("completed");
    let message = event["message"].as_str().unwrap();
    assert!(
        message.contains("conflict markers are left in: README"),
        "{message}"
    );
}

const CONFLICT: &str = "<<<<<<< a\n1\n=======\n2\n>>>>>>> b\n";

#[test]
fn files_that_cannot_be_read_are_named_and_the_rest_is_kept() {
    let origin = Origin::new();
    // git rejects this name and this kind of file even for root.
    let agent = "mkdir d; echo x > 'd/git~1'; rm README; mkfifo README; echo fine > fine";
    let (failure, work) = push_failure(&origin, agent, "unused-token");
    let message = failure["message"].as_str().unwrap();
    assert!(
        message.starts_with("not all of the work could be committed; the rest is on branch"),
        "{message}"
    );
    let detail = failure["detail"].as_str().unwrap();
    assert!(
        detail.contains("d/git~1") && detail.contains("README"),
        "{detail}"
    );
    assert_eq!(work["branch"], format!("{BRANCH}-wip"));
    assert_eq!(origin.show(&format!("{BRANCH}-wip"), "fine"), "fine");
}

#[test]
fn repositories_inside_the_project_are_left_out_and_named() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let agent = "mkdir -p lib/in && cd lib/in && git init -q && echo x > x && git add x &&
        git -c user.name=a -c user.email=b commit -qm x; echo y > ../y";
    origin.worker(&receiver).agent(agent).run().assert_code(0);
    let message = receiver.only_event("completed")["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.ends_with("left out, because they are repositories of their own: lib/in)"),
        "{message}"
    );
    let files = origin.git(&["ls-tree", "-r", "--name-only", BRANCH]);
    assert!(
        files.contains("lib/y") && !files.contains("lib/in"),
        "{files}"
    );
}

#[test]
fn work_that_is_only_on_another_branch_of_the_agent_is_described_as_such() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let agent = "git checkout -qb side; echo mine > mine; git add mine; git -c user.name=a -c user.email=a@b commit -qm mine
        git checkout -q -; exit 1";
    let ended = origin.worker(&receiver).agent(agent).run();
    ended.assert_code(1);
    let words = "the partial work: the agent's HEAD has no changes; the agent's branch side is on branch descartes/proj-456/8-wip-side";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
}
