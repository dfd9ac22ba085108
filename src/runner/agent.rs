//! The agents: each one builds a command, reads what it prints, and judges how it ended.
//!
//! An agent knows no signals and spawns nothing by itself; `process` does both. A further kind is
//! one file beside these and one line in [`KINDS`].

mod builtin;
mod claude_code;
mod command;
mod kind;
mod streaming;

use crate::scud::AgentDefinition;
use crate::task::{Failure, Reason};
use kind::Made;
pub use kind::{Agent, Kind, Place, Sandbox, Settings};

/// The word of the kind that runs any command line.
pub const COMMAND: &str = command::KIND.word;

/// The kinds there are, in the order in which `auto` looks for one that suits.
pub static KINDS: [&Kind; 3] = [&command::KIND, &claude_code::KIND, &builtin::KIND];

/// The kind that will work, as far as the settings say: the one they ask for, or the first that
/// suits and lacks nothing.
pub fn chosen(settings: &Settings) -> Option<&'static Kind> {
    settings.kind.or_else(|| {
        let mut suiting = suiting(settings);
        suiting.find(|kind| (kind.make)(settings, None).is_ok())
    })
}

fn suiting(settings: &Settings) -> impl Iterator<Item = &'static Kind> {
    KINDS.into_iter().filter(|kind| (kind.suits)(settings))
}

/// The agent that the settings and the agent definition ask for: a given kind, or the first that
/// suits and lacks nothing.
pub fn choose(settings: &Settings, definition: Option<&AgentDefinition>) -> Made {
    if let Some(kind) = settings.kind {
        return (kind.make)(settings, definition);
    }
    let mut lacking = None;
    for kind in suiting(settings) {
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
