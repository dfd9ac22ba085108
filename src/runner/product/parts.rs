//! The parts of the final commit, and the product that is made from them.

use std::path::{Path, PathBuf};

use super::branches::Branch;
use super::errors::check_that_the_agent_is_dead;
use super::left_behind::LeftBehind;
use super::lfs::{self, Upload};
use super::repository::{self, PrivateRepository};
use super::stage::StagingResult;
use crate::task::{Failure, Reason, Task, Work};
use crate::temporary_dir::TemporaryDir;

/// The message of the commit, and the task that the commit marks as done.
#[derive(Debug, Clone)]
pub struct CommitMessage {
    pub subject: String,
    /// Names such as `Task-Id`, with their values.
    pub trailers: Vec<(&'static str, String)>,
    /// The task that the worker has marked as done in the working tree, if that has a graph; `None` if the task failed.
    pub marked_task: Option<Task>,
    /// Whether the commit is for the `-wip` branch, where no task must be marked as done.
    pub is_partial: bool,
}

/// The work, in a repository from which the worker can push it.
#[derive(Debug)]
pub struct Product {
    pub push_repository: PrivateRepository,
    pub work: Work,
    /// Branches of the agent whose commits are not part of the work.
    pub branches: Vec<Branch>,
    /// The files because of which nothing may be pushed, with the reason; `None` if the work may be pushed. Completes a
    /// sentence that ends with "because of files".
    pub unpushable_files: Option<String>,
    /// Why the commit is not the whole work; `None` if it is.
    pub incomplete_reason: Option<String>,
    /// Sentences about changes that are not in the commit.
    pub notes: Vec<String>,
    /// The changed path, if exactly one path changed.
    pub only_path: Option<String>,
    /// Git LFS objects that must be uploaded before the commit is pushed.
    pub upload: Option<Upload>,
    /// The push repository reads objects from these directories, so they must exist as long as it does.
    pub(super) _stores: Vec<Store>,
}

/// A temporary directory with objects; deleted when this is dropped.
#[derive(Debug)]
pub(super) enum Store {
    /// A repository with the base, which was fetched again.
    Fetched { _repository: PrivateRepository },
    /// The new objects of what the agent's git has staged.
    Staged { _staged: TemporaryDir },
}

/// The parts of the final commit.
pub(super) struct CommitParts {
    /// The agent's last commit, if it has one.
    pub(super) head: Option<String>,
    /// The other commit of an unfinished merge.
    pub(super) merge_head: Option<String>,
    /// The tree of the final commit; if this is `None`, the tree of `head`, or of the base if `head`
    /// does not descend from it.
    pub(super) tree: Option<String>,
    /// Whether `tree` certainly differs from the tree of `head`.
    pub(super) differs_from_head: bool,
    /// The changes that are not in `tree`.
    pub(super) left_behind: LeftBehind,
    /// The references of the agent's repository: names and ids of objects.
    pub(super) references: Vec<(String, String)>,
    /// Whether the agent's commits must not be published, because they may contain plain text: content that a git
    /// filter, for example one that encrypts, should have changed.
    pub(super) has_plain_commits: bool,
    /// Why the commit is not the whole work; `None` if it is.
    pub(super) incomplete_reason: Option<String>,
    /// Whether `tree` may contain submodules.
    pub(super) has_submodules: bool,
    /// The directories with objects from which the push repository reads.
    pub(super) objects: Vec<PathBuf>,
    /// The directories with objects of Git LFS.
    pub(super) lfs_objects: Vec<PathBuf>,
    /// Values that keep those directories on the disk; they must live as long as the push repository.
    pub(super) stores: Vec<Store>,
}

impl CommitParts {
    /// The parts of the commit after staging. Errors if the directory of new objects contains anything but objects.
    /// `git_dirs` are the repositories in which git-lfs may have stored objects.
    pub(super) async fn from_staging(
        staged: StagingResult,
        git_dirs: &[&Path],
    ) -> Result<Self, Failure> {
        check_that_the_agent_is_dead()?;
        let objects = staged.dir.path().join("objects");
        let lfs_objects = lfs::stores(git_dirs, staged.lfs_storage.as_deref());
        if !repository::is_plain_store(&objects).await {
            let message = "the directory for new objects contains files that are not objects, so nothing is pushed";
            return Err(Failure::new(Reason::PushFailed, message));
        }
        Ok(Self {
            head: staged.head,
            merge_head: staged.merge_head,
            tree: Some(staged.tree),
            differs_from_head: staged.differs_from_head,
            incomplete_reason: staged.left_behind.incomplete_reason(),
            left_behind: staged.left_behind,
            references: staged.references,
            has_plain_commits: staged.has_plain_commits,
            has_submodules: staged.has_submodules,
            objects: vec![objects],
            lfs_objects,
            stores: vec![Store::Staged {
                _staged: staged.dir,
            }],
        })
    }
}
