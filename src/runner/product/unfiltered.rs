//! Finds files that commits hold as plain text although the base's attributes demand a filter for them.
//!
//! A file is plain text if the smudge filter leaves it as it is and the clean filter would change it; or if it is the same
//! as the file in the working tree and the clean filter would change it. So a filter that only cleans up, and one whose
//! output differs each time, raise no false alarm. If the filter cannot be run, every changed file counts. Not found: text in an
//! older commit if the smudge filter changes any text, so that plain text looks like the filter's output.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::agent_side::{AgentSide, around};
use super::entries::{Entry, entries_of_raw_diff};
use super::filters::Filters;
use super::lfs::{MAX_POINTER_SIZE, Pointer};
use crate::git::{Call, GitError};

/// A file of a commit: its path and its object.
pub type Blob = (Vec<u8>, String);

/// Looks at commits on the agent's side.
pub struct Search<'a> {
    agent_side: &'a AgentSide<'a>,
    filters: &'a Filters,
    base: &'a str,
    /// An index with the base's files.
    index: OsString,
}

impl<'a> Search<'a> {
    pub async fn prepare(
        agent_side: &'a AgentSide<'a>,
        filters: &'a Filters,
        base: &'a str,
        dir: &Path,
    ) -> Result<Self, GitError> {
        let index = dir.join("index-of-attributes").into_os_string();
        let search = Self {
            agent_side,
            filters,
            base,
            index,
        };
        let call = agent_side.call(["read-tree"]).arg(base);
        let call = call.variables(&search.with_index());
        agent_side.git.run(call).await?;
        Ok(search)
    }

    fn with_index(&self) -> crate::environment::Variables {
        vec![("GIT_INDEX_FILE".into(), self.index.clone())]
    }

    /// The files in the commits from the base to `tip` that are plain text, with their filters. Nothing if the commits do
    /// not stand on the base.
    pub async fn in_commits(&self, tip: &str) -> Result<BTreeMap<Blob, String>, GitError> {
        let stands = self.agent_side.call(["merge-base", "--is-ancestor"]);
        let stands = stands.arg(self.base).arg(tip);
        if tip == self.base || self.agent_side.git.run(stands).await.is_err() {
            return Ok(BTreeMap::new());
        }
        let entries = self.changes(tip).await?;
        let blobs = entries.iter().filter(|entry| entry.is_file());
        let blobs: BTreeSet<Blob> = blobs
            .map(|entry| (entry.path.clone(), entry.new_object.clone()))
            .collect();
        let paths: BTreeSet<&[u8]> = blobs.iter().map(|(path, _)| path.as_slice()).collect();
        let demanded = self.demanded(&paths).await?;
        let mut found = BTreeMap::new();
        for blob in blobs {
            if let Some(demand) = demanded.get(&blob.0)
                && self.is_plain(&blob, demand).await?
            {
                found.insert(blob, demand.filter.clone());
            }
        }
        Ok(found)
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

    async fn is_plain(&self, blob: &Blob, demand: &Demand) -> Result<bool, GitError> {
        let (path, object) = blob;
        let mut content = tempfile::tempfile().map_err(|error| around(&error))?;
        let call = self.agent_side.call(["cat-file", "blob"]).arg(object);
        let size = self.write(call, &mut content).await?;
        // Filters leave empty files as they are.
        if size == 0 {
            return Ok(false);
        }
        if demand.filter == "lfs" {
            return Ok(demand.now == "lfs" && !is_lfs_pointer(&content, size));
        }
        if demand.is_dropped() || self.filters.is_missing(&demand.filter) {
            return Ok(true);
        }
        let Ok(cleaned) = self.hash(path, &content, &[]).await else {
            return Ok(true);
        };
        if cleaned == *object {
            return Ok(false);
        }
        let mut smudged = tempfile::tempfile().map_err(|error| around(&error))?;
        let mut option = OsString::from("--path=");
        option.push(OsStr::from_bytes(path));
        let call = self.agent_side.call(["cat-file", "--filters"]);
        let call = call.arg(option).arg(object);
        if self.write(call, &mut smudged).await.is_err() {
            return Ok(true);
        }
        // Without the filter, so that only line endings are converted back.
        let without_filter = Filters::turned_off(&demand.filter);
        let converted = self.hash(path, &smudged, &without_filter).await?;
        Ok(converted == *object || self.is_in_working_tree(path, object).await?)
    }

    /// The object that `git add` would make of a content.
    async fn hash(
        &self,
        path: &[u8],
        content: &File,
        configuration: &[(String, String)],
    ) -> Result<String, GitError> {
        let mut option = OsString::from("--path=");
        option.push(OsStr::from_bytes(path));
        let call = self.agent_side.call(["hash-object", "--stdin"]).arg(option);
        let call = call
            .configured(&self.filters.overrides)
            .configured(configuration);
        let call = call.input_file(content).map_err(|error| around(&error))?;
        self.agent_side.git.run(call).await
    }

    /// Whether the file in the working tree is, byte for byte, the object.
    async fn is_in_working_tree(&self, path: &[u8], object: &str) -> Result<bool, GitError> {
        let file = self.agent_side.workspace.join(OsStr::from_bytes(path));
        if !fs::symlink_metadata(&file).is_ok_and(|found| found.is_file()) {
            return Ok(false);
        }
        let call = self.agent_side.call(["hash-object", "--no-filters", "--"]);
        let hash = self.agent_side.git.run(call.arg(file)).await;
        Ok(hash.is_ok_and(|hash| hash == object))
    }

    /// Writes what a command prints into a file; gives the size.
    async fn write(&self, call: Call<'_>, file: &mut File) -> Result<u64, GitError> {
        let (mut written, mut size) = (Ok(()), 0);
        let mut hear = |bytes: &[u8]| {
            size += bytes.len() as u64;
            if written.is_ok() {
                written = file.write_all(bytes);
            }
        };
        self.agent_side.git.stream(call, &mut hear).await?;
        written.map_err(|error| around(&error))?;
        Ok(size)
    }
}

/// What attributes say about one path.
struct Demand {
    /// The filter that the base's attributes name.
    filter: String,
    /// The filter that applies in the working tree.
    now: String,
}

impl Demand {
    /// Whether the agent has taken the filter away. A file may leave Git LFS, which hides nothing.
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
