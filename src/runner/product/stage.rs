//! Stages everything that the agent's own git would commit, and writes the tree.
//!
//! Every command here is a supervised child with the agent's environment and without a credential. So filters,
//! attributes, the index and ignore rules have the same effect as for the agent, and a hostile configuration can reach
//! nothing that the agent could not. New objects and the changed index go into a temporary directory; the agent's
//! repository is only read.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::agent_side::{AgentSide, Staging, around};
use super::entries::Entry;
use super::filters::Filters;
use super::index::{Commits, Demand, Index};
use super::left_behind::LeftBehind;
use super::unfiltered::Search;
use super::worktrees;
use crate::git::{Git, GitError};
use crate::scud::GRAPH_PATH;

/// The result of staging.
#[derive(Debug)]
pub struct Staged {
    /// The commit of the agent's HEAD; `None` if it has no commit.
    pub head: Option<String>,
    /// The other commit of an unfinished merge.
    pub merge_head: Option<String>,
    pub tree: String,
    pub left_behind: LeftBehind,
    /// The full name of every reference, and its commit.
    pub references: Vec<(String, String)>,
    /// Whether the agent's commits hold plain text that must not be published.
    pub has_plain_commits: bool,
    /// The value of `lfs.storage`, if the agent's git has that setting.
    pub lfs_storage: Option<PathBuf>,
    /// Whether the agent's index had submodules; if not, the tree has none either.
    pub has_submodules: bool,
    /// Contains the new objects, in the directory `objects`.
    pub dir: TempDir,
}

/// Stages everything in a copy of the index, and writes the tree.
///
/// The index is listed before `git add`, so that the repositories that `git add` adds can be recognized. Files without
/// their filter are taken out again before the tree is written. The last step changes the index only to find files that
/// git was told to ignore.
pub async fn stage(
    git: &Git<'_>,
    workspace: &Path,
    base: &str,
    staging: Staging<'_>,
) -> Result<Staged, GitError> {
    let dir = tempfile::Builder::new()
        .prefix("descartes-stage-")
        .tempdir();
    let dir = dir.map_err(|error| around(&error))?;
    let agent_side = AgentSide::open(git, workspace, staging, dir.path()).await?;
    let index = Index {
        agent_side: &agent_side,
    };
    let references = agent_side.references().await?;
    let merge_head = agent_side.merge_head().await?;
    let mut filters = Filters::configured(git, &agent_side).await?;
    let before = agent_side.listing().await?;
    let mut left_behind = LeftBehind::default();
    if before.flagged.contains(GRAPH_PATH.as_bytes()) {
        index.make_graph_visible().await?;
    }
    let large = index.without_filter(before.large).await?;
    let errors = index.add(&mut filters, &large).await?;
    left_behind.add_words(&errors);
    if errors.contains("adding embedded git repository") {
        index
            .leave_out_nested(&before.gitlinks, &mut left_behind)
            .await?;
    }
    let changed = index.changed(references.head.as_deref()).await?;
    let demand = index
        .leave_out_unfiltered(&filters, &changed, &mut left_behind)
        .await?;
    let is_at_base = references.head.as_deref() == Some(base);
    left_behind.add_large(
        large
            .iter()
            .filter(|path| !before.tracked_large.contains(*path)),
    );
    let search = Search::new(&agent_side, &filters, base, dir.path());
    let commits = Commits {
        references,
        merge_head,
        has_plain: false,
    };
    // If HEAD is still the base, the changes since HEAD are the changes since the base, and their attributes were
    // checked above.
    let demand = if is_at_base && !changed.iter().any(Entry::is_attributes) {
        demand
    } else {
        Demand::Unknown
    };
    let commits = index.leave_out_plain(&search, base, commits, demand, &mut left_behind);
    let commits = commits.await?;
    worktrees::name(&agent_side, base, &commits.references, &mut left_behind).await?;
    if !errors.is_empty() || !before.gitlinks.is_empty() || !large.is_empty() {
        index.name_unstaged(&mut left_behind).await?;
    }
    let tree = agent_side.run(["write-tree"]).await?;
    index
        .name_flagged(&before.flagged, &mut left_behind)
        .await?;
    Ok(Staged {
        head: commits.references.head,
        merge_head: commits.merge_head,
        tree,
        left_behind,
        references: commits.references.all,
        has_plain_commits: commits.has_plain,
        lfs_storage: filters.lfs_storage,
        has_submodules: !before.gitlinks.is_empty(),
        dir,
    })
}

/// The agent's last commit, if its commits may be published.
pub async fn head(git: &Git<'_>, workspace: &Path, base: &str) -> Result<Option<String>, GitError> {
    let dir = tempfile::Builder::new()
        .prefix("descartes-stage-")
        .tempdir();
    let dir = dir.map_err(|error| around(&error))?;
    let agent_side = AgentSide::open(git, workspace, Staging::Agent, dir.path()).await?;
    let Some(head) = agent_side.references().await?.head else {
        return Ok(None);
    };
    let filters = Filters::configured(git, &agent_side).await?;
    let search = Search::new(&agent_side, &filters, base, dir.path());
    let plain = search.in_commits(&head).await?;
    Ok(plain.is_empty().then_some(head))
}
