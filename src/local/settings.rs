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
    /// The settings that were given as flags. They become environment variables of the worker.
    pub variables: Vec<(&'static str, OsString)>,
    pub agent: Agent,
    /// The environment for the demo's git, from this process.
    pub environment: Variables,
    /// The directories that lock files may be in, the preferred one first.
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
    /// A directory that stays as it is: the worker clones its git repository, and pushes the work to a branch of it.
    Committed(PathBuf),
    /// A repository, which the worker clones and pushes to.
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

/// The path of the git repository whose working tree a directory is.
pub fn repository_of(dir: &Path) -> eyre::Result<String> {
    let shown = dir.display();
    let absolute = std::fs::canonicalize(dir).wrap_err_with(|| {
        format!("cannot use the project's directory {shown}; name another one with --project")
    })?;
    if !absolute.join(".git").exists() {
        bail!(
            "--commit needs a git repository, and {shown} has no .git; run `git init` and commit the project there, \
             or name another directory with --project, or leave --commit out to change the directory in place"
        );
    }
    match absolute.to_str() {
        Some(path) => Ok(path.to_owned()),
        None => bail!("--commit needs a directory whose name is UTF-8, and {shown} is not"),
    }
}

/// Whether a working tree of a repository has a branch checked out. Pushing to it would leave that tree behind its
/// branch.
pub fn is_checked_out(dir: &Path, branch: &str) -> bool {
    let git = dir.join(".git");
    // In a second working tree, `.git` is a file that names the directory.
    let named = std::fs::read_to_string(&git).ok();
    let named = named.and_then(|text| Some(dir.join(text.strip_prefix("gitdir: ")?.trim_end())));
    let own = named.unwrap_or(git);
    let common = std::fs::read_to_string(own.join("commondir")).ok();
    let common = common.map_or_else(|| own.clone(), |path| own.join(path.trim_end()));
    let others = std::fs::read_dir(common.join("worktrees"));
    let others = others.into_iter().flatten().flatten();
    let trees = others.map(|tree| tree.path()).chain([own, common.clone()]);
    let head = format!("ref: refs/heads/{branch}");
    trees
        .filter_map(|tree| std::fs::read_to_string(tree.join("HEAD")).ok())
        .any(|text| text.trim_end() == head)
}

/// The agent that the worker will use.
#[derive(Debug, Clone, Copy)]
pub enum Agent {
    /// The agent that the settings name.
    Chosen,
    /// The settings name no agent, but there is a key. The worker will use this kind of agent: the first that can use
    /// the key.
    Known(&'static Kind),
    /// The settings name no agent, and there is no key.
    Absent,
}
