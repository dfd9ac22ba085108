//! Agents that print `stream-json`: all but their command line, which is what they differ in.
//!
//! Keeps the account of rounds and limits; what the lines mean is [`Transcript`]'s business.

use std::ffi::OsString;
use std::path::Path;

use super::super::output::Live;
use super::super::process::{Ending, Heard, Program, StartError, Stderr};
use super::transcript::{Totals, Transcript};
use super::{Agent, Budget, Place};
use crate::task::{AgentReport, Failure, Reason, Spent};

/// What one such agent differs in from the others.
pub trait CommandLine {
    /// The kind's word.
    fn kind(&self) -> &'static str;

    /// The model that was asked for.
    fn model(&self) -> Option<String>;

    /// What the numbers are of that it tells at a round's end.
    fn totals(&self) -> Totals;

    /// What to start for a round: with what is left of the limits, and the session to go on with,
    /// if there is one already.
    fn program(&self, place: Place<'_>, left: Budget, session: Option<&str>) -> Program;
}

pub struct Streaming<C> {
    command_line: C,
    limits: Budget,
    transcript: Transcript,
    exit_code: Option<i32>,
}

impl<C: CommandLine> Streaming<C> {
    pub fn new(command_line: C, limits: Budget) -> Self {
        Self {
            transcript: Transcript::new(command_line.totals()),
            command_line,
            limits,
            exit_code: None,
        }
    }
}

impl<C: CommandLine> Agent for Streaming<C> {
    fn report(&self) -> AgentReport {
        let model = self.transcript.model.clone();
        AgentReport {
            kind: self.command_line.kind(),
            // Its own word is the full name of what was asked for.
            model: model.or_else(|| self.command_line.model()),
            session_id: self.transcript.session_id.clone(),
            exit_code: self.exit_code,
            spent: self.transcript.spent(),
        }
    }

    fn program(&mut self, place: Place<'_>) -> Result<Program, Failure> {
        let left = self.limits.less(&self.transcript.spent())?;
        self.transcript.next_round();
        self.exit_code = None;
        let session = self.transcript.session_id.as_deref();
        Ok(self.command_line.program(place, left, session))
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

impl Place<'_> {
    /// A program that works here and prints `stream-json`, with these variables beside the others.
    pub fn starts(
        self,
        program: &Path,
        args: Vec<OsString>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Program {
        let mut env = self.environment;
        env.extend(variables);
        Program {
            program: program.into(),
            args,
            dir: self.dir.to_owned(),
            env,
            stdin: None,
            // So that it cannot break the lines.
            stderr: Stderr::Apart,
        }
    }
}

impl Budget {
    /// What is left of it; an error where that is nothing.
    fn less(self, spent: &Spent) -> Result<Self, Failure> {
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

    /// As Claude Code calls it, and the built-in agent after it.
    pub fn options(self) -> Vec<OsString> {
        let turns = self.turns.map(|turns| turns.to_string());
        let usd = self.usd.map(|usd| usd.to_string());
        [("--max-turns", turns), ("--max-budget-usd", usd)]
            .into_iter()
            .filter_map(|(name, value)| Some([name.into(), value?.into()]))
            .flatten()
            .collect()
    }
}
