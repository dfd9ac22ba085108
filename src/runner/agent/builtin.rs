//! The agent that the worker brings along: this same program, started as `descartes-worker agent`.
//!
//! A process of its own, so that it is supervised like any other. It speaks Claude Code's
//! `stream-json`; what it does is in `crate::builtin`.

use std::path::PathBuf;
use std::time::Duration;

use super::super::Variables;
use super::super::process::Program;
use super::streaming::{CommandLine, Streaming};
use super::transcript::Totals;
use super::{Budget, Kind, Made, Place, Settings, model};
use crate::scud::AgentDefinition;
use crate::task::{Failure, Reason};
use crate::{builtin, programs};

pub static KIND: Kind = Kind {
    word: "builtin",
    suits: |settings| KEYS.iter().any(|key| settings.has(key)),
    make,
};

/// Any of these lets it in.
const KEYS: [&str; 2] = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"];

/// The share of the worker's patience with a silent agent that is the agent's own with a silent
/// service: a little less than all, so that it is the agent who says what was the matter.
const SHARE: f64 = 0.9;
/// What agent definitions call programs whose models are the service's.
const HARNESSES: [&str; 3] = ["builtin", "claude", "claude-code"];

struct Builtin {
    program: PathBuf,
    model: String,
    variables: Variables,
    patience: Option<Duration>,
}

fn make(settings: &Settings, definition: Option<&AgentDefinition>) -> Made {
    // A base URL of one's own may stand for a proxy that has the key.
    if !KEYS.iter().any(|key| settings.has(key)) && !settings.has("ANTHROPIC_BASE_URL") {
        return Err(Failure::new(
            Reason::AgentNotFound,
            "the built-in agent has no key: set ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN",
        ));
    }
    let program = programs::own().map_err(|error| {
        let message = format!("the worker cannot find its own program: {error}");
        Failure::new(Reason::AgentNotFound, message)
    })?;
    let model = model(settings, definition, &HARNESSES);
    let model = builtin::full_name(model.unwrap_or_else(|| builtin::DEFAULT_MODEL.to_owned()));
    builtin::affordable(&model, settings.limits.usd)
        .map_err(|error| Failure::new(Reason::AgentNotFound, error))?;
    let builtin = Builtin {
        program,
        model,
        variables: settings.variables.clone(),
        patience: settings.patience,
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

    fn totals(&self) -> Totals {
        Totals::Round
    }

    fn program(&self, place: Place<'_>, left: Budget, session: Option<&str>) -> Program {
        let file = place.own.join("conversation.json");
        if session.is_some() && !file.exists() {
            tracing::warn!("the built-in agent's conversation is gone, so it begins another one");
        }
        let patience = self.patience.map(|patience| patience.mul_f64(SHARE));
        let patience = patience.map_or_else(
            || "0".to_owned(),
            |patience| format!("{}ms", patience.as_millis()),
        );
        let mut args = vec![builtin::COMMAND.into(), "--session".into(), file.into()];
        args.extend(["--model".into(), self.model.clone().into()]);
        args.extend(left.options());
        args.extend(["--idle-timeout".into(), patience.into()]);
        // Its words are shown among the worker's own.
        args.extend(["--log-format".into(), "pretty".into()]);
        place.starts(&self.program, args, self.variables.iter().cloned())
    }
}
