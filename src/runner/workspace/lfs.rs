//! Git LFS in a new clone, before the agent starts.

use std::io;
use std::path::Path;

use tokio::time::sleep;

use super::configuration;
use super::fetch::RETRY_DELAYS;
use crate::git::{Call, Git, GitError, lfs_progress_variable};

/// Configures the filter of Git LFS if the project uses it, so that the agent's git turns changed files into pointers.
/// Downloads the files if `with_files` is set.
pub async fn prepare(git: &Git<'_>, dir: &Path, with_files: bool) -> Result<(), GitError> {
    let is_installed = git.lfs_program().is_some();
    if !(is_installed || with_files) || !is_used(git, dir).await? {
        return Ok(());
    }
    if !is_installed {
        let missing = "DESCARTES_LFS is true, but there is no git-lfs on the PATH of the worker: install it, or set \
            DESCARTES_LFS to false";
        let missing = io::Error::other(missing);
        return Err(GitError::from_io("lfs", "could not be started", &missing));
    }
    let mut install = Call::new(dir, ["lfs", "install", "--local", "--skip-repo"]);
    if !with_files {
        install = install.arg("--skip-smudge");
    }
    git.run(install).await?;
    if with_files {
        pull(git, dir).await
    } else {
        Ok(())
    }
}

/// Whether any `.gitattributes` file of the project names the filter `lfs`.
async fn is_used(git: &Git<'_>, dir: &Path) -> Result<bool, GitError> {
    if !configuration::may_have_attributes(dir) {
        return Ok(false);
    }
    let args = ["grep", "--quiet", "--cached", "filter=lfs", "--"];
    let call = Call::new(dir, args).arg(":(glob)**/.gitattributes");
    match git.run(call).await {
        Ok(_) => Ok(true),
        Err(error) if error.exit_code == Some(1) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Downloads the files of Git LFS, and retries after a transient error.
async fn pull(git: &Git<'_>, dir: &Path) -> Result<(), GitError> {
    let mut waits = RETRY_DELAYS.iter();
    loop {
        let call = Call::new(dir, ["lfs", "pull", "origin"]);
        let call = call
            .variables(&vec![lfs_progress_variable()])
            .contacts_remote();
        let Err(error) = git.run(call).await else {
            return Ok(());
        };
        let is_transient = error.kind().is_transient() && !error.was_stopped;
        let Some(wait) = waits
            .next()
            .filter(|wait| is_transient && git.has_time(**wait))
        else {
            return Err(error);
        };
        tracing::warn!(
            "the Git LFS files were not fetched, trying again: {}",
            error.summary()
        );
        tokio::select! {
            () = sleep(*wait) => {}
            _ = git.stop.wait_until_requested() => return Err(error),
        }
    }
}
