//! The directories of a run: the project's directory, the directory of a clone, and the private directory of the run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::isolation::User;
use crate::task::{Failure, Reason};
use crate::temporary_dir::TemporaryDir;

/// The absolute path of an existing directory that the worker can read.
pub fn existing_directory(dir: &Path) -> Result<PathBuf, Failure> {
    let failed = |what: &str, error: io::Error| {
        workspace_failure(format!("{what} {}", dir.display()), &error)
    };
    let absolute =
        fs::canonicalize(dir).map_err(|error| failed("there is no workspace at", error))?;
    fs::read_dir(&absolute).map_err(|error| failed("the workspace cannot be read:", error))?;
    Ok(absolute)
}

/// An error if the project's directory does not belong to the agent's user.
pub fn check_owner(user: &User, dir: &Path) -> Result<(), Failure> {
    if user.owns(dir) {
        return Ok(());
    }
    let (name, dir) = (&user.name, dir.display());
    let message = format!(
        "the workspace {dir} does not belong to DESCARTES_AGENT_USER, {name}; run `chown -R {name} {dir}`"
    );
    Err(Failure::new(Reason::WorkspaceFailed, message))
}

/// Makes the directory to clone into: `into`, which must be empty, or a new temporary directory if there is no `into`.
/// Returns the absolute path and, for a temporary directory, the value that deletes it when it is dropped.
pub fn make_clone_directory(
    into: Option<&Path>,
) -> Result<(PathBuf, Option<TemporaryDir>), Failure> {
    let Some(dir) = into else {
        let created = TemporaryDir::with_prefix("descartes-workspace-");
        let created = created.and_then(|dir| Ok((fs::canonicalize(dir.path())?, Some(dir))));
        return created.map_err(|error| {
            workspace_failure(
                "no temporary directory for the clone could be made; set TMPDIR to a directory that the worker can write"
                    .to_owned(),
                &error,
            )
        });
    };
    let created = fs::create_dir_all(dir).and_then(|()| fs::canonicalize(dir));
    let dir = created.map_err(|error| {
        workspace_failure(
            format!("the workspace {} cannot be made", dir.display()),
            &error,
        )
    })?;
    let is_empty = is_empty_for_clone(&dir).map_err(|error| {
        workspace_failure(
            format!("the workspace {} cannot be read", dir.display()),
            &error,
        )
    })?;
    if !is_empty {
        let message = format!(
            "the workspace {} is not empty, so nothing is cloned into it; empty it, or name another directory",
            dir.display()
        );
        return Err(Failure::new(Reason::WorkspaceFailed, message));
    }
    Ok((dir, None))
}

/// Whether a repository can be cloned into a directory: it is empty, except for the `lost+found` of a new ext4 volume.
pub fn is_empty_for_clone(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        if entry?.file_name() != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes the private directory of a run.
pub fn new_run_directory() -> Result<TemporaryDir, Failure> {
    let created = TemporaryDir::with_prefix("descartes-");
    created.map_err(|error| {
        workspace_failure(
            "no temporary directory for the prompt could be made; set TMPDIR to a directory that the worker can write"
                .to_owned(),
            &error,
        )
    })
}

/// The failure of a run whose workspace is unusable because of an error of the operating system.
pub fn workspace_failure(message: String, error: &io::Error) -> Failure {
    Failure {
        causes: vec![error.to_string()],
        ..Failure::new(Reason::WorkspaceFailed, message)
    }
}
