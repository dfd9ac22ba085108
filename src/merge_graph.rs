//! `merge-graph`: a merge driver for git, so that the branches of two tasks of one graph merge even if
//! the lines of the tasks are adjacent.
//!
//! git runs it with three temporary files and reads the result from the second one. Status letters that
//! one side changed are unified first; everything else is merged by `git merge-file`. The files stay as
//! they are until the whole result is known, so an error loses nothing.

use std::fs;
use std::path::{Path, PathBuf};

use eyre::{WrapErr, eyre};
use tempfile::TempDir;
use tokio::process::Command;

use crate::atomic_file;
use crate::panics::catch_panic;
use crate::scud;

/// The versions to merge, as git names them: `%O`, `%A` and `%B`.
#[derive(Debug)]
pub struct Versions {
    pub base: PathBuf,
    /// Our version. The result is written to this file.
    pub ours: PathBuf,
    pub theirs: PathBuf,
}

/// Whether the merge has conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeResult {
    Clean,
    /// Conflicts are marked in the file.
    WithConflicts,
}

/// Merges the versions and writes the result to the file `ours`. A panic becomes an error, because its
/// exit code would look like conflicts to git.
pub async fn run(versions: &Versions) -> eyre::Result<MergeResult> {
    match catch_panic(merge(versions)).await {
        Ok(merged) => merged,
        Err(bug) => Err(eyre!(bug)),
    }
}

async fn merge(versions: &Versions) -> eyre::Result<MergeResult> {
    let mut base = read("the common ancestor (%O)", &versions.base)?;
    let mut ours = read("our version (%A)", &versions.ours)?;
    let mut theirs = read("their version (%B)", &versions.theirs)?;
    scud::unify_status_letters(&mut base, &mut ours, &mut theirs);
    let dir = TempDir::new().wrap_err("no temporary directory could be made")?;
    let write = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, content)
            .wrap_err_with(|| format!("{} cannot be written", path.display()))?;
        eyre::Ok(path)
    };
    let [ours_copy, base_copy, theirs_copy] = [
        write("ours", &ours)?,
        write("base", &base)?,
        write("theirs", &theirs)?,
    ];
    let output = Command::new("git")
        .args(["merge-file", "--quiet", "--stdout"])
        .args(["-L", "ours", "-L", "base", "-L", "theirs"])
        .args([ours_copy, base_copy, theirs_copy])
        .kill_on_drop(true)
        .output()
        .await
        .wrap_err("git cannot be started")?;
    let merged = match output.status.code() {
        Some(0) => MergeResult::Clean,
        // `git merge-file` exits with the number of conflicts, at most 127.
        Some(1..=127) => MergeResult::WithConflicts,
        _ => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            return Err(eyre!(
                "git merge-file ended with {}: {}",
                output.status,
                stderr.trim()
            ));
        }
    };
    replace(&versions.ours, &output.stdout)
        .wrap_err_with(|| format!("{} cannot be written", versions.ours.display()))?;
    Ok(merged)
}

/// Reads a version; `role` names it in the error.
fn read(role: &str, path: &Path) -> eyre::Result<Vec<u8>> {
    fs::read(path).wrap_err_with(|| format!("{role} {} cannot be read", path.display()))
}

/// Replaces the content of a file in one step: if the disk is full, the file keeps its old content.
fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let path = fs::canonicalize(path)?;
    let permissions = fs::metadata(&path)?.permissions();
    atomic_file::replace(&path, content, Some(permissions))
}
