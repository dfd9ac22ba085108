//! The agent that the worker brings along: this same program, started as `descartes-worker agent`.
//!
//! A process of its own, so that it is supervised like any other. It speaks Claude Code's
//! `stream-json`; what it does is in `crate::builtin`.

use std::path::PathBuf;
use std::time::Duration;

use super::kind::{Kind, Made, Place, Settings, model};
use super::streaming::{CommandLine, Streaming, limit_flags};
use crate::model::{self as model_service, DEFAULT_MODEL, Limits};
use crate::process::Program;
use crate::scud::AgentDefinition;
use crate::stream_json::Totals;
use crate::task::{Failure, Reason};
use crate::{builtin, programs};

pub static KIND: Kind = Kind {
    word: "builtin",
    suits: |settings| settings.access.has_key(),
    make,
};

/// The share of the worker's patience with a silent agent that is the agent's own with a silent
/// service: a little less than all, so that it is the agent who says what was the matter.
const SHARE: f64 = 0.9;
/// What agent definitions call programs whose models are the service's.
const HARNESSES: [&str; 3] = ["builtin", "claude", "claude-code"];

struct Builtin {
    program: PathBuf,
    model: String,
    patience: Option<Duration>,
}

fn make(settings: &Settings, definition: Option<&AgentDefinition>) -> Made {
    // A base URL of one's own may stand for a proxy that has the key.
    if !settings.access.has_key() && settings.access.base_url.is_none() {
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
    let model = model_service::full_name(model.unwrap_or_else(|| DEFAULT_MODEL.to_owned()));
    builtin::affordable(&model, settings.limits.usd)
        .map_err(|error| Failure::new(Reason::AgentNotFound, error))?;
    let builtin = Builtin {
        program,
        model,
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

    fn program(&self, place: Place<'_>, left: Limits, session: Option<&str>) -> Program {
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
        args.extend(limit_flags(left));
        args.extend(["--idle-timeout".into(), patience.into()]);
        // Its words are shown among the worker's own.
        args.extend(["--log-format".into(), "pretty".into()]);
        let variables = place.access.variables();
        place.starts(&self.program, args, variables)
    }
}
