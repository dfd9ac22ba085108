//! Where runs run. Nothing else knows an engine; a further one is a file beside this one and a line in
//! [`Engine`].
//!
//! `start` is idempotent by name: an engine finds a run of that name again. An engine that does not know says
//! so: unknown is never dead.

mod local;
mod processes;
mod spec;

use std::path::PathBuf;
use std::time::Duration;

use super::journal::Handle;
use super::state::Seen;
use local::Local;
pub use spec::Spec;

#[derive(Debug)]
pub enum Engine {
    Local(Local),
}

impl Engine {
    /// Processes of this machine, with their files in a directory.
    pub fn local(program: PathBuf, dir: PathBuf, dispatch: String) -> Self {
        Self::Local(Local::new(program, dir, dispatch))
    }

    pub fn start(&mut self, name: &str, spec: &Spec) -> eyre::Result<Handle> {
        match self {
            Self::Local(engine) => engine.start(name, spec),
        }
    }

    pub fn look(&mut self, name: &str, handle: &Handle) -> Seen {
        match self {
            Self::Local(engine) => engine.look(name, handle),
        }
    }

    /// Ends a run: a stop signal, and after the grace period a kill. Returns at once.
    pub fn stop(&mut self, handle: &Handle, grace: Duration) {
        match self {
            Self::Local(_) => Local::stop(handle, grace),
        }
    }

    /// Everything of this dispatch that the engine has, by name.
    pub fn sweep(&self) -> Vec<(String, Handle)> {
        match self {
            Self::Local(engine) => engine.sweep(),
        }
    }

    /// The file with what a run has written to standard output.
    pub fn output(&self, name: &str) -> PathBuf {
        match self {
            Self::Local(engine) => engine.output(name),
        }
    }

    /// The file with what a run has written to standard error.
    pub fn log(&self, name: &str) -> PathBuf {
        match self {
            Self::Local(engine) => engine.log(name),
        }
    }
}
