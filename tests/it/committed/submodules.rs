//! The worker pushes changes of submodules if their commits are published, and names all other changes.

use std::fs;

use super::{BRANCH, changed_paths, run_and_assert_completed};
use crate::support::origin::git;
use crate::support::{Origin, quoted};

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

/// A command that checks out the submodule.
const UPDATE_SUBMODULE: &str =
    "git -c protocol.file.allow=always submodule --quiet update --init || exit 9";

#[test]
fn a_submodule_that_the_agent_replaced_by_files_is_pushed_as_files() {
    let origin = origin_with_submodule();
    run_and_assert_completed(
        &origin,
        "git rm -q vendor/lib; mkdir -p vendor/lib; echo inline > vendor/lib/code; git add -A",
    );
    assert_eq!(
        changed_paths(&origin),
        [".gitmodules", "vendor/lib", "vendor/lib/code"]
    );
    assert_eq!(origin.show(BRANCH, "vendor/lib/code"), "inline");
}

#[test]
fn changes_inside_a_submodule_are_named() {
    let origin = origin_with_submodule();
    let run = run_and_assert_completed(
        &origin,
        &format!("{UPDATE_SUBMODULE}; echo edit >> vendor/lib/code; echo x > x"),
    );
    assert_eq!(changed_paths(&origin), ["x"]);
    let message = run.message();
    assert!(
        message.contains("submodules have changes that are not committed inside them: vendor/lib"),
        "{message}"
    );
}

#[test]
fn a_submodule_at_a_commit_that_no_remote_has_is_reset_and_named() {
    let origin = origin_with_submodule();
    let run = run_and_assert_completed(
        &origin,
        &format!(
            "{UPDATE_SUBMODULE}; cd vendor/lib; git -c user.name=a -c user.email=b commit -q --allow-empty -m private
             cd ../..; echo x > x"
        ),
    );
    assert_eq!(changed_paths(&origin), ["x"]);
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
    run_and_assert_completed(
        &origin,
        &format!(
            "{UPDATE_SUBMODULE}; cd vendor/lib; git -c protocol.file.allow=always fetch -q; git checkout -q {second}"
        ),
    );
    let linked = origin.git(&["ls-tree", BRANCH, "vendor/lib"]);
    assert!(linked.contains(&second), "{linked}");
}

#[test]
fn a_submodule_that_the_agent_added_is_pushed_if_its_commit_is_published() {
    let origin = origin_with_submodule();
    let url = format!("file://{}", origin.path("lib").display());
    run_and_assert_completed(
        &origin,
        &format!(
            "git -c protocol.file.allow=always submodule --quiet add {} other",
            quoted(url)
        ),
    );
    assert_eq!(changed_paths(&origin), [".gitmodules", "other"]);
}
