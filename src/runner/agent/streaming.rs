//! The common part of all agents that print `stream-json`.
//!
//! Counts rounds and enforces limits; [`Reader`] reads the output.

use std::ffi::OsString;
use std::path::Path;

use super::kind::{Agent, ProgramContext};
use crate::model::{LimitReached, Limits};
use crate::process::{self, AfterRead, Ending, Program, StartError, Stderr};
use crate::runner::failures::{exit_code, killing_signal, out_of_memory_failure};
use crate::runner::output::AgentOutput;
use crate::stream_json::{Conclusion, Event, Reader, StreamState, TotalsScope};
use crate::task::{AgentReport, Failure, Reason};

/// The part that differs between agents that print `stream-json`.
pub trait CommandLine {
    /// The name of the kind.
    fn kind(&self) -> &'static str;

    /// The requested model.
    fn model(&self) -> Option<String>;

    /// Whether the numbers in a `result` line include earlier rounds.
    fn totals_scope(&self) -> TotalsScope;

    /// The program of a round. `remaining` are the limits minus what earlier rounds have used; `session` is the session
    /// of the earlier rounds.
    fn program(
        &self,
        context: ProgramContext<'_>,
        remaining: Limits,
        session: Option<&str>,
    ) -> Program;
}

/// An agent that prints `stream-json`, with the command line `C`.
pub struct Streaming<C> {
    command_line: C,
    limits: Limits,
    reader: Reader,
    exit_code: Option<i32>,
}

impl<C: CommandLine> Streaming<C> {
    /// `limits` are for all rounds together.
    pub fn new(command_line: C, limits: Limits) -> Self {
        Self {
            reader: Reader::new(command_line.totals_scope()),
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
            // The agent reports the full name of the requested model.
            model: model.or_else(|| self.command_line.model()),
            session_id: self.reader.session_id.clone(),
            exit_code: self.exit_code,
            spent: self.reader.spent(),
        }
    }

    fn program(&mut self, context: ProgramContext<'_>) -> Result<Program, Failure> {
        let remaining = self.limits.remaining(&self.reader.spent());
        let remaining = remaining.map_err(limit_failure)?;
        self.reader.next_round();
        self.exit_code = None;
        let session = self.reader.session_id.as_deref();
        Ok(self.command_line.program(context, remaining, session))
    }

    fn read_output(&mut self, bytes: &[u8], output: &mut AgentOutput<'_>) -> AfterRead {
        self.reader.reads_tool_results = output.records_tools();
        let progress = self.reader.read(bytes, &mut |event| match event {
            Event::Raw(bytes) => output.push(bytes),
            Event::Text(text) => output.add_text(text),
            Event::Thought(text) => output.log_thought(text),
            Event::ToolCall(call) => output.begin_tool_call(call),
            Event::ToolResult(result) => output.end_tool_call(result),
            Event::Spent(spent) => output.set_spent(&spent),
        });
        match progress {
            StreamState::MoreExpected => AfterRead::ReadMore,
            StreamState::Finished => AfterRead::Finished,
        }
    }

    fn judge(&mut self, ending: Result<Ending, StartError>) -> Result<(), Failure> {
        if let Ok(Ending::Exited(code)) = ending {
            self.exit_code = Some(code);
        }
        judge(self.reader.conclusion(), ending)
    }

    fn final_message(&self) -> Option<String> {
        self.reader.final_message()
    }
}

impl ProgramContext<'_> {
    /// A program that works in this directory with this environment and `variables`, and prints `stream-json`.
    pub fn stream_json_program(
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
            // In the same pipe as standard output, standard error could break lines of `stream-json`.
            stderr: Stderr::Separate,
            inherited: None,
            launch: self.launch,
        }
    }
}

/// The flags for these limits. Claude Code and the built-in agent have the same flags.
pub fn limit_flags(limits: Limits) -> Vec<OsString> {
    let turns = limits.turns.map(|turns| turns.to_string());
    let usd = limits.usd.map(|usd| usd.to_string());
    [("--max-turns", turns), ("--max-budget-usd", usd)]
        .into_iter()
        .filter_map(|(name, value)| Some([name.into(), value?.into()]))
        .flatten()
        .collect()
}

fn limit_failure(limit: LimitReached) -> Failure {
    let message = match limit {
        LimitReached::Turns => "the agent's turns are used up, and it was not done",
        LimitReached::Budget => "the agent's budget is used up, and it was not done",
        LimitReached::CostUnknown => {
            "the agent did not report what its last round cost, so its budget cannot be enforced in another one"
        }
    };
    Failure::new(Reason::LimitReached, message)
}

/// Decides whether a round succeeded: by the agent's `result`, or by the exit code if there is none.
fn judge(
    conclusion: Option<&Conclusion>,
    ending: Result<Ending, StartError>,
) -> Result<(), Failure> {
    let Some(conclusion) = conclusion else {
        return Err(failure_without_result(exit_code(ending)?));
    };
    match (&conclusion.failure, ending) {
        (failure, ending) if conclusion.is_provisional => {
            let code = exit_code(ending)?;
            failure.clone().map_or(Ok(()), Err)?;
            if code == 0 {
                Ok(())
            } else {
                Err(failure_without_result(code))
            }
        }
        (None, _) => Ok(()),
        // The agent reports a failure only because the worker ended the agent.
        (
            Some(_),
            Ok(
                ending @ (Ending::Stopped(_)
                | Ending::TimedOut(_)
                | Ending::Idle(_)
                | Ending::EventHappened),
            ),
        ) => exit_code(Ok(ending)).map(drop),
        // The kernel's reason is more specific.
        (Some(failure), Ok(Ending::OutOfMemory)) if failure.reason == Reason::AgentFailed => {
            Err(out_of_memory_failure())
        }
        (Some(failure), _) => Err(failure.clone()),
    }
}

/// The failure of an agent that ended without a result.
fn failure_without_result(code: i32) -> Failure {
    let message = format!("the agent ended with exit code {code}, without a result");
    match killing_signal(code) {
        Some(signal) => {
            let signal = process::signal_name(signal);
            Failure::new(
                Reason::AgentKilled,
                format!("{message}: {signal} killed it"),
            )
        }
        None => Failure::new(Reason::AgentFailed, message),
    }
}
