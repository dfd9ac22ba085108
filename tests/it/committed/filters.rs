//! The worker pushes the output of git's clean filters, and never the plain text of a file that has a filter.

use super::{BRANCH, changed_paths, run_and_assert_completed, run_and_assert_incomplete};
use crate::support::Origin;
use crate::support::origin::write_program;

/// Installs a filter program that replaces every letter, so that plain text can be recognized in the repository.
fn install_rot13(origin: &Origin) {
    write_program(&origin.path("bin/rot13"), "exec tr a-z n-za-m");
}

/// The agent's command that configures the filter `hidden` in its clone.
const CONFIGURE_FILTER: &str =
    "git config filter.hidden.clean rot13; git config filter.hidden.smudge rot13";

/// An origin whose attributes demand the filter `hidden` for the files in `secrets`, and one such file.
fn origin_with_hidden_files() -> Origin {
    let origin = Origin::with_files(&[
        (".gitattributes", "secrets/** filter=hidden\n"),
        // The output of the filter; the plain text is "password".
        ("secrets/a", "cnffjbeq\n"),
        ("README", "A house.\n"),
    ]);
    install_rot13(&origin);
    origin
}

#[test]
fn files_that_a_configured_filter_left_unchanged_are_not_pushed_as_plain_text() {
    let origin = origin_with_hidden_files();
    let agent = format!(
        "{CONFIGURE_FILTER}; rm secrets/a; git checkout -q -- secrets/a; grep -q password secrets/a || exit 9
         echo more >> README"
    );
    run_and_assert_completed(&origin, &agent);
    assert_eq!(changed_paths(&origin), ["README"]);
    assert_eq!(origin.show(BRANCH, "secrets/a"), "cnffjbeq");
}

#[test]
fn changed_files_are_pushed_as_the_output_of_the_filter_that_the_agent_configured() {
    for commit in ["true", "git add -A; git commit -qm mine"] {
        let origin = origin_with_hidden_files();
        let agent = format!(
            "{CONFIGURE_FILTER}; rm secrets/a; git checkout -q -- secrets/a; echo plain > secrets/new; {commit}"
        );
        run_and_assert_completed(&origin, &agent);
        assert_eq!(changed_paths(&origin), ["secrets/new"], "{commit}");
        assert_eq!(origin.show(BRANCH, "secrets/new"), "cynva", "{commit}");
    }
}

/// Asserts that the agent's commit is not pushed, and that the rest of its work is.
#[track_caller]
fn assert_plain_commit_is_not_pushed(origin: &Origin, agent: &str, file: &str) {
    let run = run_and_assert_incomplete(origin, agent);
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
    let detail = run.failure_text();
    assert!(
        detail.contains(&format!("{file} (filter hidden)")),
        "{detail}"
    );
    assert!(!run.event["result"]["work"].to_string().contains("plain"));
}

#[test]
fn a_file_that_was_committed_without_its_filter_is_named_and_not_pushed() {
    // The old modification time makes git trust its index, so that it does not read the file again.
    let commit =
        "echo plain > secrets/a; touch -t 202001010000 secrets/a; git add -A; git commit -qm mine";
    for agent in [
        // No filter is configured.
        format!("{commit}; echo more >> README"),
        // The filter is configured afterwards. Like git-crypt's, its smudge command does not change text that its clean
        // command did not write.
        format!(
            "{commit}; git config filter.hidden.clean rot13; git config filter.hidden.smudge cat
             echo more >> README"
        ),
        // The filter is configured afterwards, and changes all text.
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

/// Like [`origin_with_hidden_files`], without a file in `secrets`.
fn origin_without_hidden_files() -> Origin {
    let origin = Origin::with_files(&[
        (".gitattributes", "secrets/** filter=hidden\n"),
        ("README", "A house.\n"),
    ]);
    install_rot13(&origin);
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
        // With a filter that changes all text, plain text looks like the output of the filter.
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
        let run = run_and_assert_completed(&origin, &agent);
        assert_eq!(changed_paths(&origin), [expected]);
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
fn a_branch_whose_files_may_be_plain_text_is_not_pushed_and_named() {
    let origin = origin_without_hidden_files();
    let run = run_and_assert_completed(
        &origin,
        &format!(
            "git checkout -qb side; mkdir secrets; echo plain > secrets/new; git add -A; git commit -qm mine
             {CONFIGURE_FILTER}; git checkout -qf -; echo more >> README"
        ),
    );
    assert_eq!(changed_paths(&origin), ["README"]);
    assert_eq!(origin.branches(), [BRANCH, "main"]);
    assert!(run.message().contains("the agent's branch side"));
}

#[test]
fn all_commits_of_filtered_files_are_pushed_if_the_filter_recognizes_its_own_output() {
    for smudge in [
        // This filter does not change other text.
        "sed s/^x//",
        // This filter fails for other text.
        "strict",
    ] {
        let origin = origin_without_hidden_files();
        let strict = r#"while IFS= read -r line; do
            case $line in x*) printf '%s\n' "${line#x}" ;; *) exit 9 ;; esac
        done"#;
        write_program(&origin.path("bin/strict"), strict);
        let agent = format!(
            "git config filter.hidden.clean 'sed s/^/x/'; git config filter.hidden.smudge '{smudge}'
             mkdir secrets; echo 1 > secrets/new; echo 1 > secrets/gone; git add -A; git commit -qm first
             echo 2 >> secrets/new; git rm -q secrets/gone; git commit -qam second"
        );
        let run = run_and_assert_completed(&origin, &agent);
        assert_eq!(changed_paths(&origin), ["secrets/new"], "{smudge}");
        assert_eq!(origin.show(BRANCH, "secrets/new"), "x1\nx2");
        let history = origin.git(&["log", "--format=%s", BRANCH]);
        let has_both = history.contains("first") && history.contains("second");
        assert!(has_both, "{history}: {}", run.message());
    }
}

#[test]
fn no_plain_text_is_pushed_if_the_agent_removes_a_filter_from_gitattributes() {
    let origin = origin_with_hidden_files();
    let run = run_and_assert_incomplete(
        &origin,
        "echo > .gitattributes; echo plain > secrets/new; echo more >> README",
    );
    let files = origin.git(&["ls-tree", "-r", "--name-only", &format!("{BRANCH}-wip")]);
    assert!(!files.contains("secrets/new"), "{files}");
    assert!(run.failure_text().contains("secrets/new (filter hidden)"));
}

#[test]
fn a_branch_with_plain_text_is_not_pushed_and_named() {
    let origin = origin_with_hidden_files();
    let run = run_and_assert_completed(
        &origin,
        "git checkout -qb side; echo plain > secrets/new; git add -A; git commit -qm mine
         git checkout -q -; echo more >> README",
    );
    assert_eq!(changed_paths(&origin), ["README"]);
    assert_eq!(origin.branches(), [BRANCH, "main"]);
    let message = run.message();
    assert!(
        message.contains("or may not have been: the agent's branch side"),
        "{message}"
    );
}

#[test]
fn the_agents_commits_are_pushed_unchanged_if_an_ordinary_filter_is_configured() {
    for (clean, smudge) in [
        // Clean and smudge both change the text.
        ("rot13", "rot13"),
        // Only clean changes the text, like a filter for notebooks.
        ("grep -v output || true", "cat"),
        // The output of clean differs each time, like that of some encryption.
        ("salted", "sed 1d"),
        // Clean adds something that smudge removes.
        ("sed s/^/x/", "sed s/^x//"),
    ] {
        let origin = origin_without_hidden_files();
        write_program(&origin.path("bin/salted"), "echo $$; exec cat");
        let agent = format!(
            "git config filter.hidden.clean '{clean}'; git config filter.hidden.smudge '{smudge}'
             mkdir secrets; printf 'text\\noutput\\n' > secrets/new; git add secrets/new; git commit -qm mine
             git mv secrets/new secrets/moved; git commit -qm moved"
        );
        let run = run_and_assert_completed(&origin, &agent);
        assert_eq!(changed_paths(&origin), ["secrets/moved"], "{clean}");
        let history = origin.git(&["log", "--format=%s", BRANCH]);
        assert!(history.contains("mine"), "{clean}: {}", run.message());
    }
}

#[test]
fn a_changed_file_whose_filter_is_not_configured_is_named_and_not_pushed() {
    let origin = origin_with_hidden_files();
    let run = run_and_assert_incomplete(
        &origin,
        "echo plain > secrets/new; echo plain > secrets/a; echo more >> README",
    );
    let wip = format!("{BRANCH}-wip");
    assert_eq!(origin.show(&wip, "secrets/a"), "cnffjbeq");
    assert_eq!(origin.show(&wip, "README"), "A house.\nmore");
    let files = origin.git(&["ls-tree", "-r", "--name-only", &wip]);
    assert!(!files.contains("secrets/new"), "{files}");
    let detail = run.failure_text();
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
    let run = run_and_assert_incomplete(&origin, agent);
    let wip = format!("{BRANCH}-wip");
    let files = origin.git(&["ls-tree", "-r", "--name-only", &wip]);
    assert!(!files.contains("secrets/new") && !files.contains("secrets/other"));
    assert_eq!(origin.show(&wip, "README"), "A house.\nmore");
    let detail = run.failure_text();
    assert!(
        detail.contains("secrets/new (filter hidden), secrets/other (filter hidden)"),
        "{detail}"
    );
}
