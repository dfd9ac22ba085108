//! Copies a sample project, so that a run on it leaves the original as it is.

use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::isolation::User;

/// The largest sample: a larger directory was probably named by mistake.
const MAX_FILES: usize = 10_000;
const MAX_BYTES: u64 = 64 << 20;

/// Copies the directory to a new temporary one, for the agent's user if there is one.
pub async fn copy(sample: &Path, user: Option<&User>) -> io::Result<TempDir> {
    let (from, user) = (sample.to_owned(), user.cloned());
    // Not on the runtime's thread, because the disk may be slow.
    let copied = tokio::task::spawn_blocking(move || {
        let to = tempfile::Builder::new()
            .prefix("descartes-sample-")
            .tempdir()?;
        copy_all(&from, to.path())?;
        if let Some(user) = user {
            user.give_all(to.path())?;
        }
        Ok(to)
    });
    copied.await.map_err(io::Error::other)?
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    let mut left: Vec<(PathBuf, PathBuf)> = vec![(from.to_owned(), to.to_owned())];
    let (mut files, mut bytes) = (0, 0);
    while let Some((from, to)) = left.pop() {
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type()?;
            files += 1;
            if kind.is_file() {
                bytes += entry.metadata()?.len();
            }
            if files > MAX_FILES || bytes > MAX_BYTES {
                let max = MAX_BYTES >> 20;
                return Err(io::Error::other(format!(
                    "it has more than {MAX_FILES} files or {max} MiB"
                )));
            }
            copy_one(kind, &source, &target)?;
            if kind.is_dir() {
                left.push((source, target));
            }
        }
    }
    Ok(())
}

fn copy_one(kind: FileType, from: &Path, to: &Path) -> io::Result<()> {
    if kind.is_dir() {
        fs::create_dir(to)
    } else if kind.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)
    } else if kind.is_file() {
        fs::copy(from, to).map(drop)
    } else {
        let from = from.display();
        Err(io::Error::other(format!(
            "{from} is not a file, a directory or a symbolic link"
        )))
    }
}
