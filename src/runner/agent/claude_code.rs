//! Claude Code: `claude --print` with its `stream-json` on standard output.
//!
//! Knows its command line and its conditions; what it prints is read by [`Transcript`].

use std::path::PathBuf;

use super::super::Variables;
use super::super::output::Live;
use super::super::process::{Ending, Heard, Program, StartError, Stderr};
use super::transcript::Transcript;
use super::{Agent, Budget, Kind, Place, Sandbox, Settings, model, variable};
use crate::scud::AgentDefinition;
use crate::task::{AgentReport, Failure, Reason, Spent};

pub static KIND: Kind = Kind {
    word: "claude-code",
    suits: |settings| settings.find(PROGRAM).is_some() && KEYS.iter().any(|key| settings.has(key)),
    make,
};

const PROGRAM: &str = "claude";
/// Any of these lets it in.
const KEYS: [&str; 3] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
];
/// What agent definitions call it.
const HARNESSES: [&str; 2] = ["claude", "claude-code"];

struct ClaudeCode {
    program: PathBuf,
    model: Option<String>,
    limits: Budget,
    variables: Variables,
    transcript: Transcript,
    exit_code: Option<i32>,
}

fn make(
    settings: &Settings,
    definition: Option<&AgentDefinition>,
) -> Result<Box<dyn Agent>, Failure> {
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
    Ok(Box::new(ClaudeCode {
        program,
        model: model(settings, definition, &HARNESSES),
        limits: settings.limits,
        variables: settings.variables.clone(),
        transcript: Transcript::default(),
        exit_code: None,
    }))
}

impl Agent for ClaudeCode {
    fn report(&self) -> AgentReport {
        AgentReport {
            kind: KIND.word,
            // Its own word is the full name of what was asked for.
            model: self.transcript.model.clone().or(self.model.clone()),
            session_id: self.transcript.session_id.clone(),
            exit_code: self.exit_code,
            spent: self.transcript.spent(),
        }
    }

    fn program(&mut self, place: Place<'_>) -> Result<Program, Failure> {
        let left = self.limits.less(&self.transcript.spent())?;
        let session = self.transcript.session_id.clone();
        self.transcript.next_round();
        self.exit_code = None;
        let mut args = vec!["--print", "--verbose", "--output-format", "stream-json"];
        // Nobody is there to be asked.
        args.extend(["--permission-mode", "bypassPermissions"]);
        let mut args: Vec<_> = args.into_iter().map(Into::into).collect();
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                args.extend([name.into(), value.into()]);
            }
        };
        option("--model", self.model.clone());
        option("--max-turns", left.turns.map(|turns| turns.to_string()));
        option("--max-budget-usd", left.usd.map(|usd| usd.to_string()));
        option("--resume", session);
        let mut env = place.environment;
        env.extend(self.variables.iter().cloned());
        env.extend([
            variable("CLAUDE_CONFIG_DIR", place.own.join("claude")),
            variable("DISABLE_AUTOUPDATER", "1"),
            variable("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            // Else a command that takes too long becomes a background task instead of an error, and
            // the result is not the last one while there are such tasks.
            variable("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "1"),
        ]);
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

impl Budget {
    /// What is left of it; an error where that is nothing.
    pub(super) fn less(self, spent: &Spent) -> Result<Self, Failure> {
        let used_up = |what: &str| {
            let message = format!("the agent's {what} used up, and it was not done");
            Err(Failure::new(Reason::LimitReached, message))
        };
        let turns = u32::try_from(spent.turns.unwrap_or(0)).unwrap_or(u32::MAX);
        let turns = self.turns.map(|most| most.saturating_sub(turns));
        let usd = self.usd.map(|most| most - spent.cost_usd.unwrap_or(0.0));
        match (turns, usd) {
            (Some(0), _) => used_up("turns are"),
            (_, Some(usd)) if usd <= 0.0 => used_up("budget is"),
            (turns, usd) => Ok(Self { turns, usd }),
        }
    }
}
