//! For people who report a bug: `--version` says which commit they have.

#[cfg(feature = "peers")]
mod builds;

use crate::support::Worker;

#[test]
fn the_version_of_an_image_names_the_revision_in_the_image() {
    let ended = Worker::without_settings()
        .arg("--version")
        .env("DESCARTES_REVISION", "0123abc")
        .run();
    ended.assert_code(0);
    let version = env!("CARGO_PKG_VERSION");
    let line = ended
        .stdout
        .strip_prefix(&format!("descartes-worker {version} ("));
    // If the build has recorded a commit, the version names this commit instead of the revision.
    assert!(line.is_some_and(|line| line.ends_with(")\n")), "{ended:#?}");
}
