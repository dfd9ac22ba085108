//! The settings of `local` and `demo`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use eyre::{WrapErr, bail};

use crate::environment::Variables;
use crate::runner::agent::Kind;
use crate::terminal::Format;

/// The settings for a worker with a built-in orchestrator.
#[derive(Debug)]
pub struct Settings {
    /// The project. The demo replaces it by its sample project.
    pub project: Project,
    pub task: String,
    /// The phase of the task, if `task` names none.
    pub tag: Option<String>,
    pub project_id: String,
    /// The settings from flags. They become environment variables of the worker.
    pub variables: Vec<(&'static str, OsString)>,
    /// Whether the user has set `DESCARTES_HEARTBEAT`.
    pub has_heartbeat_interval: bool,
    pub agent: Agent,
    /// The environment for the demo's git, from this process.
    pub environment: Variables,
    /// The directories in which lock files may be, the preferred one first.
    pub lock_dirs: Vec<PathBuf>,
    pub format: Format,
    /// Where to write a page about the run at the end.
    pub report: Option<PathBuf>,
}

/// The project that the worker works on.
#[derive(Debug)]
pub enum Project {
    /// A directory, which the worker changes in place.
    InPlace(PathBuf),
    /// A directory that the worker does not change (`--commit`): the worker clones its git repository, and pushes the
    /// work to a branch of that repository.
    Committed(PathBuf),
    /// A repository, which the worker clones and pushes to. `into` is the directory of the clone; `None` is a new
    /// temporary directory.
    Cloned { url: String, into: Option<PathBuf> },
}

impl Project {
    /// The directory that the worker changes in place.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::InPlace(dir) => Some(dir),
            Self::Committed(_) | Self::Cloned { .. } => None,
        }
    }

    /// The repository that the worker clones.
    ///
    /// # Errors
    /// If the directory of [`Self::Committed`] has no repository.
    pub fn repository(&self) -> eyre::Result<Option<String>> {
        match self {
            Self::InPlace(_) => Ok(None),
            Self::Cloned { url, .. } => Ok(Some(url.clone())),
            Self::Committed(dir) => repository_of(dir).map(Some),
        }
    }
}

/// The path of the git repository whose working tree the directory is.
///
/// # Errors
/// If the directory is not the working tree of a repository.
pub fn repository_of(dir: &Path) -> eyre::Result<String> {
    let shown_dir = dir.display();
    let absolute = std::fs::canonicalize(dir).wrap_err_with(|| {
        format!("cannot use the project's directory {shown_dir}; name another one with --project")
    })?;
    if !absolute.join(".git").exists() {
        bail!(
            "--commit needs a git repository, and {shown_dir} has no .git; run `git init` and commit the project there, \
             or name another directory with --project, or leave --commit out to change the directory in place"
        );
    }
    match absolute.to_str() {
        Some(path) => Ok(path.to_owned()),
        None => bail!("--commit needs a directory whose name is UTF-8, and {shown_dir} is not"),
    }
}

/// Whether a working tree of a repository has a branch checked out. Pushing to it would leave that tree behind its
/// branch.
pub fn is_checked_out(dir: &Path, branch: &str) -> bool {
    let dot_git = dir.join(".git");
    // In a working tree that `git worktree` has added, `.git` is a file that names the directory.
    let named_dir = std::fs::read_to_string(&dot_git).ok();
    let named_dir =
        named_dir.and_then(|text| Some(dir.join(text.strip_prefix("gitdir: ")?.trim_end())));
    let git_dir = named_dir.unwrap_or(dot_git);
    let common_dir = std::fs::read_to_string(git_dir.join("commondir")).ok();
    let common_dir =
        common_dir.map_or_else(|| git_dir.clone(), |path| git_dir.join(path.trim_end()));
    let added_trees = std::fs::read_dir(common_dir.join("worktrees"));
    let added_trees = added_trees.into_iter().flatten().flatten();
    let git_dirs = added_trees
        .map(|entry| entry.path())
        .chain([git_dir, common_dir.clone()]);
    let head = format!("ref: refs/heads/{branch}");
    git_dirs
        .filter_map(|git_dir| std::fs::read_to_string(git_dir.join("HEAD")).ok())
        .any(|text| text.trim_end() == head)
}

/// The agent that the worker will use.
#[derive(Debug, Clone, Copy)]
pub enum Agent {
    /// The agent that the settings name.
    FromSettings,
    /// The settings name no agent, but there is a key. The worker will use this kind of agent: the first one that can
    /// use the key.
    FromKey(&'static Kind),
    /// The settings name no agent, and there is no key.
    None,
}
