//! `merge-graph`: a merge driver for git, so that branches of two tasks of one graph merge even where
//! the tasks' lines are neighbours.
//!
//! git runs it with three temporary files and takes what stands in the second one afterwards. All
//! that a letter does not explain is left to `git merge-file`.

use std::fs;
use std::path::{Path, PathBuf};

use eyre::{WrapErr, eyre};
use tokio::process::Command;

use crate::scud;

/// The versions to merge, as git names them: `%O`, `%A` and `%B`.
#[derive(Debug)]
pub struct Versions {
    pub base: PathBuf,
    pub ours: PathBuf,
    pub theirs: PathBuf,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merged {
    Clean,
    /// Conflicts are marked in the file.
    Conflicts,
}

/// Merges into the file of ours.
pub async fn run(versions: &Versions) -> eyre::Result<Merged> {
    let Versions { base, ours, theirs } = versions;
    let (mut in_base, mut in_ours, mut in_theirs) = (read(base)?, read(ours)?, read(theirs)?);
    scud::settle(&mut in_base, &mut in_ours, &mut in_theirs);
    for (path, content) in [(base, in_base), (ours, in_ours), (theirs, in_theirs)] {
        fs::write(path, content)
            .wrap_err_with(|| format!("{} cannot be written", path.display()))?;
    }
    let labels = ["-L", "ours", "-L", "base", "-L", "theirs"];
    let merging = Command::new("git")
        .args(["merge-file", "--quiet"])
        .args(labels)
        .args([ours, base, theirs])
        .status();
    let status = merging.await.wrap_err("git cannot be started")?;
    match status.code() {
        Some(0) => Ok(Merged::Clean),
        // As many as there are conflicts, up to that.
        Some(1..=127) => Ok(Merged::Conflicts),
        _ => Err(eyre!("git merge-file ended with {status}")),
    }
}

fn read(path: &Path) -> eyre::Result<Vec<u8>> {
    fs::read(path).wrap_err_with(|| format!("{} cannot be read", path.display()))
}
