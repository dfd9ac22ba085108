//! Claude Code: `claude --print` with its `stream-json` on standard output.
//!
//! Knows its command line and its conditions; what it prints is read by [`Streaming`].

use std::path::PathBuf;

use super::kind::{Kind, Made, Place, Sandbox, Settings, model};
use super::streaming::{CommandLine, Streaming, limit_flags};
use crate::environment::variable;
use crate::model::{Access, Limits};
use crate::process::Program;
use crate::scud::AgentDefinition;
use crate::stream_json::Totals;
use crate::task::{Failure, Reason};

pub static KIND: Kind = Kind {
    word: "claude-code",
    suits: |settings| settings.find(PROGRAM).is_some() && has_key(&settings.access),
    make,
};

const PROGRAM: &str = "claude";
/// What agent definitions call it.
const HARNESSES: [&str; 2] = ["claude", "claude-code"];

fn has_key(access: &Access) -> bool {
    access.has_key() || access.oauth_token.is_some()
}

struct ClaudeCode {
    program: PathBuf,
    model: Option<String>,
}

fn make(settings: &Settings, definition: Option<&AgentDefinition>) -> Made {
    let lacks = |what: &str| Err(Failure::new(Reason::AgentNotFound, what));
    let Some(program) = settings.find(PROGRAM) else {
        return lacks("there is no `claude` on the PATH, which is Claude Code's program");
    };
    if settings.sandbox == Sandbox::Root {
        return lacks(
            "Claude Code does not work unattended for root: run the worker as another user, or set IS_SANDBOX=1 \
             where nothing on the machine is worth protecting, or DESCARTES_AGENT=builtin",
        );
    }
    let claude_code = ClaudeCode {
        program,
        model: model(settings, definition, &HARNESSES),
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

    fn totals(&self) -> Totals {
        Totals::Session
    }

    fn program(&self, place: Place<'_>, left: Limits, session: Option<&str>) -> Program {
        let mut args = vec!["--print", "--verbose", "--output-format", "stream-json"];
        // Nobody is there to be asked.
        args.extend(["--permission-mode", "bypassPermissions"]);
        args.extend(self.model.iter().flat_map(|model| ["--model", model]));
        args.extend(session.iter().flat_map(|session| ["--resume", session]));
        let mut args: Vec<_> = args.into_iter().map(Into::into).collect();
        args.extend(limit_flags(left));
        let own = [
            variable("CLAUDE_CONFIG_DIR", place.own.join("claude")),
            variable("DISABLE_AUTOUPDATER", "1"),
            variable("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            // Else a command that takes too long becomes a background task instead of an error, and
            // the result is not the last one while there are such tasks.
            variable("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "1"),
        ];
        let variables = place.access.variables().into_iter().chain(own);
        place.starts(&self.program, args, variables)
    }
}
