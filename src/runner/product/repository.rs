//! The worker's private repositories. Also checks that a directory that the agent could write contains only git
//! objects.

use std::ffi::OsString;
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::errors::io_failure;
use super::files::is_directory;
use crate::environment::Variables;
use crate::git::{Call, Git};
use crate::task::Failure;
use crate::temporary_dir::TemporaryDir;

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
pub fn agents_objects(workspace: &Path) -> Option<PathBuf> {
    let repository = workspace.join(".git");
    let objects = repository.join("objects");
    (is_directory(&repository) && is_plain_store(&objects)).then_some(objects)
}

/// Whether a directory contains objects in files and packs, and nothing else.
pub fn is_plain_store(objects: &Path) -> bool {
    is_directory(objects)
        && entries(objects).is_some_and(|entries| {
            entries.iter().all(|entry| {
                let kind = entry.file_type();
                kind.is_ok_and(|kind| kind.is_file())
                    || is_directory_entry(entry) && holds_files_only(&entry.path())
            })
        })
        && !objects.join("info/alternates").exists()
        && !objects.join("info/http-alternates").exists()
}

fn entries(dir: &Path) -> Option<Vec<DirEntry>> {
    fs::read_dir(dir).ok()?.collect::<io::Result<_>>().ok()
}

fn is_directory_entry(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

fn holds_files_only(dir: &Path) -> bool {
    entries(dir).is_some_and(|entries| {
        entries
            .iter()
            .all(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::samples::git;

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
