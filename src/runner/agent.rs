//! The agents: each one builds a command, reads what it prints, and judges how it ended.
//!
//! An agent knows no signals and spawns nothing by itself; `process` does both. A further kind is
//! one file beside these and one line in [`KINDS`].

mod builtin;
mod claude_code;
mod command;
mod streaming;
mod transcript;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::output::Live;
use super::process::{self, Ending, Heard, Program, StartError};
use super::{Variables, stopped, timed_out, written};
use crate::programs::on_path;
use crate::scud::AgentDefinition;
use crate::task::{AgentReport, Failure, Reason};

/// The kinds there are, in the order in which `auto` looks for one that suits.
pub static KINDS: [&Kind; 3] = [&command::KIND, &claude_code::KIND, &builtin::KIND];

/// A kind of agent.
pub struct Kind {
    /// Its word, in the settings and on the wire.
    pub word: &'static str,
    /// Whether `auto` takes it.
    suits: fn(&Settings) -> bool,
    /// Makes one, or says what it lacks.
    make: fn(&Settings, Option<&AgentDefinition>) -> Made,
}

/// An agent, or what it lacks.
type Made = Result<Box<dyn Agent>, Failure>;

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
    pub limits: Budget,
    /// What it needs to reach its model; the checks don't get these.
    pub variables: Variables,
    /// Where it finds its programs.
    pub path: OsString,
    /// Whether this machine is there to be broken (`IS_SANDBOX`), by the word of who set it up.
    pub sandbox: Sandbox,
    /// How long its model's service may stay out of reach; `None` for ever.
    pub patience: Option<Duration>,
}

/// How much the agent may take, all its rounds together; for the agents that know such limits.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Budget {
    /// Answers of the model.
    pub turns: Option<u32>,
    /// US dollars.
    pub usd: Option<f64>,
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
    fn hear(&mut self, bytes: &[u8], live: &mut Live<'_>) -> Heard;

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
}

impl Settings {
    /// The kind that will work, as far as the settings say: the one they ask for, or the first
    /// that suits and lacks nothing.
    pub fn chosen(&self) -> Option<&'static Kind> {
        self.kind.or_else(|| {
            let mut suiting = self.suiting();
            suiting.find(|kind| (kind.make)(self, None).is_ok())
        })
    }

    fn suiting(&self) -> impl Iterator<Item = &'static Kind> {
        KINDS.into_iter().filter(|kind| (kind.suits)(self))
    }

    fn has(&self, variable: &str) -> bool {
        self.variables.iter().any(|(name, _)| name == variable)
    }

    fn find(&self, program: &str) -> Option<PathBuf> {
        on_path(&self.path, program)
    }
}

/// The agent that the settings and the agent definition ask for: a given kind, or the first that
/// suits and lacks nothing.
pub fn choose(settings: &Settings, definition: Option<&AgentDefinition>) -> Made {
    if let Some(kind) = settings.kind {
        return (kind.make)(settings, definition);
    }
    let mut lacking = None;
    for kind in settings.suiting() {
        match (kind.make)(settings, definition) {
            Ok(agent) => {
                if let Some(failure) = &lacking {
                    let Failure { message, .. } = failure;
                    tracing::warn!("the agent is {}, because {message}", kind.word);
                }
                return Ok(agent);
            }
            Err(failure) => lacking = lacking.or(Some(failure)),
        }
    }
    Err(lacking.unwrap_or_else(|| {
        Failure::new(
            Reason::AgentNotFound,
            "there is no agent to run: set DESCARTES_AGENT_COMMAND to the command that starts one, \
             or ANTHROPIC_API_KEY for one that the worker knows",
        )
    }))
}

/// The model that the settings name, else the agent definition's where that one is for the
/// agent's kind: what another harness calls a model means nothing here.
fn model(
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

/// The exit code of an agent that ended by itself; for any other end, what it means for every kind.
fn exit_code(ending: Result<Ending, StartError>) -> Result<i32, Failure> {
    let failure = match ending {
        Ok(Ending::Exited(code)) => return Ok(code),
        Ok(Ending::Killed(signal)) => Failure::new(
            Reason::AgentKilled,
            format!("the agent was killed by {}", process::name(signal)),
        ),
        Ok(Ending::OutOfMemory) => out_of_memory(),
        Ok(Ending::TimedOut(limit)) => timed_out(limit),
        Ok(Ending::Idle(limit)) => Failure::new(
            Reason::Idle,
            format!("the agent gave no sign of life for {}", written(limit)),
        ),
        Ok(Ending::Lingered) => Failure::new(Reason::AgentFailed, "the agent did not end"),
        Ok(Ending::Stopped(why)) => stopped(&why),
        Err(error @ (StartError::NotFound { .. } | StartError::NotExecutable { .. })) => {
            Failure::because(Reason::AgentNotFound, &error)
        }
        Err(error @ StartError::Directory { .. }) => {
            Failure::because(Reason::WorkspaceFailed, &error)
        }
        // The machine lacks something (processes, memory); another one may not.
        Err(error @ StartError::Other { .. }) => Failure {
            retryable: true,
            ..Failure::because(Reason::AgentFailed, &error)
        },
    };
    Err(failure)
}

fn out_of_memory() -> Failure {
    Failure::new(
        Reason::OutOfMemory,
        "the machine ran out of memory, and the kernel killed a process of the agent's",
    )
}

/// A variable for a child's environment.
fn variable(name: &str, value: impl AsRef<OsStr>) -> (OsString, OsString) {
    (name.into(), value.as_ref().to_owned())
}
