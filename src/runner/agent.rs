//! The kinds of agents: each builds a command, reads its output, and decides whether it succeeded.
//!
//! Agents start no processes and send no signals; `process` does both. To add a kind, add a file in
//! this directory and an entry in [`KINDS`].

mod builtin;
mod claude_code;
mod codex;
mod command;
mod kind;
mod streaming;

use crate::model::Provider;
use crate::scud::AgentDefinition;
use crate::task::{Failure, Reason};
use kind::NewAgent;
pub use kind::{Agent, Kind, ProgramContext, RootStatus, Settings};

/// The name of the kind that runs any command line.
pub const COMMAND: &str = command::KIND.word;

/// All kinds, in the order in which `auto` tries them.
pub static KINDS: [&Kind; 3] = [&command::KIND, &claude_code::KIND, &builtin::KIND];

/// The kind that the settings of the operator decide; `None` if the project may choose the kind. The project cannot
/// replace the operator's command.
pub fn decided_kind(settings: &Settings) -> Option<&'static Kind> {
    let has_command = settings.command.is_some();
    settings.kind.or(has_command.then_some(&command::KIND))
}

/// The kind that the settings select, or the first candidate that has everything it needs.
pub fn selected_kind(settings: &Settings) -> Option<&'static Kind> {
    settings.kind.or_else(|| {
        let mut candidates = candidates(settings);
        candidates.find(|kind| (kind.create)(settings, None).is_ok())
    })
}

/// The provider of the only service that agents of a kind use; `None` if they can use any.
pub fn only_provider(kind: &str) -> Option<&'static Provider> {
    let mut kinds = KINDS.into_iter();
    kinds.find(|known| known.word == kind)?.only_provider
}

fn candidates(settings: &Settings) -> impl Iterator<Item = &'static Kind> {
    KINDS
        .into_iter()
        .filter(|kind| (kind.is_candidate)(settings))
}

/// Creates an agent of the kind that the settings select, or of the first candidate that has
/// everything it needs.
pub fn create(settings: &Settings, definition: Option<&AgentDefinition>) -> NewAgent {
    if let Some(kind) = settings.kind {
        return (kind.create)(settings, definition);
    }
    let mut first_failure = None;
    for kind in candidates(settings) {
        match (kind.create)(settings, definition) {
            Ok(agent) => {
                if let Some(failure) = &first_failure {
                    let Failure { message, .. } = failure;
                    tracing::warn!("the agent is {}, because {message}", kind.word);
                }
                return Ok(agent);
            }
            Err(failure) => first_failure = first_failure.or(Some(failure)),
        }
    }
    Err(first_failure.unwrap_or_else(|| {
        Failure::new(
            Reason::AgentNotFound,
            "there is no agent to run: set DESCARTES_AGENT_COMMAND or --agent-command to the command that starts one, \
             or ANTHROPIC_API_KEY to use Claude Code or the built-in agent",
        )
    }))
}
