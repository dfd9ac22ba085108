//! One worker at a time for each task of a project directory.
//!
//! The lock is an flock(2) on an empty file outside the project, so that git never sees it. `local` takes
//! it exclusively and then shares it with its worker, which may live a little longer than `local`. The
//! kernel releases it when both have ended, however they end.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use eyre::{WrapErr, bail, eyre};

use crate::file_lock::{FileLock, LockError};

/// The lock of a task. It is released when this value is dropped.
#[derive(Debug)]
pub struct TaskLock {
    file: FileLock,
    /// Whether this process has taken the lock and removes the file when the lock is released.
    is_owner: bool,
}

impl TaskLock {
    /// Takes the lock for a task of the project in a directory. `task` must be the full name, because every other name
    /// of the task would have a separate lock.
    ///
    /// The lock file is created in the first of `lock_dirs` that only this user can write to.
    ///
    /// # Errors
    /// If another `local` holds the lock, or there is no such directory.
    pub fn take(lock_dirs: &[PathBuf], project: &Path, task: &str) -> eyre::Result<Self> {
        let project = fs::canonicalize(project).wrap_err_with(|| {
            format!(
                "cannot use the project's directory {}; name another one with --project",
                project.display()
            )
        })?;
        let path = first_private_dir(lock_dirs)?.join(file_name(&project, task));
        let lock_error = |error| match error {
            LockError::Held(holder) => eyre!(already_running(&project, &holder)),
            LockError::File(error) => {
                eyre::Report::new(error).wrap_err(format!("cannot lock {}", path.display()))
            }
        };
        let file = FileLock::take(&path, task).map_err(lock_error)?;
        file.make_shareable().map_err(lock_error)?;
        Ok(Self {
            file,
            is_owner: true,
        })
    }

    /// Shares the lock that the parent of this process holds.
    ///
    /// # Errors
    /// If another process has taken the lock in the meantime.
    pub fn share(path: &Path) -> eyre::Result<Self> {
        let file = FileLock::share(path).wrap_err_with(|| {
            format!(
                "cannot lock {}, which DESCARTES_TASK_LOCK names",
                path.display()
            )
        })?;
        Ok(Self {
            file,
            is_owner: false,
        })
    }

    /// The path of the lock file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

impl Drop for TaskLock {
    fn drop(&mut self) {
        if self.is_owner {
            // If the file cannot be removed, that is harmless: the file is not locked.
            let _ = fs::remove_file(self.file.path());
        }
    }
}

/// The first directory that exists, or can be created, and that only this user can write to.
pub fn first_private_dir(lock_dirs: &[PathBuf]) -> eyre::Result<&Path> {
    let mut problems = Vec::new();
    for dir in lock_dirs {
        match ensure_private(dir) {
            Ok(()) => return Ok(dir),
            Err(error) => problems.push(format!("{}: {error}", dir.display())),
        }
    }
    bail!(
        "there is no directory for the lock of the task; set XDG_STATE_HOME to one ({})",
        problems.join("; ")
    )
}

/// Creates a directory if it is missing, and checks that only this user can write to it.
fn ensure_private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let metadata = fs::symlink_metadata(dir)?;
    let user = rustix::process::geteuid().as_raw();
    if !metadata.is_dir() || metadata.uid() != user || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other("other users can write to it"));
    }
    // A file system can be read-only although the mode says otherwise.
    tempfile::tempfile_in(dir).map(drop)
}

/// The name of the lock file: a hash of the project's directory and the task's full name.
fn file_name(project: &Path, task: &str) -> String {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    for part in [
        project.as_os_str().as_encoded_bytes(),
        b"\0",
        task.as_bytes(),
    ] {
        hash.update(part);
    }
    let hash = hash.finish();
    let hex = hash
        .as_ref()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"));
    format!("{}.lock", hex.collect::<String>())
}

/// The message if another `local` runs the task; `holder` is what that process has written into the lock file.
fn already_running(project: &Path, holder: &str) -> String {
    let project = project.display();
    match holder.split_once(' ') {
        Some((pid, task)) => format!(
            "task {task} is already running in {project}, started by process {pid}; wait until it ends, or stop it with `kill {pid}`"
        ),
        None => format!("this task is already running in {project}; wait until it ends"),
    }
}
