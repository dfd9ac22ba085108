//! Opens, locks and reads files below the project's root, within limits of time and size.
//!
//! Follows no symbolic link and waits for no FIFO. Does not interpret the contents of the files, and writes
//! nothing.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    FileType, FlockOperation, Mode, OFlags, flock, fstat, open as open_at_root, openat,
};
use rustix::io::Errno;
use tokio::time::{Instant, sleep};

/// How long to wait for a lock. SCUD holds its lock while it rewrites the graph, which takes a few milliseconds, or a
/// few hundred for a huge graph. A program that holds the lock longer must not use up the stop window.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(3);
/// The pause after the first attempt to lock; it doubles with each attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The longest pause between two attempts to lock.
const LONGEST_PAUSE: Duration = Duration::from_millis(25);

/// Why a file of the project cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{} does not exist", path.display())]
    Missing { path: PathBuf },
    #[error("{} could not be opened or read", path.display())]
    NotReadable { path: PathBuf, source: io::Error },
    #[error("{} is not a regular file, or its path contains a symbolic link, which is not followed", path.display())]
    NotRegular { path: PathBuf },
    #[error("{} is larger than the limit of {} KiB", path.display(), limit >> 10)]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("{} was locked by another program, or replaced again and again, for {} s", path.display(), waited.as_secs())]
    Locked { path: PathBuf, waited: Duration },
}

impl FileError {
    /// Whether the file itself is wrong, so that another attempt would fail in the same way.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::NotRegular { .. } | Self::TooLarge { .. } => true,
            // Text that is not UTF-8.
            Self::NotReadable { source, .. } => source.kind() == io::ErrorKind::InvalidData,
            Self::Locked { .. } => false,
        }
    }
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Opens the regular file at the path `components` below `root`. Only `root` itself may be a link.
pub(super) fn open(root: &Path, components: &[&str], access: Access) -> Result<File, FileError> {
    let path = || root.join(components.iter().collect::<PathBuf>());
    let error = |errno| match errno {
        Errno::NOENT => FileError::Missing { path: path() },
        // The errors of O_NOFOLLOW for a link, of O_DIRECTORY for a link or a file, and of open for a socket.
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::ISDIR => {
            FileError::NotRegular { path: path() }
        }
        errno => FileError::NotReadable {
            path: path(),
            source: errno.into(),
        },
    };
    let file = descend(root, components, access).map_err(error)?;
    match FileType::from_raw_mode(fstat(&file).map_err(error)?.st_mode) {
        FileType::RegularFile => Ok(file.into()),
        _ => Err(FileError::NotRegular { path: path() }),
    }
}

/// Opens each directory of the path below the one before it, and then the file.
fn descend(root: &Path, components: &[&str], access: Access) -> Result<OwnedFd, Errno> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // NONBLOCK: a FIFO in place of the file opens at once, and is rejected by its type.
    let file = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = file
        | match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
        };
    let mut opened = open_at_root(root, directory, Mode::empty())?;
    for (index, component) in components.iter().enumerate() {
        let is_last = index + 1 == components.len();
        let flags = if is_last {
            file
        } else {
            directory | OFlags::NOFOLLOW
        };
        opened = openat(&opened, *component, flags, Mode::empty())?;
    }
    Ok(opened)
}

/// Opens a file and takes the lock that SCUD takes: shared to read, exclusive to write. Closing the
/// file releases the lock; dropping the future ends the wait.
pub(super) async fn open_locked(
    root: &Path,
    components: &[&str],
    access: Access,
) -> Result<File, FileError> {
    let operation = match access {
        Access::Read => FlockOperation::NonBlockingLockShared,
        Access::Write => FlockOperation::NonBlockingLockExclusive,
    };
    let path = || root.join(components.iter().collect::<PathBuf>());
    let deadline = Instant::now() + LOCK_WAIT;
    let mut pause = FIRST_PAUSE;
    loop {
        let file = open(root, components, access)?;
        match flock(&file, operation) {
            // Between open and lock another file may have been renamed to this path; then the lock
            // is on a file that is no longer in the project.
            Ok(()) if is_same_file(&file, &open(root, components, access)?) => return Ok(file),
            Ok(()) | Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(errno) => {
                return Err(FileError::NotReadable {
                    path: path(),
                    source: errno.into(),
                });
            }
        }
        drop(file);
        if Instant::now() >= deadline {
            return Err(FileError::Locked {
                path: path(),
                waited: LOCK_WAIT,
            });
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether both descriptors refer to the same file.
fn is_same_file(one: &File, other: &File) -> bool {
    match (fstat(one), fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

/// Reads the whole file; an error if it is larger than `limit` bytes, even if it grows meanwhile.
pub(super) fn read(file: &File, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let not_readable = |source| FileError::NotReadable {
        path: path.to_owned(),
        source,
    };
    let size = file.metadata().map_err(not_readable)?.len();
    let mut bytes = Vec::new();
    if size <= limit {
        // Avoids reallocations. The extra byte lets the last read see the end of the file without growing the buffer.
        bytes.reserve_exact(usize::try_from(size + 1).unwrap_or(0));
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(not_readable)?;
    }
    if size > limit || bytes.len() as u64 > limit {
        let path = path.to_owned();
        return Err(FileError::TooLarge { path, limit });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
