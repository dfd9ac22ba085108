//! Files below the project's root: opened without leaving it, locked for a bounded time, read up to a cap.
//!
//! No symbolic link is followed, no FIFO waited for. It knows nothing of what the files hold, and
//! does not write.

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

/// SCUD holds its lock while it rewrites the graph: milliseconds, a few hundred for a huge one. Whoever
/// holds it longer means no good, and the platform's stop window is not ours to spend.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(25);

/// Why a file of the project cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{} does not exist", path.display())]
    Missing { path: PathBuf },
    #[error("cannot open or read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is not a regular file, or reached through a symbolic link, which is not followed", path.display())]
    Foreign { path: PathBuf },
    #[error("{} is larger than {} KiB", path.display(), limit >> 10)]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("{} stayed locked, or kept being replaced, for {} s", path.display(), waited.as_secs())]
    Locked { path: PathBuf, waited: Duration },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Opens the regular file that `components` lead to below `root`; only `root` itself may be a link.
pub(super) fn open(root: &Path, components: &[&str], access: Access) -> Result<File, FileError> {
    let path = || root.join(components.iter().collect::<PathBuf>());
    let refused = |errno| match errno {
        Errno::NOENT => FileError::Missing { path: path() },
        // What O_NOFOLLOW says of a link, O_DIRECTORY of a link or a file, and open of a socket.
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::ISDIR => {
            FileError::Foreign { path: path() }
        }
        errno => FileError::Unreadable {
            path: path(),
            source: errno.into(),
        },
    };
    let file = descend(root, components, access).map_err(refused)?;
    match FileType::from_raw_mode(fstat(&file).map_err(refused)?.st_mode) {
        FileType::RegularFile => Ok(file.into()),
        _ => Err(FileError::Foreign { path: path() }),
    }
}

fn descend(root: &Path, components: &[&str], access: Access) -> Result<OwnedFd, Errno> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // NONBLOCK: a FIFO in the file's place opens at once, and is refused by its type.
    let file = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = file
        | match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
        };
    let mut at = open_at_root(root, directory, Mode::empty())?;
    for (index, component) in components.iter().enumerate() {
        let last = index + 1 == components.len();
        let flags = if last {
            file
        } else {
            directory | OFlags::NOFOLLOW
        };
        at = openat(&at, *component, flags, Mode::empty())?;
    }
    Ok(at)
}

/// Opens a file and takes the lock that SCUD takes: shared to read, exclusive to write. The lock goes
/// with the file; whoever drops the future gives up waiting.
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
            // Between open and lock another file may have been renamed into this one's place;
            // then the lock is on a file that nobody will read again.
            Ok(()) if same(&file, &open(root, components, access)?) => return Ok(file),
            Ok(()) | Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(errno) => {
                return Err(FileError::Unreadable {
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

fn same(one: &File, other: &File) -> bool {
    match (fstat(one), fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

/// The whole file, unless it is larger than `limit`, whatever its size was a moment ago.
pub(super) fn read(file: &File, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let unreadable = |source| FileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let size = file.metadata().map_err(unreadable)?.len();
    let mut bytes = Vec::new();
    if size <= limit {
        // One allocation instead of a dozen doublings; one byte more lets the end be seen.
        bytes.reserve_exact(usize::try_from(size + 1).unwrap_or(0));
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
    }
    if size > limit || bytes.len() as u64 > limit {
        let path = path.to_owned();
        return Err(FileError::TooLarge { path, limit });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
