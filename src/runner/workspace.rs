//! The workspace, where the agent works: an existing directory, or a new clone. Also the run's own files outside of it.
//!
//! An existing directory is used as it is: never cleaned, never committed to. A clone is shallow and has one commit; a
//! clone in a temporary directory is deleted when the run has ended.

mod fetch;
mod lfs;

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tempfile::TempDir;

use crate::environment::Variables;
pub use crate::git::Access;
use crate::git::{Call, Git, GitError};
use crate::isolation::User;
use crate::task::{Failure, Reason};
use fetch::fetch_base;

/// The task graph, in the project's directory.
pub const GRAPH: &str = ".scud/tasks/tasks.scg";

/// Where the project comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A directory that exists already.
    Given(PathBuf),
    Repository(Box<Repository>),
}

/// A remote repository.
#[derive(Debug, Clone)]
pub struct Repository {
    /// The URL for git, without credentials.
    pub url: String,
    /// A branch, a tag or a commit; the default branch if this is `None`.
    pub reference: Option<String>,
    pub access: Access,
    /// The directory to clone to; a new temporary one if this is `None`.
    pub into: Option<PathBuf>,
    /// Whether submodules are cloned too.
    pub submodules: bool,
    /// Whether files that Git LFS keeps elsewhere are fetched.
    pub lfs: bool,
    /// Whether a temporary clone stays when the run has ended.
    pub keep_clone: bool,
    /// The branch that the work is pushed to; nothing is pushed if this is `None`.
    pub branch: Option<String>,
    /// Is added to the branch's name if the branch has other work: the name of this run.
    pub suffix: String,
    /// The author of commits.
    pub name: String,
    pub email: String,
}

/// The agent's user, if it is not the worker's.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    pub user: &'a User,
    /// The worker's variables for the agent.
    pub environment: &'a Variables,
}

/// The project's directory, and a directory for the run's files that is deleted when this is dropped.
#[derive(Debug)]
pub struct Workspace {
    /// Absolute.
    pub dir: PathBuf,
    own: TempDir,
    /// The directory for the agent's files, in `own`.
    pub state_dir: PathBuf,
    /// The agent's user, if it is not the worker's.
    pub user: Option<User>,
    /// Replace the worker's variables if the agent has another user.
    pub user_variables: Variables,
    /// The clone's directory, if it is to be deleted.
    temporary: Option<TempDir>,
    /// The clone, if the worker made the directory.
    pub clone: Option<Clone>,
}

/// Facts about a clone from before the agent's start.
#[derive(Debug)]
pub struct Clone {
    /// Absolute.
    pub dir: PathBuf,
    pub url: String,
    /// Is added to the name of a branch that has other work.
    pub suffix: String,
    /// The commit that was checked out.
    pub base: String,
    index: Index,
    /// The author of commits, as git's variables.
    pub identity: Variables,
    /// Device and inode of the directory, so that a replaced one is noticed.
    inode: (u64, u64),
}

/// git's index after the checkout: with it, unchanged files need not be read again. In a file without a name, because it can be
/// large and no other process should open it.
#[derive(Debug)]
struct Index {
    file: File,
    /// When git wrote it. git reads files again that were changed at the same time.
    written: SystemTime,
}

/// The prompt as the agent gets it.
#[derive(Debug)]
pub struct PromptFile {
    pub path: PathBuf,
    /// At its beginning.
    pub reader: File,
}

impl Workspace {
    /// Uses an existing directory.
    pub fn given(dir: &Path, owner: Option<Owner<'_>>) -> Result<Self, Failure> {
        let dir = existing_directory(dir)?;
        if let Some(owner) = owner {
            belongs_to(owner.user, &dir)?;
        }
        Self::new(dir, None, None, owner)
    }

    fn new(
        dir: PathBuf,
        temporary: Option<TempDir>,
        clone: Option<Clone>,
        owner: Option<Owner<'_>>,
    ) -> Result<Self, Failure> {
        let own = own_directory()?;
        let (mut state_dir, mut user_variables) = (own.path().to_owned(), Variables::new());
        if let Some(Owner { user, environment }) = owner {
            state_dir.push("agent");
            let prepared = fs::set_permissions(own.path(), fs::Permissions::from_mode(0o711));
            let prepared = prepared
                .and_then(|()| fs::create_dir(&state_dir))
                .and_then(|()| user.give(&state_dir))
                .and_then(|()| user.variables(own.path(), environment));
            user_variables = prepared.map_err(|error| {
                let name = &user.name;
                failed(
                    format!("no directories for the user {name} could be made"),
                    &error,
                )
            })?;
        }
        Ok(Self {
            dir,
            own,
            state_dir,
            user: owner.map(|owner| owner.user.clone()),
            user_variables,
            temporary,
            clone,
        })
    }

    /// Clones a repository.
    pub async fn cloned(
        repository: &Repository,
        git: &Git<'_>,
        owner: Option<Owner<'_>>,
    ) -> Result<Self, Failure> {
        let (dir, mut temporary) = fresh_directory(repository.into.as_deref())?;
        tracing::info!(
            url = repository.url,
            reference = repository.reference,
            "cloning into {}",
            dir.display()
        );
        let clone = clone(repository, git, &dir, owner.map(|owner| owner.user))
            .await
            .map_err(|error| refused(repository, &error))?;
        warn_of_what_is_missing(&dir, repository);
        if repository.keep_clone
            && let Some(temporary) = temporary.take()
        {
            let _ = temporary.keep();
        }
        Self::new(dir, temporary, Some(clone), owner)
    }

    /// Deletes the run's files, and the clone if it is temporary. Not on the runtime's thread, because a
    /// clone can have very many files.
    pub async fn delete(self) {
        let Self { own, temporary, .. } = self;
        let deleted = tokio::task::spawn_blocking(move || {
            let results = [Some(own), temporary]
                .into_iter()
                .flatten()
                .map(TempDir::close);
            results.filter_map(Result::err).collect::<Vec<_>>()
        });
        for error in deleted.await.into_iter().flatten() {
            tracing::warn!(%error, "a temporary directory could not be deleted");
        }
    }

    /// Whether the graph is not among the files of a clone, after `git sparse-checkout` for example. Then it is marked in the
    /// commit.
    pub fn lacks_graph(&self) -> bool {
        let is_absent = |clone: &Clone| {
            let found = fs::symlink_metadata(clone.dir.join(GRAPH));
            found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        self.clone.as_ref().is_some_and(is_absent)
    }

    /// Writes a prompt outside the project, so that it is no change to the project. Each prompt is a new file that is not opened by
    /// its name again: the agent knows the name, and can replace the file.
    pub fn write_prompt(&self, prompt: &str) -> Result<PromptFile, Failure> {
        let dir = self.own.path();
        let written = fs::create_dir_all(dir).and_then(|()| {
            let name = tempfile::Builder::new()
                .prefix("prompt-")
                .suffix(".md")
                .tempfile_in(dir)?;
            let (mut reader, path) = name.keep().map_err(|error| error.error)?;
            if let Some(user) = &self.user {
                user.give(&path)?;
            }
            reader.write_all(prompt.as_bytes())?;
            reader.rewind()?;
            Ok(PromptFile { path, reader })
        });
        written.map_err(|error| {
            let dir = dir.display();
            failed(format!("the prompt cannot be written to {dir}"), &error)
        })
    }
}

impl Clone {
    /// Errors if the directory was replaced: a symlink could expose unrelated files.
    pub fn still_there(&self) -> Result<(), Failure> {
        let found = fs::symlink_metadata(&self.dir);
        match found {
            Ok(found) if found.is_dir() && (found.dev(), found.ino()) == self.inode => Ok(()),
            _ => Err(Failure::new(
                Reason::PushFailed,
                format!(
                    "the workspace {} is gone, or something else stands in its place",
                    self.dir.display()
                ),
            )),
        }
    }

    /// Writes the index of the checkout into a file.
    pub fn write_index(&self, to: &Path) -> io::Result<()> {
        let mut from = &self.index.file;
        from.rewind()?;
        let mut file = File::create(to)?;
        io::copy(&mut from, &mut file)?;
        file.set_modified(self.index.written)
    }
}

impl Index {
    fn of(repository: &Path) -> io::Result<Self> {
        let mut from = File::open(repository.join("index"))?;
        let mut file = tempfile::tempfile()?;
        io::copy(&mut from, &mut file)?;
        Ok(Self {
            file,
            written: from.metadata()?.modified()?,
        })
    }
}

async fn clone(
    repository: &Repository,
    git: &Git<'_>,
    dir: &Path,
    user: Option<&User>,
) -> Result<Clone, GitError> {
    let url = &repository.url;
    fetch_base(git, dir, url, repository.reference.as_deref()).await?;
    // Tools and people write ignore rules into `.git/info/exclude`.
    fs::create_dir_all(dir.join(".git/info"))
        .map_err(|error| GitError::around("init", "left no place for `info`", &error))?;
    let base = git
        .run(Call::new(
            dir,
            ["rev-parse", "--verify", "FETCH_HEAD^{commit}"],
        ))
        .await?;
    let branch = repository.branch.as_deref().unwrap_or("work");
    let checkout = ["checkout", "--quiet", "--progress", "-B", branch, &base];
    git.run(Call::new(dir, checkout).shows_progress()).await?;
    // For the agent: it may commit, and look where the project comes from.
    for (key, value) in [
        ("remote.origin.url", url),
        ("user.name", &repository.name),
        ("user.email", &repository.email),
    ] {
        git.run(Call::new(dir, ["config", key, value])).await?;
    }
    lfs::prepare(git, dir, repository.lfs).await?;
    if repository.submodules {
        let args = [
            "submodule",
            "update",
            "--init",
            "--recursive",
            "--depth=1",
            "--progress",
        ];
        git.run(Call::new(dir, args).transfer()).await?;
    }
    if let Some(user) = user {
        give_clone(user, git, dir).await?;
    }
    let unknown = |error: io::Error| {
        GitError::around("checkout", "left a repository that cannot be read", &error)
    };
    let found = fs::symlink_metadata(dir).map_err(unknown)?;
    let person = |role: &str| {
        [
            (
                format!("GIT_{role}_NAME").into(),
                repository.name.clone().into(),
            ),
            (
                format!("GIT_{role}_EMAIL").into(),
                repository.email.clone().into(),
            ),
        ]
    };
    Ok(Clone {
        dir: dir.to_owned(),
        url: url.clone(),
        suffix: repository.suffix.clone(),
        base,
        index: Index::of(&dir.join(".git")).map_err(unknown)?,
        identity: [person("AUTHOR"), person("COMMITTER")].concat(),
        inode: (found.dev(), found.ino()),
    })
}

/// Gives a clone to the agent's user.
async fn give_clone(user: &User, git: &Git<'_>, dir: &Path) -> Result<(), GitError> {
    let (owner, path) = (user.clone(), dir.to_owned());
    // Not on the runtime's thread, because a clone can have very many files.
    let given = tokio::task::spawn_blocking(move || owner.give_all(&path)).await;
    let given = given.map_err(io::Error::other).and_then(|given| given);
    let failed = |error: io::Error| {
        GitError::around("checkout", "could not be given to the agent's user", &error)
    };
    given.map_err(failed)?;
    // The index has the owner of each file: it would hold all files for changed.
    git.run(Call::new(dir, ["update-index", "-q", "--refresh"]))
        .await?;
    user.give(&dir.join(".git/index")).map_err(failed)
}

/// An error if a given project belongs to another user than the agent's.
pub fn belongs_to(user: &User, dir: &Path) -> Result<(), Failure> {
    if user.owns(dir) {
        return Ok(());
    }
    let (name, dir) = (&user.name, dir.display());
    let message = format!(
        "the workspace {dir} does not belong to DESCARTES_AGENT_USER, {name}; run `chown -R {name} {dir}`"
    );
    Err(Failure::new(Reason::WorkspaceFailed, message))
}

/// The directory to clone into: the given one, which must be empty, or a new one, which is deleted with the
/// second value.
fn fresh_directory(into: Option<&Path>) -> Result<(PathBuf, Option<TempDir>), Failure> {
    let Some(dir) = into else {
        let made = tempfile::Builder::new()
            .prefix("descartes-workspace-")
            .tempdir();
        let made = made.and_then(|dir| Ok((fs::canonicalize(dir.path())?, Some(dir))));
        return made.map_err(|error| {
            failed(
                "no directory for the clone could be made".to_owned(),
                &error,
            )
        });
    };
    let made = fs::create_dir_all(dir).and_then(|()| fs::canonicalize(dir));
    let dir = made.map_err(|error| {
        failed(
            format!("the workspace {} cannot be made", dir.display()),
            &error,
        )
    })?;
    let mut entries = fs::read_dir(&dir).map_err(|error| {
        failed(
            format!("the workspace {} cannot be read", dir.display()),
            &error,
        )
    })?;
    // Every new ext4 volume has a `lost+found`.
    let is_of_project = |entry: &io::Result<fs::DirEntry>| !matches!(entry, Ok(entry) if entry.file_name() == "lost+found");
    if entries.any(|entry| is_of_project(&entry)) {
        let message = format!(
            "the workspace {} is not empty, so nothing is cloned into it",
            dir.display()
        );
        return Err(Failure::new(Reason::WorkspaceFailed, message));
    }
    Ok((dir, None))
}

/// The absolute path of a given directory that exists and can be read.
pub fn existing_directory(dir: &Path) -> Result<PathBuf, Failure> {
    let failed = |what: &str, error: io::Error| failed(format!("{what} {}", dir.display()), &error);
    let absolute =
        fs::canonicalize(dir).map_err(|error| failed("there is no workspace at", error))?;
    fs::read_dir(&absolute).map_err(|error| failed("the workspace cannot be read:", error))?;
    Ok(absolute)
}

fn own_directory() -> Result<TempDir, Failure> {
    let made = tempfile::Builder::new().prefix("descartes-").tempdir();
    made.map_err(|error| {
        failed(
            "no temporary directory for the prompt could be made".to_owned(),
            &error,
        )
    })
}

/// Warns about submodules and LFS files that are not fetched.
fn warn_of_what_is_missing(dir: &Path, repository: &Repository) {
    let submodules = settings_in(&dir.join(".gitmodules"), |line| {
        let (key, path) = line.split_once('=')?;
        (key.trim() == "path").then(|| path.trim().to_owned())
    });
    if !submodules.is_empty() && !repository.submodules {
        let submodules = submodules.join(", ");
        tracing::warn!("the project has submodules, which are not fetched: {submodules}");
    }
    let large = settings_in(&dir.join(".gitattributes"), |line| {
        let mut words = line.split_whitespace();
        let pattern = words.next().filter(|word| !word.starts_with('#'))?;
        words
            .any(|word| word == "filter=lfs")
            .then(|| pattern.to_owned())
    });
    if !large.is_empty() && !repository.lfs {
        let large = large.join(", ");
        tracing::warn!(
            "the project keeps files with Git LFS, of which only the pointers are here: {large}"
        );
    }
}

/// The results of `parse` for the first lines of a file that have one; none if it is not a regular file.
fn settings_in(path: &Path, parse: impl Fn(&str) -> Option<String>) -> Vec<String> {
    const NAMED: usize = 10;
    const READ: u64 = 1024 * 1024;
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        return Vec::new();
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(READ).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    read.map_or_else(
        |_| Vec::new(),
        |_| text.lines().filter_map(parse).take(NAMED).collect(),
    )
}

fn refused(repository: &Repository, error: &GitError) -> Failure {
    let what = repository
        .reference
        .as_deref()
        .map(|reference| format!(" ({reference})"))
        .unwrap_or_default();
    let summary = error.summary();
    let message = format!("{}{what} could not be cloned: {summary}", repository.url);
    Failure {
        causes: vec![error.words.clone()],
        retryable: error.trouble().is_retryable(),
        ..Failure::new(Reason::WorkspaceFailed, message)
    }
}

fn failed(message: String, error: &io::Error) -> Failure {
    Failure {
        causes: vec![error.to_string()],
        ..Failure::new(Reason::WorkspaceFailed, message)
    }
}
