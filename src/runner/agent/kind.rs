//! What every kind of agent is: how it is chosen and made, what it is asked, where it works.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::environment::Variables;
use crate::model::{Access, Limits};
use crate::process::{AfterRead, Ending, Program, StartError};
use crate::programs::on_path;
use crate::runner::output::Live;
use crate::scud::AgentDefinition;
use crate::task::{AgentReport, Failure};

/// A kind of agent.
pub struct Kind {
    /// Its word, in the settings and on the wire.
    pub word: &'static str,
    /// Whether `auto` takes it.
    pub(super) suits: fn(&Settings) -> bool,
    /// Makes one, or says what it lacks.
    pub(super) make: fn(&Settings, Option<&AgentDefinition>) -> Made,
}

/// An agent, or what it lacks.
pub(super) type Made = Result<Box<dyn Agent>, Failure>;

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word)
    }
}

/// What the settings say about the agent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `None` for whichever suits.
    pub kind: Option<&'static Kind>,
    pub command: Option<String>,
    pub model: Option<String>,
    pub limits: Limits,
    /// What it needs to reach its model; the checks don't get it.
    pub access: Access,
    /// Where it finds its programs.
    pub path: OsString,
    /// Whether this machine is there to be broken (`IS_SANDBOX`), by the word of who set it up.
    pub sandbox: Sandbox,
    /// How long its model's service may stay out of reach; `None` for ever.
    pub patience: Option<Duration>,
}

/// Who the worker is, for programs that mind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// A user without power over the machine.
    User,
    /// Root, on a machine that is declared a sandbox.
    DeclaredRoot,
    Root,
}

/// Something that can be set to work on a prompt, once or, after repairs, several times.
pub trait Agent {
    /// What is known of it so far.
    fn report(&self) -> AgentReport;

    /// What to start for the next round. The prompt is added by the caller: on stdin, and as a
    /// file. An error where there is nothing left to start it with.
    fn program(&mut self, place: Place<'_>) -> Result<Program, Failure>;

    /// Reads what it printed on standard output, cut anywhere, and tells of it.
    fn hear(&mut self, bytes: &[u8], live: &mut Live<'_>) -> AfterRead;

    /// What the end of the round means.
    fn judge(&mut self, ending: Result<Ending, StartError>) -> Result<(), Failure>;

    /// Its own last words, where it has some beside what it printed.
    fn last_words(&self) -> Option<String>;
}

/// Where an agent works.
#[derive(Debug)]
pub struct Place<'a> {
    /// The workspace.
    pub dir: &'a Path,
    /// A directory of the run's own, for what the agent has to keep from one round to the next.
    pub own: PathBuf,
    pub environment: Variables,
    /// How the agent reaches its model; turned into variables when its process is about to start.
    pub access: &'a Access,
}

impl Settings {
    /// Where a program with this name is on the agent's `PATH`.
    pub(super) fn find(&self, program: &str) -> Option<PathBuf> {
        on_path(&self.path, program)
    }
}

/// The model that the settings name, else the agent definition's where that one is for the
/// agent's kind: what another harness calls a model means nothing here.
pub(super) fn model(
    settings: &Settings,
    definition: Option<&AgentDefinition>,
    harnesses: &[&str],
) -> Option<String> {
    let defined = || {
        let definition = definition?;
        let model = definition.model.clone()?;
        let ours = definition
            .harness
            .as_deref()
            .is_none_or(|harness| harnesses.contains(&harness));
        if !ours {
            tracing::warn!(
                model,
                harness = definition.harness,
                "the agent definition's model is another harness's, so it is not taken"
            );
        }
        ours.then_some(model)
    };
    settings.model.clone().or_else(defined)
}
