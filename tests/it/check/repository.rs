//! `check` asks the remote repository whether the branch, the tag or the commit exists.

use std::time::Duration;

use super::{assert_line, check_of_repository};
use crate::support::origin::write_program;
use crate::support::{Origin, Receiver, assert_within, path};

#[test]
fn check_asks_the_repository_for_the_branch_the_tag_or_head() {
    let (origin, receiver) = (Origin::new(), Receiver::start());
    origin.git(&["tag", "v1", "main"]);
    origin.git(&["branch", "team/main", "main"]);
    let url = origin.url();
    for (reference, line) in [
        ("", format!("ok      repository: {url} (HEAD)")),
        ("main", format!("ok      repository: {url} (main)")),
        ("v1", format!("ok      repository: {url} (v1)")),
        (
            "refs/heads/main",
            format!("ok      repository: {url} (refs/heads/main)"),
        ),
        (
            &"a".repeat(40),
            format!(
                "ok      repository: {url} (only the clone can tell whether commit {} exists)",
                "a".repeat(40)
            ),
        ),
    ] {
        let ended = check_of_repository(&origin, &receiver)
            .env("DESCARTES_REF", reference)
            .run();
        ended.assert_code(0);
        assert_line(&ended, &line);
    }
    assert!(!origin.workspace().exists());
    // `git fetch origin team` finds nothing, although the name of a branch begins with `team`.
    for missing in ["team", "mai", "gone"] {
        let ended = check_of_repository(&origin, &receiver)
            .env("DESCARTES_REF", missing)
            .run();
        ended.assert_code(2);
        assert_line(
            &ended,
            &format!(
                "MISSING repository: {url} has no branch or tag `{missing}`; correct DESCARTES_REF, or push the branch"
            ),
        );
    }
}

#[test]
fn check_reports_a_repository_that_does_not_exist() {
    let (origin, receiver) = (Origin::new(), Receiver::start());
    let url = format!("{}-gone", origin.url());
    let ended = check_of_repository(&origin, &receiver)
        .env("DESCARTES_REPO", &url)
        .run();
    ended.assert_code(2);
    let line = format!(
        "MISSING repository: {url} cannot be cloned: git ls-remote failed with exit code 128: "
    );
    assert!(ended.stdout.contains(&line), "{ended:#?}");
}

#[test]
fn check_reports_a_repository_that_does_not_answer_in_time() {
    let (origin, receiver) = (Origin::new(), Receiver::start());
    write_program(&origin.path("bin/git"), "exec sleep 600");
    let path = format!("{}:{}", origin.path("bin").display(), path().display());
    let ended = check_of_repository(&origin, &receiver)
        .env("PATH", path)
        .env("DESCARTES_GIT_IDLE_TIMEOUT", "1s")
        .run();
    assert_within(Duration::from_secs(300), ended.duration);
    ended.assert_code(2);
    assert!(
        ended
            .stdout
            .contains("cannot be cloned: git ls-remote made no progress for 1s"),
        "{ended:#?}"
    );
}

#[test]
fn check_reports_a_repository_that_makes_progress_but_never_answers() {
    let (origin, receiver) = (Origin::new(), Receiver::start());
    let progress = "while :; do echo 'Receiving objects:   1% (1/100)' >&2; sleep 0.2; done";
    write_program(&origin.path("bin/git"), progress);
    let path = format!("{}:{}", origin.path("bin").display(), path().display());
    let ended = check_of_repository(&origin, &receiver)
        .env("PATH", path)
        .run();
    assert_within(Duration::from_secs(300), ended.duration);
    ended.assert_code(2);
    assert!(
        ended.stdout.contains("cannot be cloned: git ls-remote "),
        "{ended:#?}"
    );
}
