//! A lock file: an flock(2) with the id of its holder in the file.
//!
//! The kernel releases the lock when the last copy of its descriptor is closed. A process between fork and exec has
//! such a copy. So a lock is released explicitly. If the holder of a lock is dead, [`FileLock::take`] waits for the
//! copies to be closed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// How long to wait for a lock whose holder is dead.
const MAX_WAIT_FOR_DEAD_HOLDER: Duration = Duration::from_secs(5);
/// How long to wait between two attempts to take the lock.
const RETRY_PAUSE: Duration = Duration::from_millis(2);

/// A lock that this process holds until this is dropped.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    path: PathBuf,
}

/// Why a lock cannot be taken or shared.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// What the holder has written to the file: its process id, and a note after a space.
    #[error("it is locked by process {0}")]
    Held(String),
    #[error(transparent)]
    File(#[from] io::Error),
}

impl FileLock {
    /// Takes the lock exclusively; makes the file if there is none. Writes this process and the note to it, for
    /// the error message of other processes. Blocks for up to 5 seconds if the holder is dead.
    ///
    /// # Errors
    /// If another process holds the lock, or the file is not usable.
    #[expect(
        clippy::disallowed_methods,
        reason = "a lock is taken before there is anything that has to be stopped"
    )]
    pub fn take(path: &Path, note: &str) -> Result<Self, LockError> {
        let began = Instant::now();
        loop {
            let file = open(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // The holder removed the file between `open` and `flock`.
                Ok(()) if file.metadata()?.nlink() == 0 => {}
                Ok(()) => {
                    let lock = Self {
                        file,
                        path: path.to_owned(),
                    };
                    lock.write_holder(note)?;
                    return Ok(lock);
                }
                Err(Errno::WOULDBLOCK) => {
                    let holder = read_holder(path);
                    if is_alive(&holder) || began.elapsed() > MAX_WAIT_FOR_DEAD_HOLDER {
                        return Err(LockError::Held(holder));
                    }
                    thread::sleep(RETRY_PAUSE);
                }
                Err(error) => return Err(LockError::File(error.into())),
            }
        }
    }

    /// Holds the lock together with the process that has called [`FileLock::make_shareable`].
    ///
    /// # Errors
    /// If a process holds the lock exclusively, or the file is not usable.
    pub fn share(path: &Path) -> Result<Self, LockError> {
        let lock = Self {
            file: open(path)?,
            path: path.to_owned(),
        };
        lock.make_shareable()?;
        Ok(lock)
    }

    /// Lets other processes share the lock.
    ///
    /// # Errors
    /// If another process has taken the lock: the kernel releases it for a moment.
    pub fn make_shareable(&self) -> Result<(), LockError> {
        match flock(&self.file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(()),
            Err(Errno::WOULDBLOCK) => Err(LockError::Held(read_holder(&self.path))),
            Err(error) => Err(LockError::File(error.into())),
        }
    }

    /// The path of the lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write_holder(&self, note: &str) -> io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        let line = format!("{} {note}", std::process::id());
        writeln!(file, "{}", line.trim_end())
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing the file is not enough while a process that this one has forked holds a copy of it.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Opens a lock file, and makes it if there is none. Follows no symbolic link.
fn open(path: &Path) -> io::Result<File> {
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_follow)
        .open(path)
}

/// The text that the holder has written to the lock file.
fn read_holder(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim_end().to_owned()
}

/// Whether the process that a lock file names still exists. `false` if the file is empty: then the
/// holder has just taken the lock, and a short wait gives it time to write its id.
fn is_alive(holder: &str) -> bool {
    let pid = holder.split(' ').next().unwrap_or_default().parse();
    let pid = pid.ok().and_then(Pid::from_raw);
    // Any other error means that the process exists, but belongs to another user.
    pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_lock_is_free_although_a_copy_of_its_descriptor_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = FileLock::take(&path, "").unwrap();
        // A process between fork and exec has such a copy.
        let _copy = lock.file.try_clone().unwrap();
        drop(lock);
        FileLock::take(&path, "").unwrap();
    }

    #[test]
    fn a_second_take_fails_and_its_error_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _first = FileLock::take(&path, "task 7").unwrap();
        let error = FileLock::take(&path, "task 7").unwrap_err();
        let expected = format!("{} task 7", std::process::id());
        assert!(
            matches!(&error, LockError::Held(holder) if *holder == expected),
            "{error:?}"
        );
    }

    #[test]
    fn a_shared_lock_is_free_only_when_all_holders_have_dropped_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = FileLock::take(&path, "").unwrap();
        FileLock::share(&path).unwrap_err();
        first.make_shareable().unwrap();
        let second = FileLock::share(&path).unwrap();
        drop(first);
        FileLock::take(&path, "").unwrap_err();
        drop(second);
        FileLock::take(&path, "").unwrap();
    }

    #[test]
    fn take_waits_while_a_copy_of_a_dead_holders_descriptor_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        let path = dir.path().join("lock");
        fs::write(&path, format!("{} task 7\n", dead.id())).unwrap();
        let copy = File::open(&path).unwrap();
        flock(&copy, FlockOperation::LockExclusive).unwrap();
        thread::scope(|scope| {
            let taking = scope.spawn(|| FileLock::take(&path, "").map(drop));
            // Long enough for `take` to fail, which must not happen.
            let began = Instant::now();
            while !taking.is_finished() && began.elapsed() < Duration::from_millis(200) {
                thread::yield_now();
            }
            flock(&copy, FlockOperation::Unlock).unwrap();
            taking.join().unwrap().unwrap();
        });
    }
}
