//! A copy of the agent's index, which is changed step by step until it has everything that may be committed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use ring::digest::{Context, SHA256};

use super::agent_side::{AgentSide, References, around};
use super::entries::{Entry, entries_of_raw_diff};
use super::filters::Filters;
use super::left_behind::LeftBehind;
use super::lfs::{MAX_POINTER_SIZE, Pointer};
use super::unfiltered::Search;
use crate::git::GitError;
use crate::scud::GRAPH_PATH;

/// git's exit code for an option that it does not know.
const USAGE_ERROR: i32 = 129;

/// The commits of the agent that may be published.
pub struct Commits {
    pub references: References,
    pub merge_head: Option<String>,
    /// Whether the commits of HEAD hold plain text: content that a git filter should have changed.
    pub has_plain: bool,
}

/// Whether the attributes name a filter for any changed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    NoFilter,
    /// The attributes name one. A search in the commits must find out whether the filter was applied.
    Unknown,
}

/// The copy of the agent's index. The functions below change it step by step until it has everything to commit.
pub struct Index<'a> {
    pub agent_side: &'a AgentSide<'a>,
}

impl Index<'_> {
    /// Removes the flags assume-unchanged and skip-worktree from the graph, if the agent set them: git must see the
    /// task's state, which the worker has written into the graph.
    pub async fn make_graph_visible(&self) -> Result<(), GitError> {
        if fs::symlink_metadata(self.agent_side.workspace.join(GRAPH_PATH)).is_err() {
            return Ok(());
        }
        for flag in ["--no-assume-unchanged", "--no-skip-worktree"] {
            // Exits with an error code if the graph is not in the index; then there is no flag to remove.
            match self
                .agent_side
                .run(["update-index", flag, "--", GRAPH_PATH])
                .await
            {
                Err(error) if error.exit_code.is_none() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The paths among `paths` that no filter applies to.
    pub async fn without_filter(
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
            .agent_side
            .call(["check-attr", "-z", "--stdin", "filter"]);
        let call = call.input(&list).map_err(|error| around(&error))?;
        let answers = self.agent_side.records(call).await?;
        let answers = answers.chunks_exact(3);
        let plain =
            answers.filter(|answer| matches!(answer[2].as_slice(), b"unspecified" | b"unset"));
        Ok(plain.map(|answer| answer[0].clone()).collect())
    }

    /// Runs `git add --all` without the files that are too large. Returns the end of git's standard error.
    pub async fn add(
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
                .agent_side
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
                call.input(&paths).map_err(|error| around(&error))?
            };
            match self.agent_side.git.stream(call, &mut |_| {}).await {
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
    /// without their content.
    pub async fn leave_out_nested(
        &self,
        before: &BTreeSet<Vec<u8>>,
        left: &mut LeftBehind,
    ) -> Result<(), GitError> {
        let mut list = Vec::new();
        for path in self.agent_side.listing().await?.gitlinks {
            if !before.contains(&path) {
                left.add_nested(&path);
                list.extend_from_slice(&path);
                list.push(0);
            }
        }
        if list.is_empty() {
            return Ok(());
        }
        let call = self
            .agent_side
            .call(["update-index", "--force-remove", "-z", "--stdin"]);
        let call = call.input(&list).map_err(|error| around(&error))?;
        self.agent_side.git.run(call).await.map(drop)
    }

    /// The entries in which the index differs from the agent's last commit.
    pub async fn changed(&self, head: Option<&str>) -> Result<Vec<Entry>, GitError> {
        let empty_tree = ["hash-object", "-t", "tree", "--stdin"];
        let head = match head {
            Some(head) => head.to_owned(),
            None => self.agent_side.run(empty_tree).await?,
        };
        let args = ["diff-index", "--cached", "--raw", "-z", "--no-renames"];
        let args = [args.as_slice(), &["--no-abbrev"]].concat();
        let records = self
            .agent_side
            .records(self.agent_side.call(args).arg(head))
            .await?;
        Ok(entries_of_raw_diff(&records))
    }

    /// Restores the committed version of changed files whose filter is not configured: without the filter they would be
    /// published as plain text. Tells whether attributes name a filter for any of the changed files.
    pub async fn leave_out_unfiltered(
        &self,
        filters: &Filters,
        changed: &[Entry],
        left: &mut LeftBehind,
    ) -> Result<Demand, GitError> {
        let mut list = Vec::new();
        for entry in changed.iter().filter(|entry| entry.is_file()) {
            list.extend_from_slice(&entry.path);
            list.push(0);
        }
        if list.is_empty() {
            return Ok(Demand::NoFilter);
        }
        let call = self
            .agent_side
            .call(["check-attr", "--cached", "-z", "--stdin", "filter"]);
        let call = call.input(&list).map_err(|error| around(&error))?;
        let records = self.agent_side.records(call).await?;
        let mut unfiltered = BTreeMap::new();
        let mut demand = Demand::NoFilter;
        for answer in records.chunks_exact(3) {
            let name = String::from_utf8_lossy(&answer[2]);
            if Filters::is_name(&name) {
                demand = Demand::Unknown;
            }
            if filters.is_missing(&name) {
                unfiltered.insert(answer[0].clone(), name.into_owned());
            }
        }
        let mut index_info = Vec::new();
        let mut named = BTreeSet::new();
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
            named.insert((entry.path.clone(), filter.clone()));
        }
        for (path, filter) in &named {
            left.add_unfiltered(path, filter);
        }
        self.change_entries(&index_info).await?;
        Ok(demand)
    }

    /// Restores the base's version of files whose filter was not applied, and leaves out branches with such files.
    pub async fn leave_out_plain(
        &self,
        search: &Search<'_>,
        base: &str,
        mut commits: Commits,
        demand: Demand,
        left: &mut LeftBehind,
    ) -> Result<Commits, GitError> {
        let head = commits.references.head.clone();
        let mut plain = match &head {
            Some(head) => search.in_commits(head).await?,
            None => BTreeMap::new(),
        };
        commits.has_plain = !plain.is_empty();
        if let Some(merged) = &commits.merge_head {
            let of_merge = search.in_commits(merged).await?;
            if !of_merge.is_empty() {
                plain.extend(of_merge);
                commits.merge_head = None;
            }
        }
        let mut all = Vec::new();
        for (name, commit) in std::mem::take(&mut commits.references.all) {
            let is_head = Some(&commit) == head.as_ref();
            let branch = name.strip_prefix("refs/heads/");
            let has_plain = match branch {
                Some(_) if is_head => commits.has_plain,
                Some(_) => !search.in_commits(&commit).await?.is_empty(),
                None => false,
            };
            match branch {
                Some(branch) if has_plain && !is_head => left.add_sentence(format!(
                    "left out, because it holds files whose git filter was not applied, or may not have been: the agent's branch {}",
                    branch.escape_debug()
                )),
                _ if has_plain => {}
                _ => all.push((name, commit)),
            }
        }
        commits.references.all = all;
        if plain.is_empty() && demand == Demand::NoFilter {
            return Ok(commits);
        }
        let changed = self.changed(Some(base)).await?;
        plain.extend(search.without_attribute(&changed).await?);
        let mut index_info = Vec::new();
        for entry in &changed {
            let blob = (entry.path.clone(), entry.new_object.clone());
            if let Some(filter) = plain.get(&blob) {
                index_info.extend_from_slice(&entry.index_info_of_old());
                left.add_unfiltered(&entry.path, filter);
            }
        }
        if commits.has_plain {
            left.add_sentence(
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
        let call = self.agent_side.call(["update-index", "-z", "--index-info"]);
        let call = call.input(index_info).map_err(|error| around(&error))?;
        self.agent_side.git.run(call).await.map(drop)
    }

    /// The Git LFS pointer in an object; `None` if the object is something else.
    async fn lfs_pointer(&self, object: &str) -> Result<Option<Pointer>, GitError> {
        let size = self
            .agent_side
            .git
            .run(self.agent_side.call(["cat-file", "-s"]).arg(object));
        let size = size.await?.parse::<u64>();
        if !size.is_ok_and(|size| size < MAX_POINTER_SIZE) {
            return Ok(None);
        }
        let call = self.agent_side.call(["cat-file", "blob"]).arg(object);
        let text = self.agent_side.git.run(call).await?;
        Ok(Pointer::parse(text.as_bytes()))
    }

    /// Whether the new content is the object of the committed pointer: the file was downloaded and not changed.
    async fn is_object_of_old_pointer(&self, entry: &Entry) -> Result<bool, GitError> {
        if !entry.had_file() {
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
        let call = self.agent_side.call(["cat-file", "blob"]);
        let call = call.arg(&entry.new_object);
        self.agent_side.git.stream(call, &mut on_output).await?;
        Ok(size == pointer.size && pointer.has_digest(digest))
    }

    /// Adds to `left` the tracked files that still differ from the index after `git add`.
    pub async fn name_unstaged(&self, left: &mut LeftBehind) -> Result<(), GitError> {
        let args = ["diff-files", "--raw", "-z", "--ignore-submodules=none"];
        let records = self.agent_side.records(self.agent_side.call(args)).await?;
        for entry in entries_of_raw_diff(&records) {
            if entry.is_submodule() {
                left.add_submodule(&entry.path);
            } else {
                left.add_unstaged(&entry.path);
            }
        }
        Ok(())
    }

    /// Adds to `left` the changed files for which the agent set assume-unchanged or skip-worktree. Changes the index,
    /// so it must run after the tree was written.
    pub async fn name_flagged(
        &self,
        flagged: &BTreeSet<Vec<u8>>,
        left: &mut LeftBehind,
    ) -> Result<(), GitError> {
        let mut list = Vec::new();
        for path in flagged.iter().filter(|path| *path != GRAPH_PATH.as_bytes()) {
            let there = self.agent_side.workspace.join(OsStr::from_bytes(path));
            if fs::symlink_metadata(there).is_ok() {
                list.extend_from_slice(path);
                list.push(0);
            }
        }
        if list.is_empty() {
            return Ok(());
        }
        for flag in ["--no-assume-unchanged", "--no-skip-worktree"] {
            let call = self
                .agent_side
                .call(["update-index", flag, "-z", "--stdin"]);
            let call = call.input(&list).map_err(|error| around(&error))?;
            self.agent_side.git.run(call).await?;
        }
        // Exits with an error code if a file differs; diff-files lists those files.
        let refresh = ["update-index", "-q", "--refresh"];
        let _ = self.agent_side.run(refresh).await;
        let call = self.agent_side.call(["diff-files", "--raw", "-z"]);
        let records = self.agent_side.records(call).await?;
        let paths = list.split(|byte| *byte == 0).collect::<BTreeSet<_>>();
        for entry in entries_of_raw_diff(&records) {
            if paths.contains(entry.path.as_slice()) {
                left.add_flagged(&entry.path);
            }
        }
        Ok(())
    }
}
