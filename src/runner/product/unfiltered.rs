//! Finds files that commits contain as plain text although the base's attributes demand a filter for them.
//!
//! A file of a commit may be published if the filter demonstrably wrote it:
//!
//! - the clean filter does not change it, or makes it from the file in the working tree; or
//! - the smudge filter turns it into the file in the working tree, or into text that the smudge filter then does not
//!   change or rejects. So this smudge filter distinguishes plain text from the clean filter's output.
//!
//! Everything else counts as plain text: some filters (rot13) change any text, so that plain text looks like their
//! output. If the filter cannot be run, every changed file counts as plain text. A filter that only formats a file
//! causes no false alarm, and neither does a filter whose output differs each time.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tokio::sync::OnceCell;

use super::entries::{CommittedFile, Entry, entries_of_raw_diff};
use super::files::open_regular;
use super::filters::Filters;
use super::lfs::{MAX_POINTER_SIZE, Pointer};
use super::staging_repository::{StagingRepository, add_error};
use crate::git::{Call, GitError};

/// Searches commits in the agent's repository for plain text.
pub struct PlainTextSearch<'a> {
    repository: &'a StagingRepository<'a>,
    filters: &'a Filters,
    base: &'a str,
    /// An index with the base's files.
    index: OsString,
    /// Set when the index has been written. Most runs do not need the index.
    is_index_written: OnceCell<()>,
}

impl<'a> PlainTextSearch<'a> {
    /// Searches with an index that it writes to `dir` when it is needed.
    pub fn new(
        repository: &'a StagingRepository<'a>,
        filters: &'a Filters,
        base: &'a str,
        dir: &Path,
    ) -> Self {
        Self {
            repository,
            filters,
            base,
            index: dir.join("index-of-attributes").into_os_string(),
            is_index_written: OnceCell::new(),
        }
    }

    async fn write_index(&self) -> Result<(), GitError> {
        let call = self.repository.call(["read-tree"]).arg(self.base);
        let call = call.variables(&self.index_variable());
        self.repository.git.run(call).await.map(drop)
    }

    fn index_variable(&self) -> crate::environment::Variables {
        vec![("GIT_INDEX_FILE".into(), self.index.clone())]
    }

    /// The files in the commits from the base to `tip` that are plain text, with their filters. Empty if the commits do
    /// not descend from the base.
    pub async fn plain_files_in_commits(
        &self,
        tip: &str,
    ) -> Result<BTreeMap<CommittedFile, String>, GitError> {
        let descends = self.repository.call(["merge-base", "--is-ancestor"]);
        let descends = descends.arg(self.base).arg(tip);
        if tip == self.base || self.repository.git.run(descends).await.is_err() {
            return Ok(BTreeMap::new());
        }
        let entries = self.changes(tip).await?;
        let files = entries.iter().filter(|entry| entry.is_file());
        let files: BTreeSet<CommittedFile> = files.map(Entry::new_file).collect();
        let paths: BTreeSet<&[u8]> = files.iter().map(|file| file.path.as_slice()).collect();
        let demands = self.filter_demands(&paths).await?;
        let (mut plain, mut unknown) = (BTreeMap::new(), BTreeMap::new());
        let mut written_by_filter = BTreeSet::new();
        for file in files {
            let Some(demand) = demands.get(&file.path) else {
                continue;
            };
            let filter = demand.base_filter.clone();
            match self.origin(&file, demand).await? {
                Origin::Filter => drop(written_by_filter.insert((file.object, filter))),
                Origin::PlainText => drop(plain.insert(file, filter)),
                Origin::Unknown => drop(unknown.insert(file, filter)),
            }
        }
        // A renamed file appears at two paths. It is enough that the filter wrote its content at one of them.
        unknown.retain(|file, filter| {
            !written_by_filter.contains(&(file.object.clone(), filter.clone()))
        });
        plain.extend(unknown);
        Ok(plain)
    }

    /// The files among `entries` whose filter the agent has turned off in `.gitattributes`.
    pub async fn files_without_attribute(
        &self,
        entries: &[Entry],
    ) -> Result<BTreeMap<CommittedFile, String>, GitError> {
        let files = entries.iter().filter(|entry| entry.is_file());
        let paths: BTreeSet<&[u8]> = files.clone().map(|entry| entry.path.as_slice()).collect();
        let demands = self.filter_demands(&paths).await?;
        let found = files.filter_map(|entry| {
            let demand = demands.get(&entry.path)?;
            demand
                .has_dropped_filter()
                .then(|| (entry.new_file(), demand.base_filter.clone()))
        });
        Ok(found.collect())
    }

    /// Every change of a file in the commits from the base to `tip`.
    async fn changes(&self, tip: &str) -> Result<Vec<Entry>, GitError> {
        let mut commits = tempfile::tempfile().map_err(|error| add_error(&error))?;
        let call = self.repository.call(["rev-list"]).arg(tip);
        let call = call.arg(format!("^{}", self.base));
        self.write_output(call, &mut commits).await?;
        let args = [
            "diff-tree",
            "--stdin",
            "-r",
            "-m",
            "--root",
            "--raw",
            "-z",
            "--no-renames",
            "--no-abbrev",
            "--no-commit-id",
        ];
        let call = self.repository.call(args);
        let call = call
            .input_file(&commits)
            .map_err(|error| add_error(&error))?;
        Ok(entries_of_raw_diff(&self.repository.records(call).await?))
    }

    /// The filters of those paths for which the base demands a filter.
    async fn filter_demands(
        &self,
        paths: &BTreeSet<&[u8]>,
    ) -> Result<BTreeMap<Vec<u8>, FilterDemand>, GitError> {
        let mut list = Vec::new();
        for path in paths {
            list.extend_from_slice(path);
            list.push(0);
        }
        let mut demands = BTreeMap::new();
        if list.is_empty() {
            return Ok(demands);
        }
        self.is_index_written
            .get_or_try_init(|| self.write_index())
            .await?;
        let of_base = self
            .repository
            .call(["check-attr", "--cached", "-z", "--stdin", "filter"])
            .variables(&self.index_variable());
        let current = ["check-attr", "-z", "--stdin", "filter"];
        let [of_base, current] =
            [of_base, self.repository.call(current)].map(|call| call.input(&list));
        let of_base = of_base.map_err(|error| add_error(&error))?;
        for answer in self.repository.records(of_base).await?.chunks_exact(3) {
            let filter = String::from_utf8_lossy(&answer[2]).into_owned();
            if Filters::names_filter(&filter) {
                let demand = FilterDemand {
                    base_filter: filter,
                    current_filter: String::new(),
                };
                demands.insert(answer[0].clone(), demand);
            }
        }
        if demands.is_empty() {
            return Ok(demands);
        }
        let current = current.map_err(|error| add_error(&error))?;
        for answer in self.repository.records(current).await?.chunks_exact(3) {
            if let Some(demand) = demands.get_mut(&answer[0]) {
                demand.current_filter = String::from_utf8_lossy(&answer[2]).into_owned();
            }
        }
        Ok(demands)
    }

    /// Finds out whether the filter wrote the content of a file. Cheap tests come first; the smudge filter runs last,
    /// because it may be slow.
    async fn origin(
        &self,
        file: &CommittedFile,
        demand: &FilterDemand,
    ) -> Result<Origin, GitError> {
        let CommittedFile { path, object } = file;
        let mut content = tempfile::tempfile().map_err(|error| add_error(&error))?;
        let call = self.repository.call(["cat-file", "blob"]).arg(object);
        let size = self.write_output(call, &mut content).await?;
        // Filters do not change empty files.
        if size == 0 {
            return Ok(Origin::Filter);
        }
        if demand.base_filter == "lfs" {
            let is_text = demand.current_filter == "lfs" && !is_lfs_pointer(&content, size);
            return Ok(if is_text {
                Origin::PlainText
            } else {
                Origin::Filter
            });
        }
        if demand.has_dropped_filter() || self.filters.is_missing(&demand.base_filter) {
            return Ok(Origin::PlainText);
        }
        let Ok(cleaned) = self.hash_as_added(path, &content, &[]).await else {
            return Ok(Origin::PlainText);
        };
        if cleaned == *object || self.is_in_base(file).await? {
            return Ok(Origin::Filter);
        }
        let in_working_tree = self.working_tree_file(path, demand).await?;
        if in_working_tree.unchanged.as_ref() == Some(object) {
            return Ok(Origin::PlainText);
        }
        if in_working_tree.cleaned.as_ref() == Some(object) {
            return Ok(Origin::Filter);
        }
        let Some(smudged) = self.smudge(path, object, demand).await? else {
            return Ok(Origin::PlainText);
        };
        if smudged == *object {
            return Ok(Origin::PlainText);
        }
        if in_working_tree.converted.as_ref() == Some(&smudged) {
            return Ok(Origin::Filter);
        }
        Ok(match self.smudge(path, &smudged, demand).await? {
            Some(again) if again != smudged => Origin::Unknown,
            _ => Origin::Filter,
        })
    }

    /// The object that the smudge filter makes of an object; `None` if the filter rejects it. Line endings are as in
    /// the repository.
    async fn smudge(
        &self,
        path: &[u8],
        object: &str,
        demand: &FilterDemand,
    ) -> Result<Option<String>, GitError> {
        let mut smudged = tempfile::tempfile().map_err(|error| add_error(&error))?;
        let call = self.repository.call(["cat-file", "--filters"]);
        let call = call.configuration(&self.filters.overrides);
        let call = call.arg(option_path(path)).arg(object);
        match self.write_output(call, &mut smudged).await {
            Err(error) if error.was_stopped => return Err(error),
            Err(_) => return Ok(None),
            Ok(_) => {}
        }
        // Without the filter, so that only line endings are converted back.
        let without_filter = Filters::configuration_without(&demand.base_filter);
        self.hash_as_added(path, &smudged, &without_filter)
            .await
            .map(Some)
    }

    /// The hash of the object that `git add` would make of a content.
    async fn hash_as_added(
        &self,
        path: &[u8],
        content: &File,
        configuration: &[(String, String)],
    ) -> Result<String, GitError> {
        let call = self.repository.call(["hash-object", "-w", "--stdin"]);
        let call = call
            .arg(option_path(path))
            .configuration(&self.filters.overrides)
            .configuration(configuration);
        let call = call
            .input_file(content)
            .map_err(|error| add_error(&error))?;
        self.repository.git.run(call).await
    }

    /// The file of the working tree at `path`, as objects. All fields are `None` if there is no regular file.
    async fn working_tree_file(
        &self,
        path: &[u8],
        demand: &FilterDemand,
    ) -> Result<WorkingTreeFile, GitError> {
        let mut in_working_tree = WorkingTreeFile::default();
        let name = self.repository.workspace.join(OsStr::from_bytes(path));
        let Ok(file) = open_regular(&name, u64::MAX) else {
            return Ok(in_working_tree);
        };
        let call = self
            .repository
            .call(["hash-object", "--no-filters", "--stdin"]);
        let call = call.input_file(&file).map_err(|error| add_error(&error))?;
        in_working_tree.unchanged = self.repository.git.run(call).await.ok();
        in_working_tree.cleaned = self.hash_as_added(path, &file, &[]).await.ok();
        let without_filter = Filters::configuration_without(&demand.base_filter);
        in_working_tree.converted = self.hash_as_added(path, &file, &without_filter).await.ok();
        Ok(in_working_tree)
    }

    /// Whether the base has the same file, so that the file is published already.
    async fn is_in_base(&self, file: &CommittedFile) -> Result<bool, GitError> {
        let CommittedFile { path, object } = file;
        let mut name = OsString::from(format!("{}:", self.base));
        name.push(OsStr::from_bytes(path));
        let call = self.repository.call(["rev-parse", "--verify", "--quiet"]);
        match self.repository.git.run(call.arg(name)).await {
            Err(error) if error.was_stopped => Err(error),
            found => Ok(found.is_ok_and(|found| found == *object)),
        }
    }

    /// Writes the output of a command into a file; returns its size in bytes.
    async fn write_output(&self, call: Call<'_>, file: &mut File) -> Result<u64, GitError> {
        let (mut written, mut size) = (Ok(()), 0);
        let mut on_output = |bytes: &[u8]| {
            size += bytes.len() as u64;
            if written.is_ok() {
                written = file.write_all(bytes);
            }
        };
        self.repository.git.stream(call, &mut on_output).await?;
        written.map_err(|error| add_error(&error))?;
        Ok(size)
    }
}

/// The origin of the content of a file in a commit.
enum Origin {
    /// The filter wrote it.
    Filter,
    /// Plain text that did not pass the filter.
    PlainText,
    /// The filter changes any text, so its output cannot be distinguished from plain text.
    Unknown,
}

/// A file of the working tree, as the objects that git could make of it.
#[derive(Debug, Default)]
struct WorkingTreeFile {
    /// The object of its unchanged bytes.
    unchanged: Option<String>,
    /// The object after the clean filter.
    cleaned: Option<String>,
    /// The object without the filter, with line endings as in the repository.
    converted: Option<String>,
}

/// Tells git for which path a content is, so that the path's attributes apply.
fn option_path(path: &[u8]) -> OsString {
    let mut option = OsString::from("--path=");
    option.push(OsStr::from_bytes(path));
    option
}

/// The filters that attributes name for one path.
struct FilterDemand {
    /// The filter that the base's attributes name.
    base_filter: String,
    /// The filter that applies in the working tree.
    current_filter: String,
}

impl FilterDemand {
    /// Whether the agent has removed the filter. The filter `lfs` may be removed, because it does not keep the content
    /// secret.
    fn has_dropped_filter(&self) -> bool {
        self.base_filter != self.current_filter && self.base_filter != "lfs"
    }
}

fn is_lfs_pointer(content: &File, size: u64) -> bool {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = content.try_clone()?;
        io::Seek::rewind(&mut file)?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, MAX_POINTER_SIZE), &mut bytes)?;
        Ok(bytes)
    };
    size < MAX_POINTER_SIZE && read().is_ok_and(|text| Pointer::parse(&text).is_some())
}
