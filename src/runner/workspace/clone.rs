//! A shallow clone of a remote repository, and the facts that are recorded about it before the agent starts.

use std::fs::{self, File};
use std::io::{self, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::fetch::fetch_base;
use super::source::RemoteRepository;
use super::{configuration, lfs, submodules};
use crate::environment::Variables;
use crate::git::{Call, Git, GitError, UnnamedFile};
use crate::isolation::User;
use crate::task::{Failure, Reason};

/// Facts about a clone, recorded before the agent started.
#[derive(Debug)]
pub struct LocalClone {
    /// The directory of the clone; an absolute path.
    pub dir: PathBuf,
    pub url: String,
    /// Is appended to the name of the branch for the work if that branch cannot be used.
    pub suffix: String,
    /// The commit that the agent started from.
    pub base: String,
    index: IndexCopy,
    /// git's variables for the author and the committer of the worker's commits.
    pub identity: Variables,
    /// The device and the inode number of the directory, to recognize a replaced directory.
    inode: (u64, u64),
}

/// A copy of git's index after the checkout. With it, git does not have to read unchanged files again.
/// The copy is in memory, or in an unnamed file if it is large: the agent must not change it.
#[derive(Debug)]
struct IndexCopy {
    file: File,
    /// The modification time of the index. git reads a file again if it was modified at this time or later.
    modified_at: SystemTime,
}

impl LocalClone {
    /// Clones a repository into an empty directory. The clone becomes the property of `user`, if there is one.
    pub async fn create(
        repository: &RemoteRepository,
        git: &Git<'_>,
        dir: &Path,
        user: Option<&User>,
    ) -> Result<Self, Failure> {
        let cloned = clone(repository, git, dir, user).await;
        cloned.map_err(|error| clone_failure(repository, &error))
    }

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
        file.set_modified(self.index.modified_at)
    }
}

impl IndexCopy {
    fn read(git_dir: &Path) -> io::Result<Self> {
        let mut from = File::open(git_dir.join("index"))?;
        let mut file = UnnamedFile::new();
        io::copy(&mut from, &mut file)?;
        Ok(Self {
            file: file.into_file()?,
            modified_at: from.metadata()?.modified()?,
        })
    }
}

/// Clones the repository, checks out the commit, and fetches the Git LFS files and the submodules. Records the index
/// and the directory's inode last, when nothing changes them any more.
async fn clone(
    repository: &RemoteRepository,
    git: &Git<'_>,
    dir: &Path,
    user: Option<&User>,
) -> Result<LocalClone, GitError> {
    let url = &repository.url;
    fetch_base(git, dir, url, repository.reference.as_deref()).await?;
    // `git init` makes `.git/info` from a template, and no template is used here. Tools write ignore rules to the file
    // `exclude` in this directory.
    fs::create_dir_all(dir.join(".git/info")).map_err(|error| {
        GitError::from_io("init", "could not make the directory `info`", &error)
    })?;
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
    // The agent may commit, and may read the project's URL.
    let values = [
        ("remote \"origin\"", "url", url),
        ("user", "name", &repository.name),
        ("user", "email", &repository.email),
    ];
    configuration::append(dir, &values).map_err(|error| {
        GitError::from_io(
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
        git.run(Call::new(dir, args).contacts_remote()).await?;
        for submodule in submodules::cloned_submodules(git, dir).await? {
            lfs::prepare(git, &submodule, repository.lfs).await?;
        }
    }
    if let Some(user) = user {
        give_clone(user, git, dir).await?;
    }
    let unreadable = |error: io::Error| {
        GitError::from_io("checkout", "made a repository that cannot be read", &error)
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
    Ok(LocalClone {
        dir: dir.to_owned(),
        url: url.clone(),
        suffix: repository.suffix.clone(),
        base,
        index: IndexCopy::read(&dir.join(".git")).map_err(unreadable)?,
        identity: [identity_of("AUTHOR"), identity_of("COMMITTER")].concat(),
        inode: (found.dev(), found.ino()),
    })
}

/// Makes a clone the property of the agent's user.
async fn give_clone(user: &User, git: &Git<'_>, dir: &Path) -> Result<(), GitError> {
    let (new_owner, path) = (user.clone(), dir.to_owned());
    // Not on the runtime's thread, because a clone can have very many files.
    let result = tokio::task::spawn_blocking(move || new_owner.become_owner_of_all(&path)).await;
    let result = result.map_err(io::Error::other).and_then(|result| result);
    let failed = |error: io::Error| {
        GitError::from_io("checkout", "could not be given to the agent's user", &error)
    };
    result.map_err(failed)?;
    // The index records the owner of each file. Without the refresh, git would read every file again.
    git.run(Call::new(dir, ["update-index", "-q", "--refresh"]))
        .await?;
    user.become_owner_of(&dir.join(".git/index"))
        .map_err(failed)
}

fn clone_failure(repository: &RemoteRepository, error: &GitError) -> Failure {
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
        causes: vec![error.messages.clone()],
        retryable: error.kind().is_retryable(),
        ..Failure::new(Reason::WorkspaceFailed, message)
    }
}
