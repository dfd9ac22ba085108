//! Finds work of the agent that is on no branch, so that the report can name it: files in further working trees
//! (`git worktree`), and commits without a branch.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::files::{self, texts_below};
use super::left_behind::LeftBehind;
use super::staging_repository::{References, StagingRepository};
use crate::git::{Call, GitError};

/// How many working trees are searched, and how many names a sentence has at most.
const MAX_NAMES: usize = 10;

/// If there are more files and directories of reflogs than this, git reads them instead.
const MAX_LOG_ENTRIES: usize = 32;
/// If a file of a reflog is larger than this, in bytes, git reads it instead.
const MAX_LOG_SIZE: u64 = 64 * 1024;

/// Adds to `left_behind` the uncommitted files of second working trees, and the commits that only such a tree has. Logs
/// the commits that only the reflog has. Skips a working tree that cannot be read, because its directory may not exist
/// any more.
pub async fn record_work_without_branch(
    repository: &StagingRepository<'_>,
    base: &str,
    references: &References,
    left_behind: &mut LeftBehind,
) -> Result<(), GitError> {
    let mut heads = Vec::new();
    if fs::symlink_metadata(repository.workspace.join(".git/worktrees")).is_ok() {
        let listed = repository.run(["worktree", "list", "--porcelain"]).await;
        for tree in second_trees(&listed.unwrap_or_default()) {
            record_uncommitted(repository, &tree.dir, left_behind).await?;
            heads.extend(tree.detached_head);
        }
    }
    let unreachable =
        if heads.is_empty() && reflogs_have_only_known_commits(repository, base, references) {
            Vec::new()
        } else {
            commits_without_branch(repository, base, references, &["--reflog"], &heads).await
        };
    let of_trees = if heads.is_empty() {
        Vec::new()
    } else {
        commits_without_branch(repository, base, references, &[], &heads).await
    };
    if !of_trees.is_empty() {
        left_behind.add_sentence(format!(
            "left out: commits of a second working tree that no branch has: {}",
            of_trees.join(", ")
        ));
    }
    let unreachable: Vec<String> = unreachable
        .into_iter()
        .filter(|commit| !of_trees.contains(commit))
        .collect();
    if !unreachable.is_empty() {
        // `git commit --amend` makes such commits too, so they are only logged.
        tracing::info!(
            "left out: commits of the agent that no branch has (amended, reset or deleted): {}",
            unreachable.join(", ")
        );
    }
    Ok(())
}

/// A working tree other than the workspace.
struct SecondTree {
    dir: PathBuf,
    /// The commit that is checked out without a branch.
    detached_head: Option<String>,
}

/// All working trees in the output of `git worktree list --porcelain`, except the first one, which is the workspace.
fn second_trees(listed: &str) -> Vec<SecondTree> {
    let trees = listed.split("\n\n").skip(1).take(MAX_NAMES);
    let trees = trees.filter_map(|tree| {
        let value = |key| tree.lines().find_map(|line| line.strip_prefix(key));
        let head = value("HEAD ").map(str::to_owned);
        Some(SecondTree {
            dir: PathBuf::from(value("worktree ")?),
            detached_head: head.filter(|_| tree.lines().any(|line| line == "detached")),
        })
    });
    trees.collect()
}

/// Adds to `left_behind` the files that are not committed in the working tree `dir`.
async fn record_uncommitted(
    repository: &StagingRepository<'_>,
    dir: &Path,
    left_behind: &mut LeftBehind,
) -> Result<(), GitError> {
    if !fs::symlink_metadata(dir).is_ok_and(|found| found.is_dir()) {
        return Ok(());
    }
    // Without the variables of `repository`, because git must use the index of this working tree.
    let call = Call::new(dir, ["status", "--porcelain", "-z", "--no-renames"]);
    let records = match repository.records(call).await {
        Ok(records) => records,
        Err(error) if error.was_stopped => return Err(error),
        Err(_) => return Ok(()),
    };
    let paths = records.iter().filter_map(|record| record.get(3..));
    let mut names: Vec<String> = paths
        .take(MAX_NAMES + 1)
        .map(|path| String::from_utf8_lossy(path).escape_debug().to_string())
        .collect();
    if names.len() > MAX_NAMES {
        names[MAX_NAMES] = "and more".to_owned();
    }
    if !names.is_empty() {
        left_behind.add_sentence(format!(
            "left out: files in the second working tree {} that are not committed: {}",
            dir.display(),
            names.join(", ")
        ));
    }
    Ok(())
}

/// Whether the reflogs name only the base and the commits of HEAD, branches, tags and remote branches. Also false if
/// the reflogs are not in the files of `.git/logs`, or if these files cannot be read.
fn reflogs_have_only_known_commits(
    repository: &StagingRepository<'_>,
    base: &str,
    references: &References,
) -> bool {
    let git_dir = repository.workspace.join(".git");
    let exists = |name| fs::symlink_metadata(git_dir.join(name)).is_ok();
    if !repository.has_usual_layout || !files::is_directory(&git_dir.join("logs")) {
        return false;
    }
    if exists("reftable") || exists("worktrees") || !exists("logs/HEAD") {
        return false;
    }
    let known: BTreeSet<&str> = references
        .all
        .iter()
        .filter(|(name, _)| {
            let kinds = ["refs/heads/", "refs/tags/", "refs/remotes/"];
            kinds.iter().any(|kind| name.starts_with(kind))
        })
        .map(|(_, commit)| commit.as_str())
        .chain(references.head.as_deref())
        .chain([base])
        .collect();
    let is_known = |object: &str| known.contains(object) || object.bytes().all(|byte| byte == b'0');
    let logs = texts_below(&git_dir.join("logs"), MAX_LOG_ENTRIES, MAX_LOG_SIZE);
    let Some(logs) = logs else {
        return false;
    };
    let mut lines = logs.iter().flat_map(|(_, log)| log.lines());
    lines.all(|line| {
        let mut words = line.split(' ');
        let (old, new) = (words.next(), words.next());
        old.zip(new)
            .is_some_and(|(old, new)| is_known(old) && is_known(new))
    })
}

/// The commits that can be reached from `heads` or by `options` of `git rev-list`, but not from the base, a branch, a
/// tag or the stash.
async fn commits_without_branch(
    repository: &StagingRepository<'_>,
    base: &str,
    references: &References,
    options: &[&'static str],
    heads: &[String],
) -> Vec<String> {
    let call = repository.call(["rev-list", "--max-count=10", "--ignore-missing"]);
    let call = call
        .args(options.iter().map(Into::into))
        .args(heads.iter().map(Into::into));
    let call = call.args(
        [
            "--not",
            "--branches",
            "--tags",
            "--remotes",
            "--glob=refs/stash",
        ]
        .map(Into::into),
    );
    let call = call.arg(base).args(references.head.iter().map(Into::into));
    let listed = repository.git.run(call).await.unwrap_or_default();
    listed.lines().map(str::to_owned).collect()
}
