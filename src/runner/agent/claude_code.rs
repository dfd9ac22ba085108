//! Claude Code: `claude --print`, which prints `stream-json`.
//!
//! This file has the command line of Claude Code and its requirements; [`Streaming`] reads its output.

use std::path::PathBuf;

use super::kind::{Kind, NewAgent, ProgramContext, RootStatus, Settings, requested_model};
use super::streaming::{CommandLine, Streaming, limit_flags};
use crate::environment::variable;
use crate::model::{ANTHROPIC, Access, Limits};
use crate::process::Program;
use crate::scud::AgentDefinition;
use crate::stream_json::TotalsScope;
use crate::task::{Failure, Reason};

pub static KIND: Kind = Kind {
    word: "claude-code",
    only_provider: Some(&ANTHROPIC),
    is_candidate: |settings| {
        settings.find_program(PROGRAM).is_some() && has_key(&settings.model_access)
    },
    create,
};

/// The name of Claude Code's program.
const PROGRAM: &str = "claude";
/// The names of Claude Code in agent definitions.
const HARNESSES: [&str; 2] = ["claude", "claude-code"];

fn has_key(access: &Access) -> bool {
    access.has_key() || access.oauth_token.is_some()
}

struct ClaudeCode {
    program: PathBuf,
    model: Option<String>,
}

fn create(settings: &Settings, definition: Option<&AgentDefinition>) -> NewAgent {
    let unusable = |why: &str| Err(Failure::new(Reason::AgentNotFound, why));
    let Some(program) = settings.find_program(PROGRAM) else {
        return unusable(
            "Claude Code's program `claude` is not on the PATH; install it, or choose another agent with DESCARTES_AGENT",
        );
    };
    if settings.root_status == RootStatus::Root {
        return unusable(
            "Claude Code does not work unattended as root: run the worker as another user, or set IS_SANDBOX=1 \
             if nothing on the machine needs protection, or set DESCARTES_AGENT=builtin",
        );
    }
    let claude_code = ClaudeCode {
        program,
        model: requested_model(settings, definition, &HARNESSES),
    };
    Ok(Box::new(Streaming::new(claude_code, settings.limits)))
}

impl CommandLine for ClaudeCode {
    fn kind(&self) -> &'static str {
        KIND.word
    }

    fn model(&self) -> Option<String> {
        self.model.clone()
    }

    fn totals_scope(&self) -> TotalsScope {
        TotalsScope::Session
    }

    fn program(
        &self,
        context: ProgramContext<'_>,
        remaining: Limits,
        session: Option<&str>,
    ) -> Program {
        let mut args = vec!["--print", "--verbose", "--output-format", "stream-json"];
        // No one can answer questions about permissions.
        args.extend(["--permission-mode", "bypassPermissions"]);
        args.extend(self.model.iter().flat_map(|model| ["--model", model]));
        args.extend(session.iter().flat_map(|session| ["--resume", session]));
        let mut args: Vec<_> = args.into_iter().map(Into::into).collect();
        args.extend(limit_flags(remaining));
        let settings = [
            variable("CLAUDE_CONFIG_DIR", context.state_dir.join("claude")),
            variable("DISABLE_AUTOUPDATER", "1"),
            variable("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            // Otherwise Claude Code turns a command that takes too long into a background task, and
            // prints a result before the task has ended.
            variable("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "1"),
        ];
        let variables = context.model_access.variables().into_iter().chain(settings);
        context.stream_json_program(&self.program, args, variables)
    }
}
