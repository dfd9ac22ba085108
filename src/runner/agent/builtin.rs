//! The built-in agent: this program, started again as `descartes-worker agent`.
//!
//! It runs in a separate process, so that it is supervised like any other agent, and prints
//! `stream-json`. Its implementation is in `crate::builtin`.

use std::path::PathBuf;
use std::time::Duration;

use super::kind::{Kind, NewAgent, ProgramContext, Settings, requested_model};
use super::streaming::{CommandLine, Streaming, limit_flags};
use crate::model::{self as model_service, ANTHROPIC, DEFAULT_MODEL, Limits};
use crate::process::Program;
use crate::scud::AgentDefinition;
use crate::stream_json::TotalsScope;
use crate::task::{Failure, Reason};
use crate::{builtin, programs};

pub static KIND: Kind = Kind {
    word: "builtin",
    only_provider: Some(&ANTHROPIC),
    is_candidate: |settings| settings.model_access.has_key(),
    create,
};

/// The share of the idle timeout for which the built-in agent waits for the model's service. It is below 1, so
/// that the agent reports the problem before the worker ends it for being idle.
const IDLE_TIMEOUT_SHARE: f64 = 0.9;
/// The harnesses in agent definitions that use the same names for models.
const HARNESSES: [&str; 3] = ["builtin", "claude", "claude-code"];

struct Builtin {
    program: PathBuf,
    model: String,
    idle_timeout: Option<Duration>,
}

fn create(settings: &Settings, definition: Option<&AgentDefinition>) -> NewAgent {
    // Without a key, there may be a server at a custom base URL that adds the key to requests.
    if !settings.model_access.has_key() && !settings.model_access.has_base_url() {
        return Err(Failure::new(
            Reason::AgentNotFound,
            "the built-in agent has no key: set ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN",
        ));
    }
    let program = programs::own_executable().map_err(|error| {
        let message = format!("the worker cannot find its own program: {error}");
        Failure::new(Reason::AgentNotFound, message)
    })?;
    let model = requested_model(settings, definition, &HARNESSES);
    let model = model_service::full_name(model.unwrap_or_else(|| DEFAULT_MODEL.to_owned()));
    builtin::check_budget(&model, settings.limits.usd)
        .map_err(|error| Failure::new(Reason::AgentNotFound, error))?;
    let builtin = Builtin {
        program,
        model,
        idle_timeout: settings.idle_timeout,
    };
    Ok(Box::new(Streaming::new(builtin, settings.limits)))
}

impl CommandLine for Builtin {
    fn kind(&self) -> &'static str {
        KIND.word
    }

    fn model(&self) -> Option<String> {
        Some(self.model.clone())
    }

    fn totals_scope(&self) -> TotalsScope {
        TotalsScope::Round
    }

    fn program(
        &self,
        mut context: ProgramContext<'_>,
        remaining: Limits,
        session: Option<&str>,
    ) -> Program {
        let file = context.state_dir.join("conversation.json");
        if session.is_some() && !file.exists() {
            tracing::warn!(
                "the file with the built-in agent's conversation is missing; it starts a new conversation"
            );
        }
        let idle_timeout = self.idle_timeout.map_or_else(
            || "0".to_owned(),
            |timeout| format!("{}ms", timeout.mul_f64(IDLE_TIMEOUT_SHARE).as_millis()),
        );
        let mut args = vec![builtin::COMMAND.into(), "--session".into(), file.into()];
        // One argument, because a model may begin with a hyphen.
        args.push(format!("--model={}", self.model).into());
        args.extend(limit_flags(remaining));
        args.extend(["--idle-timeout".into(), idle_timeout.into()]);
        // The worker's log shows the log lines of the built-in agent among its own lines.
        args.extend(["--log-format".into(), "pretty".into()]);
        // The built-in agent reads the file for its tools alone: the file's LD_LIBRARY_PATH must not break the agent.
        if let Some(file) = context.variables_file {
            context.environment = std::mem::take(&mut context.environment_without_variables_file);
            args.extend(["--agent-env-file".into(), file.path.clone().into()]);
            args.extend([
                "--agent-env".into(),
                file.names_from_settings.join(",").into(),
            ]);
        }
        let variables = context.model_access.variables();
        context.stream_json_program(&self.program, args, variables)
    }
}
