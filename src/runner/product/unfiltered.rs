//! Finds files that commits hold as plain text although the base's attributes demand a filter for them.
//!
//! A file of a commit may be published if the filter demonstrably wrote it:
//!
//! - the clean filter leaves it as it is, or makes it of the file in the working tree; or
//! - the smudge filter turns it into the file in the working tree, or into text that the smudge filter then leaves as
//!   it is or rejects. So this smudge filter distinguishes its own output from plain text.
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

use super::agent_side::{AgentSide, around};
use super::entries::{Entry, entries_of_raw_diff};
use super::files::open_regular;
use super::filters::Filters;
use super::lfs::{MAX_POINTER_SIZE, Pointer};
use crate::git::{Call, GitError};

/// A file of a commit: its path and its object.
pub type Blob = (Vec<u8>, String);

/// Searches commits in the agent's repository.
pub struct Search<'a> {
    agent_side: &'a AgentSide<'a>,
    filters: &'a Filters,
    base: &'a str,
    /// An index with the base's files.
    index: OsString,
    /// Set when the index has been written. Most runs do not need the index.
    is_index_written: OnceCell<()>,
}

impl<'a> Search<'a> {
    /// Searches with an index that it writes to `dir` when it is needed.
    pub fn new(
        agent_side: &'a AgentSide<'a>,
        filters: &'a Filters,
        base: &'a str,
        dir: &Path,
    ) -> Self {
        Self {
            agent_side,
            filters,
            base,
            index: dir.join("index-of-attributes").into_os_string(),
            is_index_written: OnceCell::new(),
        }
    }

    async fn write_index(&self) -> Result<(), GitError> {
        let call = self.agent_side.call(["read-tree"]).arg(self.base);
        let call = call.variables(&self.with_index());
        self.agent_side.git.run(call).await.map(drop)
    }

    fn with_index(&self) -> crate::environment::Variables {
        vec![("GIT_INDEX_FILE".into(), self.index.clone())]
    }

    /// The files in the commits from the base to `tip` that are plain text, with their filters. Empty if the commits do
    /// not descend from the base.
    pub async fn in_commits(&self, tip: &str) -> Result<BTreeMap<Blob, String>, GitError> {
        let descends = self.agent_side.call(["merge-base", "--is-ancestor"]);
        let descends = descends.arg(self.base).arg(tip);
        if tip == self.base || self.agent_side.git.run(descends).await.is_err() {
            return Ok(BTreeMap::new());
        }
        let entries = self.changes(tip).await?;
        let blobs = entries.iter().filter(|entry| entry.is_file());
        let blobs: BTreeSet<Blob> = blobs
            .map(|entry| (entry.path.clone(), entry.new_object.clone()))
            .collect();
        let paths: BTreeSet<&[u8]> = blobs.iter().map(|(path, _)| path.as_slice()).collect();
        let demanded = self.demanded(&paths).await?;
        let (mut found, mut proved) = (BTreeMap::new(), BTreeSet::new());
        for blob in blobs {
            let Some(demand) = demanded.get(&blob.0) else {
                continue;
            };
            let key = (blob.1.clone(), demand.filter.clone());
            match self.origin(&blob, demand).await? {
                Origin::Filter => drop(proved.insert(key)),
                Origin::Text => drop(found.insert(blob, (demand.filter.clone(), true))),
                Origin::Unknown => drop(found.insert(blob, (demand.filter.clone(), false))),
            }
        }
        // A renamed file appears at two paths. It is enough that the filter wrote its content at one of them.
        let found = found
            .into_iter()
            .filter(|((_, object), (filter, is_text))| {
                *is_text || !proved.contains(&(object.clone(), filter.clone()))
            });
        Ok(found.map(|(blob, (filter, _))| (blob, filter)).collect())
    }

    /// The files among `entries` whose filter the agent has turned off in `.gitattributes`.
    pub async fn without_attribute(
        &self,
        entries: &[Entry],
    ) -> Result<BTreeMap<Blob, String>, GitError> {
        let files = entries.iter().filter(|entry| entry.is_file());
        let paths: BTreeSet<&[u8]> = files.clone().map(|entry| entry.path.as_slice()).collect();
        let demanded = self.demanded(&paths).await?;
        let found = files.filter_map(|entry| {
            let demand = demanded.get(&entry.path)?;
            demand.is_dropped().then(|| {
                let blob = (entry.path.clone(), entry.new_object.clone());
                (blob, demand.filter.clone())
            })
        });
        Ok(found.collect())
    }

    /// Every change of a file in the commits from the base to `tip`.
    async fn changes(&self, tip: &str) -> Result<Vec<Entry>, GitError> {
        let mut commits = tempfile::tempfile().map_err(|error| around(&error))?;
        let call = self.agent_side.call(["rev-list"]).arg(tip);
        let call = call.arg(format!("^{}", self.base));
        self.write(call, &mut commits).await?;
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
        let call = self.agent_side.call(args);
        let call = call.input_file(&commits).map_err(|error| around(&error))?;
        Ok(entries_of_raw_diff(&self.agent_side.records(call).await?))
    }

    /// The filter that the base demands for each path, and the one that applies now.
    async fn demanded(
        &self,
        paths: &BTreeSet<&[u8]>,
    ) -> Result<BTreeMap<Vec<u8>, Demand>, GitError> {
        let mut list = Vec::new();
        for path in paths {
            list.extend_from_slice(path);
            list.push(0);
        }
        let mut demanded = BTreeMap::new();
        if list.is_empty() {
            return Ok(demanded);
        }
        self.is_index_written
            .get_or_try_init(|| self.write_index())
            .await?;
        let of_base = self
            .agent_side
            .call(["check-attr", "--cached", "-z", "--stdin", "filter"])
            .variables(&self.with_index());
        let now = ["check-attr", "-z", "--stdin", "filter"];
        let [of_base, now] = [of_base, self.agent_side.call(now)].map(|call| call.input(&list));
        let of_base = of_base.map_err(|error| around(&error))?;
        for answer in self.agent_side.records(of_base).await?.chunks_exact(3) {
            let filter = String::from_utf8_lossy(&answer[2]).into_owned();
            if Filters::is_name(&filter) {
                let demand = Demand {
                    filter,
                    now: String::new(),
                };
                demanded.insert(answer[0].clone(), demand);
            }
        }
        if demanded.is_empty() {
            return Ok(demanded);
        }
        let now = now.map_err(|error| around(&error))?;
        for answer in self.agent_side.records(now).await?.chunks_exact(3) {
            if let Some(demand) = demanded.get_mut(&answer[0]) {
                demand.now = String::from_utf8_lossy(&answer[2]).into_owned();
            }
        }
        Ok(demanded)
    }

    /// Finds out whether the filter wrote the content of a file. Cheap tests come first; the smudge filter runs last,
    /// because it may be slow.
    async fn origin(&self, blob: &Blob, demand: &Demand) -> Result<Origin, GitError> {
        let (path, object) = blob;
        let mut content = tempfile::tempfile().map_err(|error| around(&error))?;
        let call = self.agent_side.call(["cat-file", "blob"]).arg(object);
        let size = self.write(call, &mut content).await?;
        // Filters leave empty files as they are.
        if size == 0 {
            return Ok(Origin::Filter);
        }
        if demand.filter == "lfs" {
            let is_text = demand.now == "lfs" && !is_lfs_pointer(&content, size);
            return Ok(if is_text {
                Origin::Text
            } else {
                Origin::Filter
            });
        }
        if demand.is_dropped() || self.filters.is_missing(&demand.filter) {
            return Ok(Origin::Text);
        }
        let Ok(cleaned) = self.hash(path, &content, &[]).await else {
            return Ok(Origin::Text);
        };
        if cleaned == *object || self.is_in_base(blob).await? {
            return Ok(Origin::Filter);
        }
        let present = self.present(path, demand).await?;
        if present.unchanged.as_ref() == Some(object) {
            return Ok(Origin::Text);
        }
        if present.cleaned.as_ref() == Some(object) {
            return Ok(Origin::Filter);
        }
        let Some(smudged) = self.smudged(path, object, demand).await? else {
            return Ok(Origin::Text);
        };
        if smudged == *object {
            return Ok(Origin::Text);
        }
        if present.converted.as_ref() == Some(&smudged) {
            return Ok(Origin::Filter);
        }
        Ok(match self.smudged(path, &smudged, demand).await? {
            Some(again) if again != smudged => Origin::Unknown,
            _ => Origin::Filter,
        })
    }

    /// The object that the smudge filter makes of an object; `None` if the filter rejects it. Line endings are as in
    /// the repository.
    async fn smudged(
        &self,
        path: &[u8],
        object: &str,
        demand: &Demand,
    ) -> Result<Option<String>, GitError> {
        let mut smudged = tempfile::tempfile().map_err(|error| around(&error))?;
        let call = self.agent_side.call(["cat-file", "--filters"]);
        let call = call.configuration(&self.filters.overrides);
        let call = call.arg(option_path(path)).arg(object);
        match self.write(call, &mut smudged).await {
            Err(error) if error.was_stopped => return Err(error),
            Err(_) => return Ok(None),
            Ok(_) => {}
        }
        // Without the filter, so that only line endings are converted back.
        let without_filter = Filters::turned_off(&demand.filter);
        self.hash(path, &smudged, &without_filter).await.map(Some)
    }

    /// The hash of the object that `git add` would make of a content.
    async fn hash(
        &self,
        path: &[u8],
        content: &File,
        configuration: &[(String, String)],
    ) -> Result<String, GitError> {
        let call = self.agent_side.call(["hash-object", "-w", "--stdin"]);
        let call = call
            .arg(option_path(path))
            .configuration(&self.filters.overrides)
            .configuration(configuration);
        let call = call.input_file(content).map_err(|error| around(&error))?;
        self.agent_side.git.run(call).await
    }

    /// The file of the working tree, as objects. All fields are `None` if there is no regular file.
    async fn present(&self, path: &[u8], demand: &Demand) -> Result<Present, GitError> {
        let mut present = Present::default();
        let name = self.agent_side.workspace.join(OsStr::from_bytes(path));
        let Ok(file) = open_regular(&name, u64::MAX) else {
            return Ok(present);
        };
        let call = self
            .agent_side
            .call(["hash-object", "--no-filters", "--stdin"]);
        let call = call.input_file(&file).map_err(|error| around(&error))?;
        present.unchanged = self.agent_side.git.run(call).await.ok();
        present.cleaned = self.hash(path, &file, &[]).await.ok();
        let without_filter = Filters::turned_off(&demand.filter);
        present.converted = self.hash(path, &file, &without_filter).await.ok();
        Ok(present)
    }

    /// Whether the base has the same file, so that it is public already.
    async fn is_in_base(&self, (path, object): &Blob) -> Result<bool, GitError> {
        let mut name = OsString::from(format!("{}:", self.base));
        name.push(OsStr::from_bytes(path));
        let call = self.agent_side.call(["rev-parse", "--verify", "--quiet"]);
        match self.agent_side.git.run(call.arg(name)).await {
            Err(error) if error.was_stopped => Err(error),
            found => Ok(found.is_ok_and(|found| found == *object)),
        }
    }

    /// Writes the output of a command into a file; returns its size in bytes.
    async fn write(&self, call: Call<'_>, file: &mut File) -> Result<u64, GitError> {
        let (mut written, mut size) = (Ok(()), 0);
        let mut on_output = |bytes: &[u8]| {
            size += bytes.len() as u64;
            if written.is_ok() {
                written = file.write_all(bytes);
            }
        };
        self.agent_side.git.stream(call, &mut on_output).await?;
        written.map_err(|error| around(&error))?;
        Ok(size)
    }
}

/// The origin of the content of a file in a commit.
enum Origin {
    /// The filter wrote it.
    Filter,
    /// Plain text that did not pass the filter.
    Text,
    /// The filter changes any text, and the file in the working tree is not the text that it would have changed.
    Unknown,
}

/// A file of the working tree, as the objects that git could make of it.
#[derive(Debug, Default)]
struct Present {
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

/// What attributes say about one path.
struct Demand {
    /// The filter that the base's attributes name.
    filter: String,
    /// The filter that applies in the working tree.
    now: String,
}

impl Demand {
    /// Whether the agent has removed the filter. A file may leave Git LFS, because LFS does not keep its content
    /// secret.
    fn is_dropped(&self) -> bool {
        self.filter != self.now && self.filter != "lfs"
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
