//! The settings of `demo` and `local`.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::environment::Variables;
use crate::runner::agent::Kind;

/// The settings for a worker with an embedded orchestrator.
#[derive(Debug)]
pub struct Settings {
    /// The project; the demo makes its own one.
    pub project: Project,
    pub task: String,
    /// The phase of the task, if `task` names none.
    pub tag: Option<String>,
    pub project_id: String,
    /// The settings that were given as flags, as variables for the worker.
    pub variables: Vec<(&'static str, OsString)>,
    pub agent: Agent,
    /// The variables of this process that the demo's git gets.
    pub environment: Variables,
    /// The directories that lock files may be in, the preferred one first.
    pub lock_dirs: Vec<PathBuf>,
    /// Where to write a page about the run at the end.
    pub report: Option<PathBuf>,
}

/// The project that the worker works on.
#[derive(Debug)]
pub enum Project {
    /// A directory, which the worker changes in place.
    InPlace(PathBuf),
    /// A repository, which the worker clones and pushes to.
    Cloned { url: String, into: Option<PathBuf> },
}

/// The agent that the worker will use.
#[derive(Debug, Clone, Copy)]
pub enum Agent {
    /// The one that the settings name.
    Chosen,
    /// The settings name no agent, but there is a key. This is the first kind of agent that can use the key.
    Known(&'static Kind),
    /// The settings name no agent, and there is no key.
    Absent,
}
