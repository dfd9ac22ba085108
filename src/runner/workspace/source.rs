//! Where the project comes from: a directory, a sample, or a repository.

use std::path::PathBuf;

use crate::git::Access;

/// Where the project comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// An existing directory.
    Directory(PathBuf),
    /// The directory that the worker was started in. If the `.descartes.toml` there names a sample project, a copy of
    /// that sample.
    StartDirectory {
        /// Whether the copy of the sample is kept at the end of the run.
        keep_copy: bool,
    },
    Repository(Box<RemoteRepository>),
}

/// A remote repository.
#[derive(Debug, Clone)]
pub struct RemoteRepository {
    /// A URL or a path that git accepts; without credentials.
    pub url: String,
    /// A branch, a tag or a commit; the default branch if this is `None`.
    pub reference: Option<String>,
    pub git_access: Access,
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
    /// Is appended to the branch's name if the branch exists already and cannot be used. It contains the name of the
    /// run.
    pub suffix: String,
    /// The name of the author and committer of the worker's commits.
    pub name: String,
    /// The email address of the author and committer.
    pub email: String,
}
