//! Agents that print `stream-json`: all but their command line, which is what they differ in.
//!
//! Keeps the account of rounds and limits; what the lines mean is [`Reader`]'s business.

use std::ffi::OsString;
use std::path::Path;

use super::kind::{Agent, Place};
use crate::model::{Limits, UsedUp};
use crate::process::{AfterRead, Ending, Program, StartError, Stderr};
use crate::runner::failures::{exit_code, out_of_memory};
use crate::runner::output::Live;
use crate::stream_json::{Conclusion, Event, Progress, Reader, Totals};
use crate::task::{AgentReport, Failure, Reason};

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
    fn program(&self, place: Place<'_>, left: Limits, session: Option<&str>) -> Program;
}

pub struct Streaming<C> {
    command_line: C,
    limits: Limits,
    reader: Reader,
    exit_code: Option<i32>,
}

impl<C: CommandLine> Streaming<C> {
    pub fn new(command_line: C, limits: Limits) -> Self {
        Self {
            reader: Reader::new(command_line.totals()),
            command_line,
            limits,
            exit_code: None,
        }
    }
}

impl<C: CommandLine> Agent for Streaming<C> {
    fn report(&self) -> AgentReport {
        let model = self.reader.model.clone();
        AgentReport {
            kind: self.command_line.kind(),
            // Its own word is the full name of what was asked for.
            model: model.or_else(|| self.command_line.model()),
            session_id: self.reader.session_id.clone(),
            exit_code: self.exit_code,
            spent: self.reader.spent(),
        }
    }

    fn program(&mut self, place: Place<'_>) -> Result<Program, Failure> {
        let left = self.limits.after(&self.reader.spent()).map_err(used_up)?;
        self.reader.next_round();
        self.exit_code = None;
        let session = self.reader.session_id.as_deref();
        Ok(self.command_line.program(place, left, session))
    }

    fn hear(&mut self, bytes: &[u8], live: &mut Live<'_>) -> AfterRead {
        let progress = self.reader.read(bytes, &mut |event| match event {
            Event::Raw(bytes) => live.hear(bytes),
            Event::Text(text) => live.words(text),
            Event::ToolCall(text) => live.deed(text),
            Event::Spent(spent) => live.spent(&spent),
        });
        match progress {
            Progress::MoreExpected => AfterRead::ReadMore,
            Progress::Finished => AfterRead::Finished,
        }
    }

    fn judge(&mut self, ending: Result<Ending, StartError>) -> Result<(), Failure> {
        if let Ok(Ending::Exited(code)) = ending {
            self.exit_code = Some(code);
        }
        judge(self.reader.conclusion(), ending)
    }

    fn last_words(&self) -> Option<String> {
        self.reader.last_words()
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

/// The flags for these limits: Claude Code's, which the built-in agent takes too.
pub fn limit_flags(limits: Limits) -> Vec<OsString> {
    let turns = limits.turns.map(|turns| turns.to_string());
    let usd = limits.usd.map(|usd| usd.to_string());
    [("--max-turns", turns), ("--max-budget-usd", usd)]
        .into_iter()
        .filter_map(|(name, value)| Some([name.into(), value?.into()]))
        .flatten()
        .collect()
}

fn used_up(limit: UsedUp) -> Failure {
    let what = match limit {
        UsedUp::Turns => "turns are",
        UsedUp::Budget => "budget is",
    };
    let message = format!("the agent's {what} used up, and it was not done");
    Failure::new(Reason::LimitReached, message)
}

/// What the end of a round means: the agent's `result` says it, else the exit code does.
fn judge(
    conclusion: Option<&Conclusion>,
    ending: Result<Ending, StartError>,
) -> Result<(), Failure> {
    let Some(conclusion) = conclusion else {
        return Err(unfinished(exit_code(ending)?));
    };
    match (&conclusion.failure, ending) {
        (failure, ending) if conclusion.provisional => {
            let code = exit_code(ending)?;
            failure.clone().map_or(Ok(()), Err)?;
            if code == 0 {
                Ok(())
            } else {
                Err(unfinished(code))
            }
        }
        (None, _) => Ok(()),
        // The agent failed because the worker ended it, and not the other way round.
        (Some(_), Ok(ending @ (Ending::Stopped(_) | Ending::TimedOut(_) | Ending::Idle(_)))) => {
            exit_code(Ok(ending)).map(drop)
        }
        // "Something went wrong" is less than the kernel knows.
        (Some(failure), Ok(Ending::OutOfMemory)) if failure.reason == Reason::AgentFailed => {
            Err(out_of_memory())
        }
        (Some(failure), _) => Err(failure.clone()),
    }
}

fn unfinished(code: i32) -> Failure {
    let message = format!("the agent ended with exit code {code}, without a result");
    Failure::new(Reason::AgentFailed, message)
}
