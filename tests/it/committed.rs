//! For people who merge: the worker pushes exactly the changes that the agent's own git would commit, and names all other
//! changes.

mod lfs;
#[cfg(feature = "peers")]
mod peers;

use std::fs;

use serde_json::Value;

use crate::support::origin::{git, program};
use crate::support::worker::FinishedWorker;
use crate::support::{Origin, Receiver, Worker, path, quoted};

const BRANCH: &str = "descartes/proj-456/8";

/// A finished run: its terminal event and its process.
struct Run {
    event: Value,
    ended: FinishedWorker,
}

impl Run {
    fn message(&self) -> &str {
        self.event["message"].as_str().expect("a message")
    }

    fn detail(&self) -> String {
        format!(
            "{}\n{}",
            self.event["failure"]["message"]
                .as_str()
                .unwrap_or_default(),
            self.event["failure"]["detail"].as_str().unwrap_or_default()
        )
    }
}

/// A worker whose `PATH` has the programs of this test first.
fn worker(origin: &Origin, receiver: &Receiver) -> Worker {
    let path = format!("{}:{}", origin.path("bin").display(), path().display());
    origin.worker(receiver).env("PATH", path)
}

/// Runs an agent, and asserts that the task is completed.
#[track_caller]
fn completed(origin: &Origin, agent: &str) -> Run {
    let receiver = Receiver::start();
    let ended = worker(origin, &receiver).agent(agent).run();
    ended.assert_code(0);
    Run {
        event: receiver.only_event("completed"),
        ended,
    }
}

/// Runs an agent, and asserts that the work is incomplete and that the rest is on the branch for partial work.
#[track_caller]
fn incomplete(origin: &Origin, agent: &str) -> Run {
    let receiver = Receiver::start();
    let ended = worker(origin, &receiver).agent(agent).run();
    ended.assert_code(1);
    let event = receiver.only_event("failed");
    assert_eq!(event["failure"]["reason"], "push_failed", "{event}");
    assert_eq!(event["failure"]["retryable"], false, "{event}");
    assert!(!origin.branches().contains(&BRANCH.to_owned()));
    assert_eq!(event["result"]["work"]["branch"], format!("{BRANCH}-wip"));
    Run { event, ended }
}

/// The paths that differ between `main` and the result branch.
fn changed(origin: &Origin) -> Vec<String> {
    let paths = origin.git(&["diff", "--name-only", "--no-renames", "main", BRANCH]);
    let paths = paths.lines().map(str::to_owned);
    paths
        .filter(|path| path != ".scud/tasks/tasks.scg")
        .collect()
}

/// A clean filter that replaces every letter (rot13), so that plain text is recognized in the repository.
fn letter_filter(origin: &Origin) {
    program(&origin.path("bin/rot13"), "exec tr a-z n-za-m");
}

const CONFIGURE_FILTER: &str =
    "git config filter.hidden.clean rot13; git config filter.hidden.smudge rot13";

fn origin_with_hidden_files() -> Origin {
    let origin = Origin::with(&[
        (".gitattributes", "secrets/** filter=hidden\n"),
        // As the filter wrote it: plain text is "password".
        ("secrets/a", "cnffjbeq\n"),
        ("README", "A house.\n"),
    ]);
    letter_filter(&origin);
    origin
}

#[test]
fn files_that_a_configured_filter_left_unchanged_are_not_pushed_as_plain_text() {
    let origin = origin_with_hidden_files();
    let agent = format!(
        "{CONFIGURE_FILTER}; rm secrets/a; git checkout -q -- secrets/a; grep -q password secrets/a || exit 9
         echo more >> README"
    );
    completed(&origin, &agent);
    assert_eq!(changed(&origin), ["README"]);
    assert_eq!(origin.show(BRANCH, "secrets/a"), "cnffjbeq");
}

#[test]
fn changed_files_are_pushed_as_the_output_of_the_filter_that_the_agent_configured() {
    for commit in ["true", "git add -A; git commit -qm mine"] {
        let origin = origin_with_hidden_files();
        let agent = format!(
            "{CONFIGURE_FILTER}; rm secrets/a; git checkout -q -- secrets/a; echo plain > secrets/new; {commit}"
        );
        completed(&origin, &agent);
        assert_eq!(changed(&origin), ["secrets/new"], "{commit}");
        assert_eq!(origin.show(BRANCH, "secrets/new"), "cynva", "{commit}");
    }
}

/// Asserts that the agent's commit is not pushed, and that the rest of its work is.
#[track_caller]
fn assert_plain_commit_is_not_pushed(origin: &Origin, agent: &str, file: &str) {
    let run = incomplete(origin, agent);
    let wip = format!("{BRANCH}-wip");
    let files = origin.git(&[
        "diff",
        "--name-only",
        "main",
        &wip,
        "--",
        "secrets",
        "README",
    ]);
    assert_eq!(files, "README", "{agent}");
    assert!(!origin.git(&["log", "--format=%s", &wip]).contains("mine"));
    let detail = run.detail();
    assert!(
        detail.contains(&format!("{file} (filter hidden)")),
        "{detail}"
    );
    assert!(!run.event["result"]["work"].to_string().contains("plain"));
}

#[test]
fn a_file_that_was_committed_without_its_filter_is_named_and_not_pushed() {
    // An old file, so that git does not read it again although the index has it.
    let commit =
        "echo plain > secrets/a; touch -t 202001010000 secrets/a; git add -A; git commit -qm mine";
    for agent in [
        // Without a filter at all.
        format!("{commit}; echo more >> README"),
        // The filter is configured afterwards, and leaves text that it did not write as it is, like git-crypt's.
        format!(
            "{commit}; git config filter.hidden.clean rot13; git config filter.hidden.smudge cat
             echo more >> README"
        ),
        // The filter is configured afterwards, and changes any text.
        format!("{commit}; {CONFIGURE_FILTER}; echo more >> README"),
        // The commit is made without the attribute.
        format!(
            "{CONFIGURE_FILTER}; mv .gitattributes ../kept; {commit}; mv ../kept .gitattributes
             echo more >> README"
        ),
    ] {
        let origin = origin_with_hidden_files();
        assert_plain_commit_is_not_pushed(&origin, &agent, "secrets/a");
    }
}

/// An origin whose attributes demand a filter for files that do not exist yet.
fn origin_without_hidden_files() -> Origin {
    let origin = Origin::with(&[
        (".gitattributes", "secrets/** filter=hidden\n"),
        ("README", "A house.\n"),
    ]);
    letter_filter(&origin);
    origin
}

#[test]
fn plain_text_that_is_not_in_the_last_commit_is_not_in_the_pushed_history() {
    for (agent, expected) in [
        (
            "git add --renormalize .; git commit -qm filtered",
            "secrets/new",
        ),
        (
            "git config filter.hidden.smudge cat; git rm -qf secrets/new; git commit -qm removed; echo more >> README",
            "README",
        ),
        // With a filter that changes any text, plain text looks like its output.
        (
            "git rm -qf secrets/new; git commit -qm removed; echo more >> README",
            "README",
        ),
        (
            "echo plainer > secrets/new; git commit -qam filtered",
            "secrets/new",
        ),
    ] {
        let origin = origin_without_hidden_files();
        let agent = format!(
            "mkdir secrets; echo plain > secrets/new; git add -A; git commit -qm mine; {CONFIGURE_FILTER}; {agent}"
        );
        let run = completed(&origin, &agent);
        assert_eq!(changed(&origin), [expected]);
        if expected == "secrets/new" {
            assert!(origin.show(BRANCH, "secrets/new").starts_with("cynva"));
        }
        let history = origin.git(&["log", "--format=%s", BRANCH]);
        assert!(!history.contains("mine"), "{history}");
        let message = run.message();
        assert!(
            message.contains("their content became one commit"),
            "{message}"
        );
    }
}

#[test]
fn a_branch_whose_files_cannot_be_told_from_plain_text_is_left_out_and_named() {
    let origin = origin_without_hidden_files();
    let run = completed(
        &origin,
        &format!(
            "git checkout -qb side; mkdir secrets; echo plain > secrets/new; git add -A; git commit -qm mine
             {CONFIGURE_FILTER}; git checkout -qf -; echo more >> README"
        ),
    );
    assert_eq!(changed(&origin), ["README"]);
    assert_eq!(origin.branches(), [BRANCH, "main"]);
    assert!(run.message().contains("the agent's branch side"));
}

#[test]
fn all_commits_of_filtered_files_are_pushed_if_the_filter_can_tell_its_output_from_text() {
    for smudge in [
        // Leaves other text as it is.
        "sed s/^x//",
        // Rejects other text.
        "strict",
    ] {
        let origin = origin_without_hidden_files();
        let strict = r#"while IFS= read -r line; do
            case $line in x*) printf '%s\n' "${line#x}" ;; *) exit 9 ;; esac
        done"#;
        program(&origin.path("bin/strict"), strict);
        let agent = format!(
            "git config filter.hidden.clean 'sed s/^/x/'; git config filter.hidden.smudge '{smudge}'
             mkdir secrets; echo 1 > secrets/new; echo 1 > secrets/gone; git add -A; git commit -qm first
             echo 2 >> secrets/new; git rm -q secrets/gone; git commit -qam second"
        );
        let run = completed(&origin, &agent);
        assert_eq!(changed(&origin), ["secrets/new"], "{smudge}");
        assert_eq!(origin.show(BRANCH, "secrets/new"), "x1\nx2");
        let history = origin.git(&["log", "--format=%s", BRANCH]);
        let has_both = history.contains("first") && history.contains("second");
        assert!(has_both, "{history}: {}", run.message());
    }
}

#[test]
fn no_plain_text_is_pushed_if_the_agent_removes_a_filter_from_gitattributes() {
    let origin = origin_with_hidden_files();
    let run = incomplete(
        &origin,
        "echo > .gitattributes; echo plain > secrets/new; echo more >> README",
    );
    let files = origin.git(&["ls-tree", "-r", "--name-only", &format!("{BRANCH}-wip")]);
    assert!(!files.contains("secrets/new"), "{files}");
    assert!(run.detail().contains("secrets/new (filter hidden)"));
}

#[test]
fn a_branch_with_plain_text_is_left_out_and_named() {
    let origin = origin_with_hidden_files();
    let run = completed(
        &origin,
        "git checkout -qb side; echo plain > secrets/new; git add -A; git commit -qm mine
         git checkout -q -; echo more >> README",
    );
    assert_eq!(changed(&origin), ["README"]);
    assert_eq!(origin.branches(), [BRANCH, "main"]);
    let message = run.message();
    assert!(
        message.contains("or may not have been: the agent's branch side"),
        "{message}"
    );
}

#[test]
fn ordinary_filters_raise_no_false_alarm_in_the_agents_commits() {
    for (clean, smudge) in [
        // Both directions.
        ("rot13", "rot13"),
        // Only cleans up, as a filter for notebooks does.
        ("grep -v output || true", "cat"),
        // Its output differs each time, as that of some encryption does.
        ("salted", "sed 1d"),
        // Adds something that the other direction removes.
        ("sed s/^/x/", "sed s/^x//"),
    ] {
        let origin = origin_without_hidden_files();
        program(&origin.path("bin/salted"), "echo $$; exec cat");
        let agent = format!(
            "git config filter.hidden.clean '{clean}'; git config filter.hidden.smudge '{smudge}'
             mkdir secrets; printf 'text\\noutput\\n' > secrets/new; git add secrets/new; git commit -qm mine
             git mv secrets/new secrets/moved; git commit -qm moved"
        );
        let run = completed(&origin, &agent);
        assert_eq!(changed(&origin), ["secrets/moved"], "{clean}");
        let history = origin.git(&["log", "--format=%s", BRANCH]);
        assert!(history.contains("mine"), "{clean}: {}", run.message());
    }
}

#[test]
fn a_changed_file_whose_filter_is_not_configured_is_named_and_not_pushed() {
    let origin = origin_with_hidden_files();
    let run = incomplete(
        &origin,
        "echo plain > secrets/new; echo plain > secrets/a; echo more >> README",
    );
    let wip = format!("{BRANCH}-wip");
    assert_eq!(origin.show(&wip, "secrets/a"), "cnffjbeq");
    assert_eq!(origin.show(&wip, "README"), "A house.\nmore");
    let files = origin.git(&["ls-tree", "-r", "--name-only", &wip]);
    assert!(!files.contains("secrets/new"), "{files}");
    let detail = run.detail();
    for named in ["secrets/a", "secrets/new", "(filter hidden)"] {
        assert!(detail.contains(named), "{detail}");
    }
    assert!(!run.event["result"]["work"].to_string().contains("plain"));
}

#[test]
fn a_changed_file_whose_filter_fails_is_named_and_not_pushed() {
    let origin = origin_with_hidden_files();
    let agent = "git config filter.hidden.clean 'rot13; exit 1'
        echo plain > secrets/new; echo plain > secrets/other; echo more >> README";
    let run = incomplete(&origin, agent);
    let wip = format!("{BRANCH}-wip");
    let files = origin.git(&["ls-tree", "-r", "--name-only", &wip]);
    assert!(!files.contains("secrets/new") && !files.contains("secrets/other"));
    assert_eq!(origin.show(&wip, "README"), "A house.\nmore");
    let detail = run.detail();
    assert!(
        detail.contains("secrets/new (filter hidden), secrets/other (filter hidden)"),
        "{detail}"
    );
}

#[test]
fn files_outside_a_sparse_checkout_are_not_deleted() {
    for commit in ["true", "git commit -qam mine"] {
        let files = [("a/x", "a\n"), ("b/y", "b\n"), ("top", "top\n")];
        let origin = Origin::with(&files);
        let agent = format!(
            "git sparse-checkout set a; test ! -e b || exit 9; echo edit >> a/x; {commit}; mkdir b; echo new > b/new"
        );
        let run = completed(&origin, &agent);
        let said = format!("{}{}", run.message(), run.ended.stderr);
        assert!(!said.contains("could not be marked"), "{said}");
        assert_eq!(changed(&origin), ["a/x", "b/new"], "{commit}");
        let graph = origin.show(BRANCH, ".scud/tasks/tasks.scg");
        assert!(graph.contains("house | D |"), "{commit}: {graph}");
    }
}

#[test]
fn a_deleted_graph_is_named_because_it_cannot_be_marked() {
    let origin = Origin::new();
    let run = completed(&origin, "rm -r .scud");
    let message = run.message();
    assert!(
        message.contains("the graph could not be marked"),
        "{message}"
    );
}

#[test]
fn changed_files_that_the_agent_hid_from_git_are_named_and_not_pushed() {
    let origin = Origin::with(&[("a", "a\n"), ("b", "b\n"), ("c", "c\n")]);
    let run = completed(
        &origin,
        "git update-index --assume-unchanged a c .scud/tasks/tasks.scg; git update-index --skip-worktree b
         echo 1 >> a; echo 2 >> b; echo new > new",
    );
    assert_eq!(changed(&origin), ["new"]);
    let message = run.message();
    assert!(
        message.contains("told git to take them for unchanged: a, b"),
        "{message}"
    );
    let graph = origin.show(BRANCH, ".scud/tasks/tasks.scg");
    assert!(graph.contains("house | D |"), "{graph}");
}

/// An origin with a submodule `vendor/lib`, whose repository is next to it.
fn origin_with_submodule() -> Origin {
    let origin = Origin::new();
    let library = origin.path("lib");
    fs::create_dir(&library).unwrap();
    git(&library, &["init", "-q", "-b", "main"]);
    git(
        &library,
        &["config", "uploadpack.allowAnySHA1InWant", "true"],
    );
    fs::write(library.join("code"), "code\n").unwrap();
    git(&library, &["add", "."]);
    git(&library, &["commit", "-qm", "first"]);
    let seed = origin.path("seed");
    let url = format!("file://{}", library.display());
    git(
        &seed,
        &[
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "--quiet",
            "add",
            &url,
            "vendor/lib",
        ],
    );
    origin.commit(&[]);
    origin
}

/// Fetches the submodule, as an agent would.
const UPDATE: &str = "git -c protocol.file.allow=always submodule --quiet update --init || exit 9";

#[test]
fn a_submodule_that_the_agent_replaced_by_files_is_pushed_as_files() {
    let origin = origin_with_submodule();
    completed(
        &origin,
        "git rm -q vendor/lib; mkdir -p vendor/lib; echo inline > vendor/lib/code; git add -A",
    );
    assert_eq!(
        changed(&origin),
        [".gitmodules", "vendor/lib", "vendor/lib/code"]
    );
    assert_eq!(origin.show(BRANCH, "vendor/lib/code"), "inline");
}

#[test]
fn changes_inside_a_submodule_are_named() {
    let origin = origin_with_submodule();
    let run = completed(
        &origin,
        &format!("{UPDATE}; echo edit >> vendor/lib/code; echo x > x"),
    );
    assert_eq!(changed(&origin), ["x"]);
    let message = run.message();
    assert!(
        message.contains("submodules have changes that are not committed inside them: vendor/lib"),
        "{message}"
    );
}

#[test]
fn a_submodule_at_a_commit_that_no_remote_has_is_put_back_and_named() {
    let origin = origin_with_submodule();
    let run = completed(
        &origin,
        &format!(
            "{UPDATE}; cd vendor/lib; git -c user.name=a -c user.email=b commit -q --allow-empty -m private
             cd ../..; echo x > x"
        ),
    );
    assert_eq!(changed(&origin), ["x"]);
    let message = run.message();
    assert!(
        message.contains("no remote has the commits of these submodules: vendor/lib"),
        "{message}"
    );
}

#[test]
fn a_submodule_at_another_published_commit_is_pushed() {
    let origin = origin_with_submodule();
    let library = origin.path("lib");
    git(&library, &["commit", "-q", "--allow-empty", "-m", "second"]);
    let second = git(&library, &["rev-parse", "HEAD"]);
    completed(
        &origin,
        &format!(
            "{UPDATE}; cd vendor/lib; git -c protocol.file.allow=always fetch -q; git checkout -q {second}"
        ),
    );
    let linked = origin.git(&["ls-tree", BRANCH, "vendor/lib"]);
    assert!(linked.contains(&second), "{linked}");
}

#[test]
fn a_submodule_that_the_agent_added_is_pushed_if_its_commit_is_published() {
    let origin = origin_with_submodule();
    let url = format!("file://{}", origin.path("lib").display());
    completed(
        &origin,
        &format!(
            "git -c protocol.file.allow=always submodule --quiet add {} other",
            quoted(url)
        ),
    );
    assert_eq!(changed(&origin), [".gitmodules", "other"]);
}

#[test]
fn files_that_the_clone_or_the_user_ignores_are_not_pushed() {
    let origin = Origin::new();
    completed(
        &origin,
        "echo tool-state >> .git/info/exclude; mkdir -p ~/.config/git; echo '.claude/' > ~/.config/git/ignore
         echo x > tool-state; mkdir .claude; echo x > .claude/permissions; echo y > y",
    );
    assert_eq!(changed(&origin), ["y"]);
}

#[test]
fn a_repository_without_a_commit_inside_the_project_is_named_and_the_rest_pushed() {
    let origin = Origin::new();
    let run = completed(
        &origin,
        "git init -q app; echo x > app/x; git init -q 'b c'; echo y > y",
    );
    assert_eq!(changed(&origin), ["y"]);
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
        let run = completed(&origin, agent);
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
    let run = completed(
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
    let run = completed(
        &origin,
        "echo f > f; git add f; git commit -qm f; git rev-parse HEAD > ../lost; git reset -q --hard HEAD~1
         echo y > y",
    );
    assert_eq!(changed(&origin), ["y"]);
    let lost = fs::read_to_string(origin.path("lost")).unwrap();
    let log = &run.ended.stderr;
    assert!(
        log.contains("that no branch has") && log.contains(lost.trim()),
        "{log}"
    );
}

#[test]
fn branches_without_new_commits_are_not_pushed() {
    let origin = Origin::new();
    origin.git(&["branch", "theirs", "main"]);
    completed(
        &origin,
        "git branch old; git fetch -q origin theirs:refs/remotes/origin/theirs; git branch theirs origin/theirs
         git checkout -qb feature; echo f > f; git add f; git commit -qm f",
    );
    assert_eq!(origin.branches(), [BRANCH, "main", "theirs"]);
    assert_eq!(origin.show(BRANCH, "f"), "f");
}

#[test]
fn stashed_work_is_named() {
    let run = completed(&Origin::new(), "echo x >> README; git stash -q; echo y > y");
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
    assert_eq!(changed(&origin), ["y"]);
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
    let origin = Origin::with(&[("a", "a\n"), ("run", "run\n"), ("gone", "x\n")]);
    completed(
        &origin,
        "echo 1 >> a; git add a; echo 2 >> a; chmod +x run; git rm -q --cached gone; echo gone >> .gitignore
         git add -N README; ln -s a link",
    );
    assert_eq!(changed(&origin), [".gitignore", "a", "gone", "link", "run"]);
    assert_eq!(origin.show(BRANCH, "a"), "a\n1\n2");
    let modes = origin.git(&["ls-tree", BRANCH, "run", "link"]);
    assert!(
        modes.contains("100755") && modes.contains("120000"),
        "{modes}"
    );
}

#[test]
fn line_endings_are_converted_as_attributes_and_settings_say() {
    let origin = Origin::with(&[
        (".gitattributes", "*.txt text eol=crlf\n"),
        ("x.txt", "a\n"),
    ]);
    completed(
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
    let run = completed(
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
        let origin = Origin::with(&[(".gitignore", "ignored\n"), ("old", "x\n")]);
        let agent = format!("echo new > new; echo x > ignored; rm old; {damage}");
        let run = completed(&origin, &agent);
        assert_eq!(
            changed(&origin),
            ["new", "old"],
            "{damage}: {:#?}",
            run.ended
        );
    }
}
