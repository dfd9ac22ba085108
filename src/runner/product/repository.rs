//! Repositories of the worker's own, and what may be taken from the agent's: objects, and the name
//! of its HEAD.
//!
//! No git runs in the agent's repository, so nothing that is written there is ever in force. What
//! is read of it is read as plain files, past no symbolic link.

use std::ffi::OsString;
use std::fs::{self, DirEntry, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{run, unmade};
use crate::environment::Variables;
use crate::git::{Call, Git};
use crate::task::Failure;

/// How often one reference may lead to another (git's own limit).
const NESTED: usize = 5;
/// The most that is read to find a reference.
const REFERENCES: u64 = 16 * 1024 * 1024;

/// A bare repository that nobody but the worker has written; gone when it is dropped.
#[derive(Debug)]
pub struct Repository {
    dir: TempDir,
    variables: Variables,
}

impl Repository {
    /// Makes an empty one that names commits as `like` is named, and reads further objects from
    /// `stores`.
    pub async fn fresh(git: &Git<'_>, like: &str, stores: &[PathBuf]) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new()
            .prefix("descartes-repository-")
            .tempdir()
            .map_err(|error| unmade(&error))?;
        let mut init = Call::new(dir.path(), ["init", "--quiet", "--bare", "--template="]);
        if like.len() == 64 {
            init = init.arg("--object-format=sha256");
        }
        run(git, init).await?;
        let mut list = Vec::new();
        for store in stores {
            list.extend_from_slice(store.as_os_str().as_bytes());
            list.push(b'\n');
        }
        let variables = fs::create_dir_all(dir.path().join("objects/info"))
            .and_then(|()| fs::write(dir.path().join("objects/info/alternates"), list))
            .and_then(|()| git.remembered(dir.path()));
        let mut variables = variables.map_err(|error| unmade(&error))?;
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

    /// Says that history begins with a commit: what is before it was never fetched.
    pub fn begin_with(&self, commit: &str) -> io::Result<()> {
        fs::write(self.dir().join("shallow"), format!("{commit}\n"))
    }

    /// A command on this repository.
    pub fn call(&self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Call<'_> {
        Call::new(self.dir(), args).variables(&self.variables)
    }

    /// A command on this repository that looks at files.
    pub fn call_in<'a>(
        &self,
        tree: &'a Path,
        args: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Call<'a> {
        Call::new(tree, args)
            .variables(&self.variables)
            .variables(&vec![("GIT_WORK_TREE".into(), tree.into())])
    }
}

/// The agent's objects, if there is nothing else where git keeps them: a link or a FIFO would have
/// git read elsewhere or for ever.
pub fn agents_objects(workspace: &Path) -> Option<PathBuf> {
    let repository = workspace.join(".git");
    let objects = repository.join("objects");
    let plain = is_directory(&repository)
        && is_directory(&objects)
        && entries(&objects)?.iter().all(|entry| {
            let kind = entry.file_type();
            kind.is_ok_and(|kind| kind.is_file())
                || kind_is_directory(entry) && holds_files_only(&entry.path())
        })
        && !objects.join("info/alternates").exists()
        && !objects.join("info/http-alternates").exists();
    plain.then_some(objects)
}

fn entries(dir: &Path) -> Option<Vec<DirEntry>> {
    fs::read_dir(dir).ok()?.collect::<io::Result<_>>().ok()
}

fn kind_is_directory(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

fn holds_files_only(dir: &Path) -> bool {
    entries(dir).is_some_and(|entries| {
        entries
            .iter()
            .all(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
    })
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// The name of the agent's last commit, of `length` digits.
pub fn agents_head(workspace: &Path, length: usize) -> Option<String> {
    let repository = workspace.join(".git");
    if !is_directory(&repository) {
        return None;
    }
    let mut reference = "HEAD".to_owned();
    for _ in 0..NESTED {
        let text = loose(&repository, &reference).or_else(|| packed(&repository, &reference))?;
        let text = text.trim_end();
        let Some(next) = text.strip_prefix("ref:") else {
            let name = text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            return name.then(|| text.to_ascii_lowercase());
        };
        next.trim().clone_into(&mut reference);
        let inside = reference.starts_with("refs/")
            && reference
                .split('/')
                .all(|part| !matches!(part, "" | "." | ".."));
        if !inside {
            return None;
        }
    }
    None
}

fn loose(repository: &Path, reference: &str) -> Option<String> {
    let mut path = repository.to_owned();
    let mut parts = reference.split('/').peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        if parts.peek().is_some() && !is_directory(&path) {
            return None;
        }
    }
    text_of(&path)
}

fn packed(repository: &Path, reference: &str) -> Option<String> {
    let text = text_of(&repository.join("packed-refs"))?;
    text.lines().find_map(|line| {
        let (commit, name) = line.split_once(' ')?;
        (name == reference).then(|| commit.to_owned())
    })
}

fn text_of(path: &Path) -> Option<String> {
    if !fs::symlink_metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(REFERENCES).read_to_string(&mut text).ok()?;
    Some(text)
}
