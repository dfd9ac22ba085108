//! A copy of the agent's index, which is changed step by step until it has everything that may be committed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use ring::digest::{Context, SHA256};

use super::entries::{Entry, entries_of_raw_diff};
use super::filters::Filters;
use super::left_behind::LeftBehind;
use super::lfs::{MAX_POINTER_SIZE, Pointer};
use super::staging_repository::{References, StagingRepository, add_error};
use super::unfiltered::PlainTextSearch;
use crate::git::GitError;
use crate::scud::GRAPH_PATH;

/// git's exit code for an option that it does not know.
const USAGE_ERROR: i32 = 129;

/// The commits of the agent that may be published.
pub struct Commits {
    pub references: References,
    pub merge_head: Option<String>,
    /// Whether the commits of HEAD contain plain text: content that a git filter should have changed.
    pub has_plain_text: bool,
}

/// Whether commits must be searched for files whose filter was not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitSearch {
    /// The attributes name no filter for any changed file.
    NotNeeded,
    /// The attributes name a filter, or may name one.
    Needed,
}

/// The copy of the agent's index.
pub struct Index<'a> {
    pub repository: &'a StagingRepository<'a>,
    /// Whether the committed version, or the base's version, of any entry was restored.
    pub has_restored_entries: Cell<bool>,
}

impl Index<'_> {
    /// Removes the flags assume-unchanged and skip-worktree from the graph, which the agent may have set: git must see
    /// the task's status, which the worker has written into the graph.
    pub async fn make_graph_visible(&self) -> Result<(), GitError> {
        if fs::symlink_metadata(self.repository.workspace.join(GRAPH_PATH)).is_err() {
            return Ok(());
        }
        for flag in ["--no-assume-unchanged", "--no-skip-worktree"] {
            // Exits with an error code if the graph is not in the index; then there is no flag to remove.
            match self
                .repository
                .run(["update-index", flag, "--", GRAPH_PATH])
                .await
            {
                Err(error) if error.exit_code.is_none() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The paths among `paths` to which no filter applies.
    pub async fn paths_without_filter(
        &self,
        paths: BTreeSet<Vec<u8>>,
    ) -> Result<BTreeSet<Vec<u8>>, GitError> {
        if paths.is_empty() {
            return Ok(paths);
        }
        let list: Vec<u8> = paths
            .iter()
            .flat_map(|path| [path, &b"\0"[..]].concat())
            .collect();
        let call = self
            .repository
            .call(["check-attr", "-z", "--stdin", "filter"]);
        let call = call.input(&list).map_err(|error| add_error(&error))?;
        let answers = self.repository.records(call).await?;
        let answers = answers.chunks_exact(3);
        let plain =
            answers.filter(|answer| matches!(answer[2].as_slice(), b"unspecified" | b"unset"));
        Ok(plain.map(|answer| answer[0].clone()).collect())
    }

    /// Runs `git add --all` without the files `large`. Returns the end of git's standard error.
    pub async fn add_all(
        &self,
        filters: &mut Filters,
        large: &BTreeSet<Vec<u8>>,
    ) -> Result<String, GitError> {
        let mut paths = b".\0".to_vec();
        for path in large {
            paths.extend_from_slice(b":(top,exclude,literal)");
            paths.extend_from_slice(path);
            paths.push(0);
        }
        loop {
            let mut call = self
                .repository
                .call(["add", "--all", "--ignore-errors", "--verbose"])
                .configuration(&filters.overrides);
            if filters.is_sparse {
                // Also adds new files outside the sparse directories. Files that the sparse checkout left out do not
                // count as deleted.
                call = call.arg("--sparse");
            }
            let call = if large.is_empty() {
                call.arg("--").arg(".")
            } else {
                let call = call
                    .arg("--pathspec-from-file=-")
                    .arg("--pathspec-file-nul");
                call.input(&paths).map_err(|error| add_error(&error))?
            };
            match self.repository.git.stream(call, &mut |_| {}).await {
                Ok(words) => return Ok(words),
                // Some files could not be added.
                Err(error) if error.exit_code == Some(1) => return Ok(error.messages),
                // Before git 2.34 there is no --sparse, and such files are added without it.
                Err(error) if filters.is_sparse && error.exit_code == Some(USAGE_ERROR) => {
                    filters.is_sparse = false;
                }
                Err(error) if filters.disable_failed(&error.messages) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes nested repositories that `git add --all` put into the index: a commit would contain their names
    /// without their content. `before` are the submodules that the index had before.
    pub async fn remove_nested_repositories(
        &self,
        before: &BTreeSet<Vec<u8>>,
        left_behind: &mut LeftBehind,
    ) -> Result<(), GitError> {
        let mut list = Vec::new();
        for path in self.repository.listing().await?.gitlinks {
            if !before.contains(&path) {
                left_behind.add_nested(&path);
                list.extend_from_slice(&path);
                list.push(0);
            }
        }
        if list.is_empty() {
            return Ok(());
        }
        let call = self
            .repository
            .call(["update-index", "--force-remove", "-z", "--stdin"]);
        let call = call.input(&list).map_err(|error| add_error(&error))?;
        self.repository.git.run(call).await.map(drop)
    }

    /// The entries in which the index differs from a commit, or from the empty tree if there is no commit.
    pub async fn changes_since(&self, commit: Option<&str>) -> Result<Vec<Entry>, GitError> {
        let empty_tree = ["hash-object", "-t", "tree", "--stdin"];
        let commit_or_tree = match commit {
            Some(commit) => commit.to_owned(),
            None => self.repository.run(empty_tree).await?,
        };
        let args = ["diff-index", "--cached", "--raw", "-z", "--no-renames"];
        // Files that were only announced by `git add --intent-to-add` do not become a part of the tree.
        let args = [
            args.as_slice(),
            &["--no-abbrev", "--ita-invisible-in-index"],
        ]
        .concat();
        let records = self
            .repository
            .records(self.repository.call(args).arg(commit_or_tree))
            .await?;
        Ok(entries_of_raw_diff(&records))
    }

    /// Restores the committed version of changed files whose filter is not configured: without the filter they would be
    /// published as plain text. `changed` are the changed files.
    pub async fn restore_unfiltered(
        &self,
        filters: &Filters,
        changed: &[Entry],
        left_behind: &mut LeftBehind,
    ) -> Result<CommitSearch, GitError> {
        let mut list = Vec::new();
        for entry in changed.iter().filter(|entry| entry.is_file()) {
            list.extend_from_slice(&entry.path);
            list.push(0);
        }
        if list.is_empty() {
            return Ok(CommitSearch::NotNeeded);
        }
        let call = self
            .repository
            .call(["check-attr", "--cached", "-z", "--stdin", "filter"]);
        let call = call.input(&list).map_err(|error| add_error(&error))?;
        let records = self.repository.records(call).await?;
        let mut unfiltered = BTreeMap::new();
        let mut commit_search = CommitSearch::NotNeeded;
        for answer in records.chunks_exact(3) {
            let name = String::from_utf8_lossy(&answer[2]);
            if Filters::names_filter(&name) {
                commit_search = CommitSearch::Needed;
            }
            if filters.is_missing(&name) {
                unfiltered.insert(answer[0].clone(), name.into_owned());
            }
        }
        let mut index_info = Vec::new();
        let mut restored = BTreeSet::new();
        for entry in changed {
            let Some(filter) = unfiltered.get(&entry.path) else {
                continue;
            };
            if filter == "lfs" && self.lfs_pointer(&entry.new_object).await?.is_some() {
                continue;
            }
            index_info.extend_from_slice(&entry.index_info_of_old());
            if filter == "lfs" && self.is_object_of_old_pointer(entry).await? {
                continue;
            }
            restored.insert((entry.path.clone(), filter.clone()));
        }
        for (path, filter) in &restored {
            left_behind.add_unfiltered(path, filter);
        }
        self.change_entries(&index_info).await?;
        Ok(commit_search)
    }

    /// Restores the base's version of files whose filter was not applied, and removes branches with such files from
    /// `commits`.
    pub async fn restore_plain_text(
        &self,
        search: &PlainTextSearch<'_>,
        base: &str,
        mut commits: Commits,
        commit_search: CommitSearch,
        left_behind: &mut LeftBehind,
    ) -> Result<Commits, GitError> {
        let head = commits.references.head.clone();
        let mut plain = match &head {
            Some(head) => search.plain_files_in_commits(head).await?,
            None => BTreeMap::new(),
        };
        commits.has_plain_text = !plain.is_empty();
        if let Some(merged) = &commits.merge_head {
            let of_merge = search.plain_files_in_commits(merged).await?;
            if !of_merge.is_empty() {
                plain.extend(of_merge);
                commits.merge_head = None;
            }
        }
        let mut all = Vec::new();
        for (name, commit) in std::mem::take(&mut commits.references.all) {
            let is_head = Some(&commit) == head.as_ref();
            let branch = name.strip_prefix("refs/heads/");
            let has_plain_text = match branch {
                Some(_) if is_head => commits.has_plain_text,
                Some(_) => !search.plain_files_in_commits(&commit).await?.is_empty(),
                None => false,
            };
            match branch {
                Some(branch) if has_plain_text && !is_head => left_behind.add_sentence(format!(
                    "left out, because it holds files whose git filter was not applied, or may not have been: the agent's branch {}",
                    branch.escape_debug()
                )),
                _ if has_plain_text => {}
                _ => all.push((name, commit)),
            }
        }
        commits.references.all = all;
        if plain.is_empty() && commit_search == CommitSearch::NotNeeded {
            return Ok(commits);
        }
        let changed = self.changes_since(Some(base)).await?;
        plain.extend(search.files_without_attribute(&changed).await?);
        let mut index_info = Vec::new();
        for entry in &changed {
            if let Some(filter) = plain.get(&entry.new_file()) {
                index_info.extend_from_slice(&entry.index_info_of_old());
                left_behind.add_unfiltered(&entry.path, filter);
            }
        }
        if commits.has_plain_text {
            left_behind.add_sentence(
                "the agent's commits hold files whose git filter was not applied, or may not have been, so their content became one commit"
                    .to_owned(),
            );
        }
        self.change_entries(&index_info).await?;
        Ok(commits)
    }

    /// Changes entries of the index, by lines for `git update-index --index-info`.
    async fn change_entries(&self, index_info: &[u8]) -> Result<(), GitError> {
        if index_info.is_empty() {
            return Ok(());
        }
        self.has_restored_entries.set(true);
        let call = self.repository.call(["update-index", "-z", "--index-info"]);
        let call = call.input(index_info).map_err(|error| add_error(&error))?;
        self.repository.git.run(call).await.map(drop)
    }

    /// The Git LFS pointer in an object; `None` if the object is something else.
    async fn lfs_pointer(&self, object: &str) -> Result<Option<Pointer>, GitError> {
        let size = self
            .repository
            .git
            .run(self.repository.call(["cat-file", "-s"]).arg(object));
        let size = size.await?.parse::<u64>();
        if !size.is_ok_and(|size| size < MAX_POINTER_SIZE) {
            return Ok(None);
        }
        let call = self.repository.call(["cat-file", "blob"]).arg(object);
        let text = self.repository.git.run(call).await?;
        Ok(Pointer::parse(text.as_bytes()))
    }

    /// Whether the new content is the object of the committed pointer: the file was downloaded and not changed.
    async fn is_object_of_old_pointer(&self, entry: &Entry) -> Result<bool, GitError> {
        if !entry.was_file() {
            return Ok(false);
        }
        let Some(pointer) = self.lfs_pointer(&entry.old_object).await? else {
            return Ok(false);
        };
        let (mut digest, mut size) = (Context::new(&SHA256), 0_u64);
        let mut on_output = |bytes: &[u8]| {
            digest.update(bytes);
            size += bytes.len() as u64;
        };
        let call = self.repository.call(["cat-file", "blob"]);
        let call = call.arg(&entry.new_object);
        self.repository.git.stream(call, &mut on_output).await?;
        Ok(size == pointer.size && pointer.has_digest(digest))
    }

    /// Adds to `left_behind` the tracked files that still differ from the index after `git add`.
    pub async fn record_unstaged(&self, left_behind: &mut LeftBehind) -> Result<(), GitError> {
        let args = ["diff-files", "--raw", "-z", "--ignore-submodules=none"];
        let records = self.repository.records(self.repository.call(args)).await?;
        for entry in entries_of_raw_diff(&records) {
            if entry.is_submodule() {
                left_behind.add_submodule(&entry.path);
            } else {
                left_behind.add_unstaged(&entry.path);
            }
        }
        Ok(())
    }

    /// Adds to `left_behind` the changed files for which the agent set assume-unchanged or skip-worktree. Changes the
    /// index, so it must run after the tree was written.
    pub async fn record_flagged(
        &self,
        flagged: &BTreeSet<Vec<u8>>,
        left_behind: &mut LeftBehind,
    ) -> Result<(), GitError> {
        let mut list = Vec::new();
        for path in flagged.iter().filter(|path| *path != GRAPH_PATH.as_bytes()) {
            let file = self.repository.workspace.join(OsStr::from_bytes(path));
            if fs::symlink_metadata(file).is_ok() {
                list.extend_from_slice(path);
                list.push(0);
            }
        }
        if list.is_empty() {
            return Ok(());
        }
        for flag in ["--no-assume-unchanged", "--no-skip-worktree"] {
            let call = self
                .repository
                .call(["update-index", flag, "-z", "--stdin"]);
            let call = call.input(&list).map_err(|error| add_error(&error))?;
            self.repository.git.run(call).await?;
        }
        // Exits with an error code if a file differs; diff-files lists those files.
        let refresh = ["update-index", "-q", "--refresh"];
        let _ = self.repository.run(refresh).await;
        let call = self.repository.call(["diff-files", "--raw", "-z"]);
        let records = self.repository.records(call).await?;
        let paths = list.split(|byte| *byte == 0).collect::<BTreeSet<_>>();
        for entry in entries_of_raw_diff(&records) {
            if paths.contains(entry.path.as_slice()) {
                left_behind.add_flagged(&entry.path);
            }
        }
        Ok(())
    }
}
