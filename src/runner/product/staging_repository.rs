//! The repository in which the work is staged, used with the agent's environment and a copy of its index.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::files;
use super::inspect::MAX_FILE_SIZE;
use super::records::Records;
pub use super::references::References;
use crate::environment::Variables;
use crate::git::{Call, Git, GitError};

/// Larger index files are not copied.
const MAX_INDEX_SIZE: u64 = 1024 * 1024 * 1024;

/// A larger index is copied in another thread, so that the heartbeats continue.
const MAX_SIZE_WITHOUT_THREAD: u64 = 1024 * 1024;

/// The variables that tell git where its files are. The operator may pass them to the agent.
const LOCATION_VARIABLES: [&str; 6] = [
    "GIT_DIR",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_WORK_TREE",
    "GIT_REFERENCE_BACKEND",
];

/// The largest configuration file that the worker reads, in bytes. git itself reads larger files.
const MAX_CONFIG_SIZE: u64 = 64 * 1024;

/// Which repository the work is staged in. Its working tree is the workspace.
#[derive(Debug, Clone, Copy)]
pub enum RepositoryChoice<'a> {
    /// The agent's own repository.
    Agents,
    /// A repository of the worker, if the agent's is damaged. It has the objects of the base, and its index is the file
    /// `index`.
    Replacement { git_dir: &'a Path, index: &'a Path },
}

/// The entries of an index that need special care.
#[derive(Debug, Default)]
pub struct Listing {
    /// The paths of submodules.
    pub gitlinks: BTreeSet<Vec<u8>>,
    /// The paths with the flag assume-unchanged or skip-worktree: git counts them as unchanged without reading them.
    pub flagged: BTreeSet<Vec<u8>>,
    /// The files that are too large for a commit. git must not read them: that takes minutes, and the worker does not
    /// push them.
    pub large: BTreeSet<Vec<u8>>,
    /// The paths of `large` that are in the index.
    pub tracked_large: BTreeSet<Vec<u8>>,
}

/// The error if a file for `git add` cannot be written or read.
pub fn add_error(error: &io::Error) -> GitError {
    GitError::from_io("add", "could not be prepared", error)
}

/// The repository in which the work is staged, with a copy of its index and a separate directory for new objects.
pub struct StagingRepository<'a> {
    pub git: &'a Git<'a>,
    pub workspace: &'a Path,
    variables: Variables,
    /// Whether git's files are where they usually are, in the directory `.git` of the workspace.
    pub has_usual_layout: bool,
}

impl<'a> StagingRepository<'a> {
    /// Opens the repository. Copies the index into `dir`, and makes a directory for new objects in `dir`.
    pub async fn open(
        git: &'a Git<'a>,
        workspace: &'a Path,
        choice: RepositoryChoice<'_>,
        dir: &Path,
    ) -> Result<Self, GitError> {
        let mut repository = Self {
            git,
            workspace,
            variables: Vec::new(),
            has_usual_layout: false,
        };
        repository.has_usual_layout =
            matches!(choice, RepositoryChoice::Agents) && repository.detect_usual_layout();
        // If the agent removed `.git`, git must not use a repository in a parent directory instead.
        if let Some(parent) = workspace.parent() {
            repository.set_variable("GIT_CEILING_DIRECTORIES", parent);
        }
        if let RepositoryChoice::Replacement { git_dir, .. } = choice {
            repository.set_variable("GIT_DIR", git_dir);
            repository.set_variable("GIT_WORK_TREE", workspace);
        }
        let (objects, source_index) = repository.objects_and_index(choice).await?;
        let index = dir.join("index");
        let target = index.clone();
        let found = fs::symlink_metadata(&source_index);
        let is_small = found.is_ok_and(|found| found.len() <= MAX_SIZE_WITHOUT_THREAD);
        let copy = move || files::copy_regular(&source_index, &target, MAX_INDEX_SIZE);
        let copied = if is_small {
            Ok(copy())
        } else {
            tokio::task::spawn_blocking(copy).await
        };
        copied
            .map_err(|error| add_error(&io::Error::other(error)))?
            .map_err(|error| GitError::from_io("add", "could not read the index", &error))?;
        let new_objects = dir.join("objects");
        let made = fs::create_dir(&new_objects).and_then(|()| git.make_agent_owner_of(dir));
        made.map_err(|error| add_error(&error))?;
        repository.set_variable("GIT_INDEX_FILE", &index);
        repository.set_variable("GIT_OBJECT_DIRECTORY", &new_objects);
        let alternates = quoted_for_a_list(&objects);
        repository.set_variable("GIT_ALTERNATE_OBJECT_DIRECTORIES", alternates);
        Ok(repository)
    }

    /// The paths of the directory of objects and of the index.
    async fn objects_and_index(
        &self,
        choice: RepositoryChoice<'_>,
    ) -> Result<(PathBuf, PathBuf), GitError> {
        let source_index = match choice {
            RepositoryChoice::Agents if self.has_usual_layout => {
                let git_dir = self.workspace.join(".git");
                return Ok((git_dir.join("objects"), git_dir.join("index")));
            }
            RepositoryChoice::Agents => None,
            RepositoryChoice::Replacement { index, .. } => Some(index.to_owned()),
        };
        let paths = ["rev-parse", "--git-path", "objects", "--git-path", "index"];
        let paths = self.run(paths).await?;
        let (objects, index) = paths.split_once('\n').unwrap_or((&paths, "index"));
        let index = source_index.unwrap_or_else(|| self.workspace.join(index));
        Ok((self.workspace.join(objects), index))
    }

    /// Whether git finds the objects, the index and the references in `.git` of the workspace: `.git` is a directory
    /// and not a link, it does not belong to a linked working tree, and neither a variable nor the configuration names
    /// another place.
    fn detect_usual_layout(&self) -> bool {
        let git_dir = self.workspace.join(".git");
        let is_absent = |name| {
            let found = fs::symlink_metadata(git_dir.join(name));
            found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        let is_file = fs::symlink_metadata(git_dir.join("HEAD")).is_ok_and(|head| head.is_file());
        let names_no_place = !LOCATION_VARIABLES
            .iter()
            .any(|name| self.git.has_variable(name));
        files::is_directory(&git_dir)
            && files::is_directory(&git_dir.join("objects"))
            && files::is_directory(&git_dir.join("refs"))
            && is_file
            && is_absent("commondir")
            && is_absent("config.worktree")
            && keeps_references_in_files(&git_dir.join("config"))
            && names_no_place
    }

    fn set_variable(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.variables.push((name.into(), value.as_ref().into()));
    }

    /// A call of git with the variables of this repository.
    pub fn call(&self, args: impl IntoIterator<Item = &'static str>) -> Call<'_> {
        Call::new(self.workspace, args).variables(&self.variables)
    }

    pub async fn run(
        &self,
        args: impl IntoIterator<Item = &'static str>,
    ) -> Result<String, GitError> {
        self.git.run(self.call(args)).await
    }

    /// Runs a call; returns the NUL-terminated records that git prints.
    pub async fn records(&self, call: Call<'_>) -> Result<Vec<Vec<u8>>, GitError> {
        let (mut records, mut found) = (Records::new(0), Vec::new());
        let mut on_output =
            |bytes: &[u8]| records.push(bytes, |record| found.push(record.to_vec()));
        self.git.stream(call, &mut on_output).await?;
        Ok(found)
    }

    /// Every reference with its object.
    pub async fn references(&self) -> Result<References, GitError> {
        if self.has_usual_layout
            && let Some(found) = References::read(&self.workspace.join(".git"))
        {
            return Ok(found);
        }
        let (mut records, mut found) = (Records::new(b'\n'), References::default());
        let mut on_output = |bytes: &[u8]| {
            records.push(bytes, |record| {
                let text = String::from_utf8_lossy(record);
                match text.split_once(' ') {
                    Some((commit, "HEAD")) => found.head = Some(commit.to_owned()),
                    Some((commit, name)) => found.all.push((name.to_owned(), commit.to_owned())),
                    None => {}
                }
            });
        };
        match self
            .git
            .stream(self.call(["show-ref", "--head"]), &mut on_output)
            .await
        {
            // Exit code 1: there is no reference.
            Err(error) if error.exit_code != Some(1) => Err(error),
            _ => Ok(found),
        }
    }

    /// The other commit of an unfinished merge.
    pub async fn merge_head(&self) -> Result<Option<String>, GitError> {
        if fs::symlink_metadata(self.workspace.join(".git/MERGE_HEAD")).is_err() {
            return Ok(None);
        }
        let args = ["rev-parse", "--verify", "--quiet", "MERGE_HEAD^{commit}"];
        match self.run(args).await {
            Ok(commit) => Ok(Some(commit)),
            Err(error) if error.exit_code == Some(1) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists the index and the untracked files.
    pub async fn listing(&self) -> Result<Listing, GitError> {
        let (mut records, mut found) = (Records::new(0), Listing::default());
        let workspace = self.workspace;
        let mut on_output =
            |bytes: &[u8]| records.push(bytes, |record| found.add(record, workspace));
        let args = ["ls-files", "--cached", "--others", "--exclude-standard"];
        let call = self
            .call(args)
            .args(["--stage", "-v", "-z"].map(Into::into));
        self.git.stream(call, &mut on_output).await?;
        Ok(found)
    }
}

impl Listing {
    /// Reads `<tag> <mode> <object> <stage>`, a tab, the path; or `? <path>`, which is not in the index.
    fn add(&mut self, record: &[u8], workspace: &Path) {
        let (head, path) = match record.strip_prefix(b"? ") {
            Some(path) => (&b"?"[..], path),
            None => match record.iter().position(|byte| *byte == b'\t') {
                Some(at) => (&record[..at], &record[at + 1..]),
                None => return,
            },
        };
        let found = fs::symlink_metadata(workspace.join(OsStr::from_bytes(path)));
        if found.is_ok_and(|found| found.is_file() && found.len() > MAX_FILE_SIZE) {
            self.large.insert(path.to_vec());
            if head != b"?" {
                self.tracked_large.insert(path.to_vec());
            }
        }
        let mut words = head.split(|byte| *byte == b' ');
        let tag = words.next().and_then(<[u8]>::first).copied();
        if words.next() == Some(b"160000") {
            self.gitlinks.insert(path.to_vec());
        }
        if tag.is_some_and(|tag| tag.is_ascii_lowercase() || tag == b'S') {
            self.flagged.insert(path.to_vec());
        }
    }
}

/// A path as an element of `GIT_ALTERNATE_OBJECT_DIRECTORIES`, which is separated by colons.
fn quoted_for_a_list(path: &Path) -> OsString {
    let mut quoted = vec![b'"'];
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    OsString::from_vec(quoted)
}

/// Whether a repository stores its references in files, according to its configuration file. Also false if that file
/// cannot be read, or includes another one.
fn keeps_references_in_files(config: &Path) -> bool {
    let text = files::open_regular(config, MAX_CONFIG_SIZE).and_then(io::read_to_string);
    text.is_ok_and(|text| {
        let text = text.to_ascii_lowercase();
        !text.contains("refstorage") && !text.contains("[include")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::samples::git;

    #[test]
    fn references_are_read_from_files_only_if_the_configuration_keeps_them_there() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join(".git/config");
        git(dir.path(), &["init", "--quiet"]);
        assert!(keeps_references_in_files(&config));
        for key in [
            "extensions.refStorage",
            "include.path",
            "includeIf.gitdir:/.path",
        ] {
            let text = fs::read(&config).unwrap();
            git(dir.path(), &["config", key, "elsewhere"]);
            assert!(!keeps_references_in_files(&config), "{key}");
            fs::write(&config, text).unwrap();
        }
        fs::write(&config, "#".repeat(70_000)).unwrap();
        assert!(!keeps_references_in_files(&config));
    }
}
