//! One worker at a time for each task of a project directory.
//!
//! The lock is an flock(2) on an empty file outside the project, so that git never sees it. `local` takes
//! it exclusively and then shares it with its worker, which may live a little longer than `local`. The
//! kernel releases it when both have ended, however they end.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use eyre::{WrapErr, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The lock of a task. It is released when this is dropped.
#[derive(Debug)]
pub struct TaskLock {
    /// The lock is released when the last process has closed this.
    file: File,
    path: PathBuf,
    /// Whether to remove the file when the lock is released.
    is_owner: bool,
}

impl TaskLock {
    /// Takes the lock for a task of the project in a directory. Each name of a task has a separate lock, so
    /// `task` must be the full name.
    ///
    /// `lock_dirs` are the directories that the lock file may be in; the first usable one is taken.
    ///
    /// # Errors
    /// If another `local` holds the lock, or no directory is usable.
    pub fn take(lock_dirs: &[PathBuf], project: &Path, task: &str) -> eyre::Result<Self> {
        let project = fs::canonicalize(project).wrap_err_with(|| {
            format!("cannot use the project's directory {}", project.display())
        })?;
        let path = usable(lock_dirs)?.join(file_name(&project, task));
        let cannot_lock = || format!("cannot lock {}", path.display());
        loop {
            let file = open(&path).wrap_err_with(cannot_lock)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => bail!(busy(&project, &path)),
                Err(error) => return Err(error).wrap_err_with(cannot_lock),
            }
            if file.metadata().wrap_err_with(cannot_lock)?.nlink() == 0 {
                // Its owner removed the file between `open` and `flock`.
                continue;
            }
            let mut lock = Self {
                file,
                path,
                is_owner: false,
            };
            lock.write_holder(task)
                .wrap_err("cannot write the lock file")?;
            // The kernel releases the exclusive lock before it takes the shared one.
            if flock(&lock.file, FlockOperation::NonBlockingLockShared).is_err() {
                bail!(busy(&project, &lock.path));
            }
            lock.is_owner = true;
            return Ok(lock);
        }
    }

    /// Shares the lock that the parent of this process holds.
    ///
    /// # Errors
    /// If another process has taken the lock in the meantime.
    pub fn share(path: &Path) -> eyre::Result<Self> {
        let cannot_lock = || {
            format!(
                "cannot lock {}, which DESCARTES_TASK_LOCK names",
                path.display()
            )
        };
        let file = open(path).wrap_err_with(cannot_lock)?;
        flock(&file, FlockOperation::NonBlockingLockShared).wrap_err_with(cannot_lock)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            is_owner: false,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the process and the task to the lock file, for the error message of other processes.
    fn write_holder(&self, task: &str) -> io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        writeln!(file, "{} {task}", std::process::id())
    }
}

impl Drop for TaskLock {
    fn drop(&mut self) {
        if self.is_owner {
            // If the file cannot be removed, that is harmless: the file is not locked.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_follow)
        .open(path)
}

/// The first directory that exists, or can be made, and that only this user can write to.
fn usable(lock_dirs: &[PathBuf]) -> eyre::Result<&Path> {
    let mut problems = Vec::new();
    for dir in lock_dirs {
        match private_directory(dir) {
            Ok(()) => return Ok(dir),
            Err(error) => problems.push(format!("{}: {error}", dir.display())),
        }
    }
    bail!(
        "there is no directory for the lock of the task; set XDG_STATE_HOME to one ({})",
        problems.join("; ")
    )
}

fn private_directory(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let found = fs::symlink_metadata(dir)?;
    let user = rustix::process::geteuid().as_raw();
    if !found.is_dir() || found.uid() != user || found.mode() & 0o022 != 0 {
        return Err(io::Error::other("other users can write to it"));
    }
    // A file system can be read-only although the mode says otherwise.
    tempfile::tempfile_in(dir).map(drop)
}

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

fn busy(project: &Path, lock: &Path) -> String {
    let holder = fs::read_to_string(lock).unwrap_or_default();
    let project = project.display();
    match holder.trim_end().split_once(' ') {
        Some((pid, task)) => format!(
            "task {task} is already running in {project}, started by process {pid}; wait until it ends, or stop it with `kill {pid}`"
        ),
        None => format!("this task is already running in {project}; wait until it ends"),
    }
}
