//! The same as in `filters` and `lfs`, with the real git-crypt and the real git-lfs.

mod lfs;

use std::process::Command;

use super::{BRANCH, changed_paths, run_and_assert_completed, run_and_assert_incomplete};
use crate::support::origin::git;
use crate::support::{Origin, path, quoted};

/// Runs git-crypt in a repository.
#[track_caller]
fn git_crypt(dir: &std::path::Path, args: &[&str]) {
    let status = Command::new("git-crypt")
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", path())
        .status();
    assert!(
        status.expect("git-crypt is installed").success(),
        "{args:?}"
    );
}

/// An origin with an encrypted file, and the key to the file at `key`.
fn origin_with_encrypted_file() -> Origin {
    let origin = Origin::new();
    let (seed, key) = (origin.path("seed"), origin.path("key"));
    git_crypt(&seed, &["init"]);
    git_crypt(&seed, &["export-key", key.to_str().unwrap()]);
    origin.commit(&[
        (
            ".gitattributes",
            "secrets/** filter=git-crypt diff=git-crypt\n",
        ),
        ("secrets/db", "password\n"),
    ]);
    origin
}

/// Asserts that a pushed file begins with git-crypt's header.
#[track_caller]
fn assert_encrypted(origin: &Origin, branch: &str, file: &str) {
    let object = git(
        &origin.path("project.git"),
        &["cat-file", "blob", &format!("{branch}:{file}")],
    );
    assert!(object.starts_with("\0GITCRYPT\0"), "{file} is plain text");
}

#[test]
fn files_that_git_crypt_unlocked_stay_encrypted() {
    let origin = origin_with_encrypted_file();
    let unlock = format!(
        "git-crypt unlock {} && grep -q password secrets/db || exit 9",
        quoted(origin.path("key"))
    );
    run_and_assert_completed(
        &origin,
        &format!("{unlock}; echo more >> README; echo new > secrets/new"),
    );
    assert_eq!(changed_paths(&origin), ["README", "secrets/new"]);
    for file in ["secrets/db", "secrets/new"] {
        assert_encrypted(&origin, BRANCH, file);
    }
}

#[test]
fn a_new_secret_file_in_a_locked_clone_is_not_pushed_as_plain_text() {
    let origin = origin_with_encrypted_file();
    let run = run_and_assert_incomplete(&origin, "echo new > secrets/new; echo more >> README");
    let wip = format!("{BRANCH}-wip");
    let files = origin.git(&["ls-tree", "-r", "--name-only", &wip]);
    assert!(!files.contains("secrets/new"), "{files}");
    assert_encrypted(&origin, &wip, "secrets/db");
    assert!(
        run.failure_text()
            .contains("secrets/new (filter git-crypt)")
    );
}
