//! Files that filters change are pushed as the filters make them, or not at all.

use super::{BRANCH, changed, completed, incomplete};
use crate::support::Origin;
use crate::support::origin::program;

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
