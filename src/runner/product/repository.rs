//! The worker's private repositories. Also checks that a directory that the agent could write contains only git
//! objects.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::errors::io_failure;
use super::files::is_directory;
use crate::environment::Variables;
use crate::git::{Call, Git};
use crate::task::Failure;
use crate::temporary_dir::TemporaryDir;

/// A directory of objects with more files and directories than this is listed in another thread.
const MAX_ENTRIES_WITHOUT_THREAD: usize = 256;

/// A bare repository in a temporary directory; deleted when this is dropped.
#[derive(Debug)]
pub struct PrivateRepository {
    dir: TemporaryDir,
    variables: Variables,
}

impl PrivateRepository {
    /// Makes an empty repository with the object format (SHA-1 or SHA-256) of the commit `like`. git also finds the
    /// objects in the directories `stores` there.
    pub fn create(git: &Git<'_>, like: &str, stores: &[PathBuf]) -> Result<Self, Failure> {
        let dir = TemporaryDir::with_prefix("descartes-repository-")
            .map_err(|error| io_failure(&error))?;
        let mut list = Vec::new();
        for store in stores {
            list.extend_from_slice(store.as_os_str().as_bytes());
            list.push(b'\n');
        }
        let variables = write_empty(dir.path(), like.len() == 64)
            .and_then(|()| fs::create_dir_all(dir.path().join("objects/info")))
            .and_then(|()| fs::write(dir.path().join("objects/info/alternates"), list))
            .and_then(|()| git.ssh_variables(dir.path()));
        let mut variables = variables.map_err(|error| io_failure(&error))?;
        variables.push(("GIT_DIR".into(), dir.path().into()));
        variables.push(("GIT_INDEX_FILE".into(), dir.path().join("index").into()));
        Ok(Self { dir, variables })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn objects(&self) -> PathBuf {
        self.dir().join("objects")
    }

    /// Makes git treat `commit` as a commit without parents, because its parents were not fetched.
    pub fn mark_as_first_commit(&self, commit: &str) -> io::Result<()> {
        fs::write(self.dir().join("shallow"), format!("{commit}\n"))
    }

    /// A call of git on this repository.
    pub fn call(&self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Call<'_> {
        Call::new(self.dir(), args).variables(&self.variables)
    }
}

/// Writes the files of an empty bare repository, as `git init --bare --template=` does: they are git's documented
/// layout.
fn write_empty(dir: &Path, is_sha256: bool) -> io::Result<()> {
    let format = if is_sha256 {
        "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectformat = sha256\n"
    } else {
        "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
    };
    fs::create_dir(dir.join("refs"))?;
    fs::write(dir.join("config"), format)?;
    fs::write(dir.join("HEAD"), "ref: refs/heads/main\n")
}

/// The directory of objects in the agent's repository. `None` if it has links, FIFOs or alternate stores: git would
/// read other directories, or wait forever.
pub async fn agents_objects(workspace: &Path) -> Option<PathBuf> {
    let repository = workspace.join(".git");
    let objects = repository.join("objects");
    (is_directory(&repository) && is_plain_store(&objects).await).then_some(objects)
}

/// Whether a directory contains objects in files and packs, and nothing else. A large directory is listed in another
/// thread, so that the heartbeats continue.
pub async fn is_plain_store(objects: &Path) -> bool {
    if let Some(is_plain) = is_small_plain_store(objects, MAX_ENTRIES_WITHOUT_THREAD) {
        return is_plain;
    }
    let objects = objects.to_owned();
    let list = move || is_small_plain_store(&objects, usize::MAX).unwrap_or(false);
    tokio::task::spawn_blocking(list).await.unwrap_or(false)
}

/// Like [`is_plain_store`]; `None` if there are more than `max_entries` files and directories.
fn is_small_plain_store(objects: &Path, max_entries: usize) -> Option<bool> {
    if !is_directory(objects)
        || objects.join("info/alternates").exists()
        || objects.join("info/http-alternates").exists()
    {
        return Some(false);
    }
    let (mut dirs, mut count) = (vec![objects.to_owned()], 0);
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            return Some(false);
        };
        for entry in entries {
            count += 1;
            if count > max_entries {
                return None;
            }
            let kind = entry.and_then(|entry| Ok((entry.file_type()?, entry.path())));
            match kind {
                Ok((kind, _)) if kind.is_file() => {}
                Ok((kind, path)) if kind.is_dir() && dir == objects => dirs.push(path),
                _ => return Some(false),
            }
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::samples::git;

    #[test]
    fn a_store_with_anything_but_files_in_two_levels_of_directories_is_not_plain() {
        let dir = tempfile::tempdir().unwrap();
        let objects = dir.path().join("objects");
        fs::create_dir_all(objects.join("pack")).unwrap();
        fs::write(objects.join("pack/file"), "").unwrap();
        fs::write(objects.join("file"), "").unwrap();
        assert_eq!(is_small_plain_store(&objects, 3), Some(true));
        assert_eq!(is_small_plain_store(&objects, 2), None);
        fs::create_dir(objects.join("pack/dir")).unwrap();
        assert_eq!(is_small_plain_store(&objects, 9), Some(false));
        fs::remove_dir(objects.join("pack/dir")).unwrap();
        std::os::unix::fs::symlink("file", objects.join("link")).unwrap();
        assert_eq!(is_small_plain_store(&objects, 9), Some(false));
        fs::remove_file(objects.join("link")).unwrap();
        fs::create_dir(objects.join("info")).unwrap();
        fs::write(objects.join("info/alternates"), "").unwrap();
        assert_eq!(is_small_plain_store(&objects, 9), Some(false));
    }

    #[test]
    fn git_recognizes_the_written_files_as_an_empty_repository_of_either_object_format() {
        for (is_sha256, format) in [(false, "sha1"), (true, "sha256")] {
            let dir = tempfile::tempdir().unwrap();
            write_empty(dir.path(), is_sha256).unwrap();
            fs::create_dir_all(dir.path().join("objects")).unwrap();
            let questions = ["rev-parse", "--is-bare-repository", "--show-object-format"];
            let text = git(dir.path(), &questions);
            assert_eq!(text, format!("true\n{format}"));
        }
    }
}
