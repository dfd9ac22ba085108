//! Copies a sample project, so that a run does not change the original.

use std::fs::{self, FileType, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::isolation::User;
use crate::temporary_dir::TemporaryDir;

/// How many files a sample may have. A larger directory was probably named by mistake.
const MAX_FILES: usize = 10_000;
/// How large all files of a sample may be together, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// Copies the directory to a new temporary one, for the agent's user if there is one.
pub async fn copy(sample: &Path, user: Option<&User>) -> io::Result<TemporaryDir> {
    let (from, user) = (sample.to_owned(), user.cloned());
    // Not on the runtime's thread, because the disk may be slow.
    let copied = tokio::task::spawn_blocking(move || {
        let to = TemporaryDir::with_prefix("descartes-sample-")?;
        copy_all(&from, to.path())?;
        if let Some(user) = user {
            user.become_owner_of_all(to.path())?;
        }
        Ok(to)
    });
    copied.await.map_err(io::Error::other)?
}

/// An error if the directory could not be copied. Copies nothing.
pub async fn check(sample: &Path) -> io::Result<()> {
    let sample = sample.to_owned();
    let checked = tokio::task::spawn_blocking(move || {
        for_each_entry(&sample, |kind, path| {
            let source = sample.join(path);
            if kind.is_file() {
                return fs::File::open(source).map(drop);
            }
            require_copyable(kind, &source)
        })
    });
    checked.await.map_err(io::Error::other)?
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    for_each_entry(from, |kind, path| {
        copy_one(kind, &from.join(path), &to.join(path))
    })
}

/// Calls `visit` with the file type and the relative path of everything below a directory; a directory comes before its
/// entries.
fn for_each_entry(
    top: &Path,
    mut visit: impl FnMut(FileType, &Path) -> io::Result<()>,
) -> io::Result<()> {
    let mut unvisited = vec![PathBuf::new()];
    let (mut files, mut bytes) = (0, 0);
    while let Some(dir) = unvisited.pop() {
        for entry in fs::read_dir(top.join(&dir))? {
            let entry = entry?;
            let path = dir.join(entry.file_name());
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
            visit(kind, &path)?;
            if kind.is_dir() {
                unvisited.push(path);
            }
        }
    }
    Ok(())
}

fn require_copyable(kind: FileType, path: &Path) -> io::Result<()> {
    if kind.is_dir() || kind.is_symlink() || kind.is_file() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{} is not a file, a directory or a symbolic link",
        path.display()
    )))
}

fn copy_one(kind: FileType, from: &Path, to: &Path) -> io::Result<()> {
    if kind.is_dir() {
        fs::create_dir(to)
    } else if kind.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)
    } else {
        require_copyable(kind, from)?;
        fs::copy(from, to)?;
        // The files of a sample may be read-only, for example in a package. The agent must be able to change the copy.
        let mode = fs::metadata(to)?.permissions().mode();
        fs::set_permissions(to, Permissions::from_mode(mode | 0o200))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copies_of_read_only_files_are_writable_and_keep_their_other_permissions() {
        let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("bin")).unwrap();
        for (name, mode) in [("text", 0o444), ("bin/program", 0o555)] {
            let path = from.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(from.path().join("bin"), Permissions::from_mode(0o555)).unwrap();
        copy_all(from.path(), to.path()).unwrap();
        let mode = |name: &str| {
            let path = to.path().join(name);
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!([mode("text"), mode("bin/program")], [0o644, 0o755]);
        assert_eq!(mode("bin") & 0o200, 0o200);
        // Otherwise the temporary directory cannot be deleted.
        fs::set_permissions(from.path().join("bin"), Permissions::from_mode(0o755)).unwrap();
    }
}
