//! The worker pushes no file of Git LFS whose content it cannot upload, on a machine without git-lfs.

use super::{BRANCH, changed_paths};
use crate::support::lfs::{oid, pointer};
use crate::support::{Origin, Receiver, Worker, path_without};

/// The name and the content of a file: files that end in `.bin` are in Git LFS.
const ATTRIBUTES: (&str, &str) = (
    ".gitattributes",
    "*.bin filter=lfs diff=lfs merge=lfs -text\n",
);

/// A worker without git-lfs on its `PATH`.
fn worker_without_lfs(origin: &Origin, receiver: &Receiver) -> Worker {
    let path = path_without("git-lfs", &origin.path("without-lfs"));
    origin.worker(receiver).env("PATH", path)
}

#[test]
fn a_file_with_the_content_that_its_pointer_names_stays_a_pointer() {
    let origin = Origin::with_files(&[ATTRIBUTES, ("a.bin", &pointer(b"content"))]);
    let receiver = Receiver::start();
    let agent = "printf content > a.bin; echo more >> README";
    worker_without_lfs(&origin, &receiver)
        .agent(agent)
        .run()
        .assert_code(0);
    assert_eq!(changed_paths(&origin), ["README"]);
}

#[test]
fn a_changed_file_is_named_and_not_pushed() {
    let origin = Origin::with_files(&[ATTRIBUTES, ("a.bin", &pointer(b"content"))]);
    let receiver = Receiver::start();
    let agent = "printf changed > a.bin; echo more >> README";
    worker_without_lfs(&origin, &receiver)
        .agent(agent)
        .run()
        .assert_code(1);
    let event = receiver.only_event("failed");
    assert_eq!(event["failure"]["reason"], "push_failed");
    assert!(event.to_string().contains("a.bin (filter lfs)"), "{event}");
    let wip = format!("{BRANCH}-wip");
    assert_eq!(
        origin.show(&wip, "a.bin"),
        pointer(b"content").trim_end(),
        "{event}"
    );
}

#[test]
fn a_new_pointer_is_not_pushed_and_the_patch_is_reported() {
    let origin = Origin::with_files(&[ATTRIBUTES]);
    let receiver = Receiver::start();
    let agent = format!("printf '{}' > new.bin", pointer(b"new"));
    worker_without_lfs(&origin, &receiver)
        .agent(&agent)
        .run()
        .assert_code(1);
    let event = receiver.only_event("failed");
    let failure = &event["failure"];
    assert_eq!(failure["reason"], "push_failed");
    assert_eq!(failure["retryable"], false);
    let message = failure["message"].as_str().unwrap();
    assert!(
        message.contains("there is no git-lfs on the worker's PATH: new.bin"),
        "{message}"
    );
    let patch = event["result"]["work"]["patch"].to_string();
    assert!(patch.contains(&oid(b"new")), "{patch}");
    assert_eq!(origin.branches(), ["main"]);
}

#[test]
fn a_file_that_only_looks_like_a_pointer_is_pushed() {
    let origin = Origin::with_files(&[ATTRIBUTES]);
    let receiver = Receiver::start();
    let agent = format!("printf '{}' > example.txt", pointer(b"new"));
    worker_without_lfs(&origin, &receiver)
        .agent(&agent)
        .run()
        .assert_code(0);
    assert_eq!(changed_paths(&origin), ["example.txt"]);
}

#[test]
fn a_clone_that_needs_git_lfs_fails_permanently_without_it() {
    let origin = Origin::with_files(&[ATTRIBUTES, ("a.bin", &pointer(b"content"))]);
    let receiver = Receiver::start();
    let worker = worker_without_lfs(&origin, &receiver).env("DESCARTES_LFS", "true");
    worker.agent("true").run().assert_code(1);
    let failure = &receiver.only_event("failed")["failure"];
    assert_eq!(failure["reason"], "workspace_failed");
    assert_eq!(failure["retryable"], false);
    let message = failure["message"].as_str().unwrap();
    assert!(
        message.contains("there is no git-lfs on the PATH"),
        "{message}"
    );
}
