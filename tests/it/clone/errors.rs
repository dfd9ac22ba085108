//! The failure of a run whose clone fails.

use super::{TOKEN, permanent_failure, real_git, retryable_failure};
use crate::support::origin::write_program;
use crate::support::{Forge, Origin, Project, Receiver, ServerBehavior, path, quoted};

#[test]
fn the_error_for_a_missing_repository_quotes_git() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let nowhere = format!("file://{}", origin.path("nowhere.git").display());
    let ended = origin
        .worker(&receiver)
        .env("DESCARTES_REPO", &nowhere)
        .agent("true")
        .run();
    let why = permanent_failure(&receiver, &ended);
    assert!(
        why.contains(&format!("{nowhere} could not be cloned: git fetch failed"))
            && why.contains("there is no such repository"),
        "{why}"
    );
    assert!(
        why.contains("does not appear to be a git repository"),
        "{why}"
    );
}

#[test]
fn the_error_for_a_missing_reference_names_it() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let ended = origin
        .worker(&receiver)
        .env("DESCARTES_REF", "nobody")
        .agent("true")
        .run();
    let why = permanent_failure(&receiver, &ended);
    assert!(why.contains("(nobody) could not be cloned"), "{why}");
    assert!(why.contains("couldn't find remote ref nobody"), "{why}");
}

#[test]
fn the_error_for_refused_credentials_does_not_show_them() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let forge = Forge::start(&origin.path(""), Some("another"));
    let worker = origin.worker(&receiver).env("DESCARTES_REPO", forge.url());
    let ended = worker.env("DESCARTES_GIT_TOKEN", TOKEN).agent("true").run();
    let why = permanent_failure(&receiver, &ended);
    assert!(why.contains("Authentication failed for"), "{why}");
    let all = format!(
        "{why}{}{}{}",
        ended.stdout,
        ended.stderr,
        receiver.only_event("failed")
    );
    assert!(!all.contains(TOKEN), "{all}");
}

#[test]
fn without_a_token_git_does_not_ask_for_one() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let forge = Forge::start(&origin.path(""), Some(TOKEN));
    let ended = origin
        .worker(&receiver)
        .env("DESCARTES_REPO", forge.url())
        .agent("true")
        .run();
    let why = permanent_failure(&receiver, &ended);
    assert!(why.contains("terminal prompts disabled"), "{why}");
}

#[test]
fn a_transfer_without_progress_ends() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let forge = Forge::start(&origin.path(""), None);
    forge.set_behavior(ServerBehavior::StallAfterBytes(400));
    let worker = origin.worker(&receiver).env("DESCARTES_REPO", forge.url());
    let ended = worker
        .env("DESCARTES_GIT_IDLE_TIMEOUT", "1s")
        .agent("true")
        .run();
    let why = retryable_failure(&receiver, &ended);
    let is_by_worker = why.contains("made no progress for 1s");
    // The worker or git itself notices that there is no progress.
    assert!(is_by_worker || why.contains("Operation too slow"), "{why}");
}

#[test]
fn a_connection_that_closes_without_an_answer_is_a_workspace_failure() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let forge = Forge::start(&origin.path(""), None);
    forge.set_behavior(ServerBehavior::CloseConnections);
    let ended = origin
        .worker(&receiver)
        .env("DESCARTES_REPO", forge.url())
        .agent("true")
        .run();
    let why = retryable_failure(&receiver, &ended);
    assert!(why.contains("Empty reply from server"), "{why}");
}

#[test]
fn the_error_for_a_full_disk_quotes_git() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let full = "error: unable to write file README: No space left on device";
    let script = format!(
        "[ \"$1\" = checkout ] && {{ echo '{full}' >&2; exit 128; }}; exec {} \"$@\"",
        quoted(real_git())
    );
    write_program(&origin.path("bin/git"), &script);
    let path = format!("{}:{}", origin.path("bin").display(), path().display());
    let ended = origin
        .worker(&receiver)
        .env("PATH", path)
        .agent("true")
        .run();
    let why = retryable_failure(&receiver, &ended);
    assert!(
        why.contains("git checkout failed with exit code 128"),
        "{why}"
    );
    assert!(why.contains("the disk is full"), "{why}");
    assert!(why.contains("No space left on device"), "{why}");
}

#[test]
fn nothing_is_cloned_into_a_directory_that_is_not_empty() {
    let (receiver, origin, project) = (Receiver::start(), Origin::new(), Project::new());
    let worker = origin
        .worker(&receiver)
        .env("DESCARTES_WORKSPACE", project.dir());
    let ended = worker.agent("true").run();
    let why = retryable_failure(&receiver, &ended);
    assert!(
        why.contains("is not empty, so nothing is cloned into it"),
        "{why}"
    );
}

#[test]
fn a_clone_without_git_or_with_unreadable_authorities_fails_permanently_and_says_why() {
    for (name, value, expected) in [
        ("PATH", "/nowhere", "there is no git on the PATH"),
        (
            "SSL_CERT_FILE",
            "/nowhere",
            "SSL_CERT_FILE /nowhere cannot be read: No such file",
        ),
    ] {
        let (receiver, origin) = (Receiver::start(), Origin::new());
        let worker = origin
            .worker(&receiver)
            .env("DESCARTES_REPO", "https://git.example/x.git")
            .env(name, value);
        let ended = worker.agent("true").run();
        let why = permanent_failure(&receiver, &ended);
        assert!(why.contains(expected), "{why}");
    }
}
