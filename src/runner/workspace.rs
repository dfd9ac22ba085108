//! The directory that the agent works in: an existing one, or a new clone. Also a private directory for the
//! prompts of the run.
//!
//! The worker neither cleans an existing directory nor commits to it. A clone is shallow and has one
//! commit. A clone in a temporary directory is deleted at the end of the run.

mod configuration;
mod fetch;
mod lfs;
mod sample;
mod submodules;

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
    /// An existing directory.
    Directory(PathBuf),
    /// The directory that the worker was started in, or a copy of the sample that the project there names.
    StartDirectory {
        /// Whether the copy of the sample stays at the end of the run.
        keep_copy: bool,
    },
    Repository(Box<Repository>),
}

/// A remote repository.
#[derive(Debug, Clone)]
pub struct Repository {
    /// A URL or a path that git accepts; without credentials.
    pub url: String,
    /// A branch, a tag or a commit; the default branch if this is `None`.
    pub reference: Option<String>,
    pub access: Access,
    /// The directory to clone to; a new temporary one if this is `None`.
    pub into: Option<PathBuf>,
    /// Whether submodules are cloned too.
    pub submodules: bool,
    /// Whether the files of Git LFS are downloaded.
    pub lfs: bool,
    /// Whether a temporary clone is kept at the end of the run.
    pub keep_clone: bool,
    /// The branch that the work is pushed to; nothing is pushed if this is `None`.
    pub branch: Option<String>,
    /// Is appended to the branch's name if that branch exists already: the name of this run.
    pub suffix: String,
    /// The author and committer of the worker's commits.
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

/// The project's directory, and a private directory of the run that is deleted when this is dropped.
#[derive(Debug)]
pub struct Workspace {
    /// Absolute.
    pub dir: PathBuf,
    run_dir: TempDir,
    /// The directory for the agent's files, in `run_dir`.
    pub state_dir: PathBuf,
    /// The agent's user, if it is not the worker's.
    pub user: Option<User>,
    /// Replace the worker's variables if the agent has another user.
    pub user_variables: Variables,
    /// The directory of the clone or of the copy, if it must be deleted at the end.
    temporary_clone: Option<TempDir>,
    /// `None` if the directory existed already.
    pub clone: Option<Clone>,
}

/// Facts about a clone, recorded before the agent started.
#[derive(Debug)]
pub struct Clone {
    /// Absolute.
    pub dir: PathBuf,
    pub url: String,
    /// Is appended to the name of a branch that exists already.
    pub suffix: String,
    /// The commit that the agent started from.
    pub base: String,
    index: Index,
    /// git's variables for the author and the committer of the worker's commits.
    pub identity: Variables,
    /// The device and the inode number of the directory, to recognize a replaced directory.
    inode: (u64, u64),
}

/// A copy of git's index after the checkout. With it, git does not have to read unchanged files again.
/// The copy is in an unnamed temporary file, because it can be large and the agent must not change it.
#[derive(Debug)]
struct Index {
    file: File,
    /// The modification time of the index. git reads a file again if it was modified at this time or later.
    modified: SystemTime,
}

/// A file that contains the prompt for the agent.
#[derive(Debug)]
pub struct PromptFile {
    pub path: PathBuf,
    /// The open file, at its beginning.
    pub reader: File,
}

impl Workspace {
    /// Uses an existing directory.
    pub fn existing(dir: &Path, owner: Option<Owner<'_>>) -> Result<Self, Failure> {
        let dir = existing_directory(dir)?;
        if let Some(owner) = owner {
            belongs_to(owner.user, &dir)?;
        }
        Self::new(dir, None, None, owner)
    }

    /// An error if a sample project could not be copied. Copies nothing.
    pub async fn check_sample(sample: &Path) -> Result<(), Failure> {
        let checked = sample::check(sample).await;
        checked.map_err(|error| not_copied(sample, &error))
    }

    /// Copies a sample project to a new temporary directory.
    pub async fn copied(
        sample: &Path,
        keep_copy: bool,
        owner: Option<Owner<'_>>,
    ) -> Result<Self, Failure> {
        let copy = sample::copy(sample, owner.map(|owner| owner.user)).await;
        let copy = copy.map_err(|error| not_copied(sample, &error))?;
        let dir = fs::canonicalize(copy.path())
            .map_err(|error| failed("the copy of the sample cannot be read".to_owned(), &error))?;
        tracing::info!(
            "the workspace is {}, a copy of the sample project {}; set DESCARTES_WORKSPACE to work on another project",
            dir.display(),
            sample.display()
        );
        let temporary = if keep_copy {
            let _ = copy.keep();
            None
        } else {
            Some(copy)
        };
        Self::new(dir, temporary, None, owner)
    }

    fn new(
        dir: PathBuf,
        temporary_clone: Option<TempDir>,
        clone: Option<Clone>,
        owner: Option<Owner<'_>>,
    ) -> Result<Self, Failure> {
        let run_dir = new_run_directory()?;
        let (mut state_dir, mut user_variables) = (run_dir.path().to_owned(), Variables::new());
        if let Some(Owner { user, environment }) = owner {
            state_dir.push("agent");
            let prepared = fs::set_permissions(run_dir.path(), fs::Permissions::from_mode(0o711));
            let prepared = prepared
                .and_then(|()| fs::create_dir(&state_dir))
                .and_then(|()| user.give(&state_dir))
                .and_then(|()| user.variables(run_dir.path(), environment));
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
            run_dir,
            state_dir,
            user: owner.map(|owner| owner.user.clone()),
            user_variables,
            temporary_clone,
            clone,
        })
    }

    /// Clones a repository.
    pub async fn cloned(
        repository: &Repository,
        git: &Git<'_>,
        owner: Option<Owner<'_>>,
    ) -> Result<Self, Failure> {
        let (dir, mut temporary_clone) = clone_directory(repository.into.as_deref())?;
        tracing::info!(
            url = repository.url,
            reference = repository.reference,
            "cloning into {}",
            dir.display()
        );
        let clone = clone(repository, git, &dir, owner.map(|owner| owner.user))
            .await
            .map_err(|error| clone_failure(repository, &error))?;
        warn_of_missing_files(&dir, repository);
        if repository.keep_clone
            && let Some(temporary_clone) = temporary_clone.take()
        {
            let _ = temporary_clone.keep();
        }
        Self::new(dir, temporary_clone, Some(clone), owner)
    }

    /// Deletes the private directory, and the clone if it is temporary. Another thread does that if there are more than a few
    /// files.
    pub async fn delete(self) {
        let Self {
            run_dir,
            temporary_clone,
            ..
        } = self;
        let dirs: Vec<TempDir> = [Some(run_dir), temporary_clone]
            .into_iter()
            .flatten()
            .collect();
        let is_quick = dirs.iter().all(|dir| has_few_files(dir.path()));
        let delete = move || {
            let results = dirs.into_iter().map(TempDir::close);
            results.filter_map(Result::err).collect::<Vec<_>>()
        };
        let errors = if is_quick {
            delete()
        } else {
            tokio::task::spawn_blocking(delete)
                .await
                .unwrap_or_default()
        };
        for error in errors {
            tracing::warn!(%error, "a temporary directory could not be deleted");
        }
    }

    /// Whether a clone has no file for the graph, for example after `git sparse-checkout`. Then the worker changes the graph
    /// in the commit only.
    pub fn lacks_graph(&self) -> bool {
        let is_absent = |clone: &Clone| {
            let found = fs::symlink_metadata(clone.dir.join(GRAPH));
            found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        self.clone.as_ref().is_some_and(is_absent)
    }

    /// Writes a prompt to a new file outside the project. The file is never opened by its name, because the
    /// agent knows where earlier prompts are and may put links there.
    pub fn write_prompt(&self, prompt: &str) -> Result<PromptFile, Failure> {
        let dir = self.run_dir.path();
        let written = fs::create_dir_all(dir).and_then(|()| {
            let file = tempfile::Builder::new()
                .prefix("prompt-")
                .suffix(".md")
                .tempfile_in(dir)?;
            let (mut reader, path) = file.keep().map_err(|error| error.error)?;
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
    /// Errors if the directory was deleted or replaced: a link could lead to files that are not the agent's work.
    pub fn check_directory(&self) -> Result<(), Failure> {
        let found = fs::symlink_metadata(&self.dir);
        match found {
            Ok(found) if found.is_dir() && (found.dev(), found.ino()) == self.inode => Ok(()),
            _ => Err(Failure::new(
                Reason::PushFailed,
                format!(
                    "the workspace {} was deleted or replaced, so nothing is collected from it",
                    self.dir.display()
                ),
            )),
        }
    }

    /// Writes the index of the checkout to a file.
    pub fn write_index(&self, to: &Path) -> io::Result<()> {
        let mut from = &self.index.file;
        from.rewind()?;
        let mut file = File::create(to)?;
        io::copy(&mut from, &mut file)?;
        file.set_modified(self.index.modified)
    }
}

impl Index {
    fn copy_of(git_dir: &Path) -> io::Result<Self> {
        let mut from = File::open(git_dir.join("index"))?;
        let mut file = tempfile::tempfile()?;
        io::copy(&mut from, &mut file)?;
        Ok(Self {
            file,
            modified: from.metadata()?.modified()?,
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
    // git init did not make it, because no template is used. Tools write ignore rules to `.git/info/exclude`.
    fs::create_dir_all(dir.join(".git/info"))
        .map_err(|error| GitError::around("init", "could not make the directory `info`", &error))?;
    let branch = repository.branch.as_deref().unwrap_or("work");
    let checkout = ["checkout", "--quiet", "--progress", "-B", branch];
    let checkout = Call::new(dir, checkout).arg("FETCH_HEAD^{commit}");
    git.run(checkout.shows_progress()).await?;
    let base = match configuration::commit_of_branch(dir, branch) {
        Some(commit) => commit,
        None => {
            git.run(Call::new(dir, ["rev-parse", "--verify", "HEAD"]))
                .await?
        }
    };
    // For the agent, which may commit and may read the project's URL.
    let values = [
        ("remote \"origin\"", "url", url),
        ("user", "name", &repository.name),
        ("user", "email", &repository.email),
    ];
    configuration::append(dir, &values).map_err(|error| {
        GitError::around(
            "clone",
            "could not write the configuration of the clone",
            &error,
        )
    })?;
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
        for submodule in submodules::cloned(git, dir).await? {
            lfs::prepare(git, &submodule, repository.lfs).await?;
        }
    }
    if let Some(user) = user {
        give_clone(user, git, dir).await?;
    }
    let unreadable = |error: io::Error| {
        GitError::around("checkout", "made a repository that cannot be read", &error)
    };
    let found = fs::symlink_metadata(dir).map_err(unreadable)?;
    let identity_of = |role: &str| {
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
        index: Index::copy_of(&dir.join(".git")).map_err(unreadable)?,
        identity: [identity_of("AUTHOR"), identity_of("COMMITTER")].concat(),
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

/// The directory to clone into: `into`, which must be empty, or a new temporary one. Dropping the second value deletes the
/// temporary one.
fn clone_directory(into: Option<&Path>) -> Result<(PathBuf, Option<TempDir>), Failure> {
    let Some(dir) = into else {
        let created = tempfile::Builder::new()
            .prefix("descartes-workspace-")
            .tempdir();
        let created = created.and_then(|dir| Ok((fs::canonicalize(dir.path())?, Some(dir))));
        return created.map_err(|error| {
            failed(
                "no temporary directory for the clone could be made; set TMPDIR to a directory that the worker can write"
                    .to_owned(),
                &error,
            )
        });
    };
    let created = fs::create_dir_all(dir).and_then(|()| fs::canonicalize(dir));
    let dir = created.map_err(|error| {
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
    let counts = |entry: &io::Result<fs::DirEntry>| !matches!(entry, Ok(entry) if entry.file_name() == "lost+found");
    if entries.any(|entry| counts(&entry)) {
        let message = format!(
            "the workspace {} is not empty, so nothing is cloned into it; empty it, or name another directory",
            dir.display()
        );
        return Err(Failure::new(Reason::WorkspaceFailed, message));
    }
    Ok((dir, None))
}

/// The absolute path of an existing directory that the worker can read.
pub fn existing_directory(dir: &Path) -> Result<PathBuf, Failure> {
    let failed = |what: &str, error: io::Error| failed(format!("{what} {}", dir.display()), &error);
    let absolute =
        fs::canonicalize(dir).map_err(|error| failed("there is no workspace at", error))?;
    fs::read_dir(&absolute).map_err(|error| failed("the workspace cannot be read:", error))?;
    Ok(absolute)
}

/// Whether a directory has a few small files, and no directory: deleting it takes no time.
fn has_few_files(dir: &Path) -> bool {
    const FEW: usize = 16;
    const SMALL: u64 = 1 << 20;
    let Ok(entries) = fs::read_dir(dir) else {
        return false;
    };
    let mut count = 0;
    for entry in entries.take(FEW + 1) {
        let found = entry.and_then(|entry| entry.metadata());
        let is_small_file = found.is_ok_and(|found| !found.is_dir() && found.len() <= SMALL);
        count += 1;
        if !is_small_file {
            return false;
        }
    }
    count <= FEW
}

fn new_run_directory() -> Result<TempDir, Failure> {
    let created = tempfile::Builder::new().prefix("descartes-").tempdir();
    created.map_err(|error| {
        failed(
            "no temporary directory for the prompt could be made; set TMPDIR to a directory that the worker can write"
                .to_owned(),
            &error,
        )
    })
}

/// Logs which submodules and which files of Git LFS were not fetched.
fn warn_of_missing_files(dir: &Path, repository: &Repository) {
    let submodules = values_in(&dir.join(".gitmodules"), |line| {
        let (key, path) = line.split_once('=')?;
        (key.trim() == "path").then(|| path.trim().to_owned())
    });
    if !submodules.is_empty() && !repository.submodules {
        let submodules = submodules.join(", ");
        tracing::warn!("the project has submodules, which are not fetched: {submodules}");
    }
    let patterns = values_in(&dir.join(".gitattributes"), |line| {
        let mut words = line.split_whitespace();
        let pattern = words.next().filter(|word| !word.starts_with('#'))?;
        words
            .any(|word| word == "filter=lfs")
            .then(|| pattern.to_owned())
    });
    if !patterns.is_empty() && !repository.lfs {
        let patterns = patterns.join(", ");
        tracing::warn!(
            "the project keeps files in Git LFS, which are not fetched; the clone has their pointers: {patterns}"
        );
    }
}

/// The first values that `parse` finds in the lines of a file; none if the path is not a regular file.
fn values_in(path: &Path, parse: impl Fn(&str) -> Option<String>) -> Vec<String> {
    const MAX_VALUES: usize = 10;
    const MAX_FILE_SIZE: u64 = 1024 * 1024;
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        return Vec::new();
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_SIZE).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    read.map_or_else(
        |_| Vec::new(),
        |_| text.lines().filter_map(parse).take(MAX_VALUES).collect(),
    )
}

fn clone_failure(repository: &Repository, error: &GitError) -> Failure {
    let reference = repository
        .reference
        .as_deref()
        .map(|reference| format!(" ({reference})"))
        .unwrap_or_default();
    let summary = error.summary();
    let message = format!(
        "{}{reference} could not be cloned: {summary}",
        repository.url
    );
    Failure {
        causes: vec![error.words.clone()],
        retryable: error.trouble().is_retryable(),
        ..Failure::new(Reason::WorkspaceFailed, message)
    }
}

fn not_copied(sample: &Path, error: &io::Error) -> Failure {
    Failure {
        retryable: false,
        ..failed(
            format!("the sample project {} cannot be copied", sample.display()),
            error,
        )
    }
}

fn failed(message: String, error: &io::Error) -> Failure {
    Failure {
        causes: vec![error.to_string()],
        ..Failure::new(Reason::WorkspaceFailed, message)
    }
}
