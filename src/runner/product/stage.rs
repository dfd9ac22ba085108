//! Stages everything that the agent's own git would commit, and writes the tree.
//!
//! Every command here is a supervised child with the agent's environment and without a credential. So filters,
//! attributes, the index and ignore rules have the same effect as for the agent, and a hostile configuration can reach
//! nothing that the agent could not. New objects and the changed index go into a temporary directory; the agent's
//! repository is only read.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use super::entries::Entry;
use super::filters::Filters;
use super::index::{CommitSearch, Commits, Index};
use super::left_behind::LeftBehind;
use super::staging_repository::{RepositoryChoice, StagingRepository, add_error};
use super::unfiltered::PlainTextSearch;
use super::worktrees;
use crate::git::{Git, GitError};
use crate::scud::GRAPH_PATH;
use crate::temporary_dir::TemporaryDir;

/// The result of staging.
#[derive(Debug)]
pub struct StagingResult {
    /// The commit of the agent's HEAD; `None` if it has no commit.
    pub head: Option<String>,
    /// The other commit of an unfinished merge.
    pub merge_head: Option<String>,
    /// The hash of the tree that was written.
    pub tree: String,
    /// Whether the tree certainly differs from that of `head`.
    pub differs_from_head: bool,
    pub left_behind: LeftBehind,
    /// The full name of every reference, and its commit.
    pub references: Vec<(String, String)>,
    /// Whether the agent's commits contain plain text that must not be published.
    pub has_plain_commits: bool,
    /// The value of `lfs.storage`, if the agent's git has that setting.
    pub lfs_storage: Option<PathBuf>,
    /// Whether the agent's index had submodules; if not, the tree has none either.
    pub has_submodules: bool,
    /// Contains the new objects, in the directory `objects`.
    pub dir: TemporaryDir,
}

/// Stages everything in a copy of the index, and writes the tree.
///
/// The index is listed before `git add`, so that the nested repositories that `git add` adds can be recognized. Files
/// whose filter was not applied are removed again before the tree is written. The last step changes the index after the
/// tree was written, and only to find changed files with the flags assume-unchanged or skip-worktree.
pub async fn stage(
    git: &Git<'_>,
    workspace: &Path,
    base: &str,
    choice: RepositoryChoice<'_>,
) -> Result<StagingResult, GitError> {
    let dir = TemporaryDir::with_prefix("descartes-stage-");
    let dir = dir.map_err(|error| add_error(&error))?;
    let repository = StagingRepository::open(git, workspace, choice, dir.path()).await?;
    let index = Index {
        repository: &repository,
        has_restored_entries: Cell::new(false),
    };
    let references = repository.references().await?;
    let merge_head = repository.merge_head().await?;
    let mut filters = Filters::read(git, &repository).await?;
    let listing = repository.listing().await?;
    let mut left_behind = LeftBehind::default();
    if listing.flagged.contains(GRAPH_PATH.as_bytes()) {
        index.make_graph_visible().await?;
    }
    let large = index.paths_without_filter(listing.large).await?;
    let errors = index.add_all(&mut filters, &large).await?;
    left_behind.add_errors_of_git_add(&errors);
    if errors.contains("adding embedded git repository") {
        index
            .remove_nested_repositories(&listing.gitlinks, &mut left_behind)
            .await?;
    }
    let changed = index.changes_since(references.head.as_deref()).await?;
    let commit_search = index
        .restore_unfiltered(&filters, &changed, &mut left_behind)
        .await?;
    let is_at_base = references.head.as_deref() == Some(base);
    left_behind.add_large(
        large
            .iter()
            .filter(|path| !listing.tracked_large.contains(*path)),
    );
    let search = PlainTextSearch::new(&repository, &filters, base, dir.path());
    let commits = Commits {
        references,
        merge_head,
        has_plain_text: false,
    };
    // If HEAD is still the base, the changes since HEAD are the changes since the base, and their attributes were
    // checked above.
    let commit_search = if is_at_base && !changed.iter().any(Entry::is_attributes_file) {
        commit_search
    } else {
        CommitSearch::Needed
    };
    let commits = index.restore_plain_text(&search, base, commits, commit_search, &mut left_behind);
    let commits = commits.await?;
    worktrees::record_work_without_branch(&repository, base, &commits.references, &mut left_behind)
        .await?;
    if !errors.is_empty() || !listing.gitlinks.is_empty() || !large.is_empty() {
        index.record_unstaged(&mut left_behind).await?;
    }
    let tree = repository.run(["write-tree"]).await?;
    // A restored entry may have been the only change.
    let differs_from_head = !changed.is_empty() && !index.has_restored_entries.get();
    index
        .record_flagged(&listing.flagged, &mut left_behind)
        .await?;
    Ok(StagingResult {
        head: commits.references.head,
        merge_head: commits.merge_head,
        tree,
        differs_from_head,
        left_behind,
        references: commits.references.all,
        has_plain_commits: commits.has_plain_text,
        lfs_storage: filters.lfs_storage,
        has_submodules: !listing.gitlinks.is_empty(),
        dir,
    })
}

/// The agent's last commit, if its commits may be published.
pub async fn publishable_head(
    git: &Git<'_>,
    workspace: &Path,
    base: &str,
) -> Result<Option<String>, GitError> {
    let dir = TemporaryDir::with_prefix("descartes-stage-");
    let dir = dir.map_err(|error| add_error(&error))?;
    let repository =
        StagingRepository::open(git, workspace, RepositoryChoice::Agents, dir.path()).await?;
    let Some(head) = repository.references().await?.head else {
        return Ok(None);
    };
    let filters = Filters::read(git, &repository).await?;
    let search = PlainTextSearch::new(&repository, &filters, base, dir.path());
    let plain = search.plain_files_in_commits(&head).await?;
    Ok(plain.is_empty().then_some(head))
}
