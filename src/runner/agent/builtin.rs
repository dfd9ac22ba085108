//! The agent that the worker brings along: this same program, started as `descartes-worker agent`.
//!
//! A process of its own, so that it is supervised like any other. It speaks Claude Code's
//! `stream-json`; what it does is in `crate::builtin`.

use std::path::PathBuf;
use std::time::Duration;

use super::super::Variables;
use super::super::output::Live;
use super::super::process::{Ending, Heard, Program, StartError, Stderr};
use super::transcript::Transcript;
use super::{Agent, Budget, Kind, Place, Settings, model};
use crate::builtin;
use crate::programs;
use crate::scud::AgentDefinition;
use crate::task::{AgentReport, Failure, Reason};

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
/// Agent definitions that name a model of the service by its full name call their program so.
const HARNESSES: [&str; 3] = ["builtin", "claude", "claude-code"];

struct Builtin {
    program: PathBuf,
    model: String,
    limits: Budget,
    variables: Variables,
    patience: Option<Duration>,
    transcript: Transcript,
    exit_code: Option<i32>,
}

fn make(
    settings: &Settings,
    definition: Option<&AgentDefinition>,
) -> Result<Box<dyn Agent>, Failure> {
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
    let model = model.unwrap_or_else(|| builtin::DEFAULT_MODEL.to_owned());
    builtin::affordable(&model, settings.limits.usd)
        .map_err(|error| Failure::new(Reason::AgentNotFound, error))?;
    Ok(Box::new(Builtin {
        program,
        model,
        limits: settings.limits,
        variables: settings.variables.clone(),
        patience: settings.patience,
        transcript: Transcript::default(),
        exit_code: None,
    }))
}

impl Agent for Builtin {
    fn report(&self) -> AgentReport {
        AgentReport {
            kind: KIND.word,
            model: Some(self.model.clone()),
            session_id: self.transcript.session_id.clone(),
            exit_code: self.exit_code,
            spent: self.transcript.spent(),
        }
    }

    fn program(&mut self, place: Place<'_>) -> Result<Program, Failure> {
        let left = self.limits.less(&self.transcript.spent())?;
        self.transcript.next_round();
        self.exit_code = None;
        let session = place.own.join("conversation.json");
        let mut args = vec![builtin::COMMAND.into(), "--session".into(), session.into()];
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                args.extend([name.into(), value.into()]);
            }
        };
        option("--model", Some(self.model.clone()));
        option("--max-turns", left.turns.map(|turns| turns.to_string()));
        option("--max-budget-usd", left.usd.map(|usd| usd.to_string()));
        let patience = self.patience.map(|patience| patience.mul_f64(SHARE));
        let patience = patience.map_or_else(
            || "0".to_owned(),
            |patience| format!("{}ms", patience.as_millis()),
        );
        option("--idle-timeout", Some(patience));
        // Its words are shown among the worker's own.
        option("--log-format", Some("pretty".to_owned()));
        let mut env = place.environment;
        env.extend(self.variables.iter().cloned());
        Ok(Program {
            program: self.program.clone().into(),
            args,
            dir: place.dir.to_owned(),
            env,
            stdin: None,
            stderr: Stderr::Apart,
        })
    }

    fn hear(&mut self, bytes: &[u8], live: &mut Live<'_>) -> Heard {
        self.transcript.hear(bytes, live)
    }

    fn judge(&mut self, ending: Result<Ending, StartError>) -> Result<(), Failure> {
        if let Ok(Ending::Exited(code)) = ending {
            self.exit_code = Some(code);
        }
        self.transcript.judge(ending)
    }

    fn last_words(&self) -> Option<String> {
        self.transcript.last_words()
    }
}
