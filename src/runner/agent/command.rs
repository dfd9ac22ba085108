//! Any command line as an agent: the prompt on its stdin, its exit code for a verdict.
//!
//! What it prints is shown and kept, but not understood.

use std::path::Path;

use super::super::process::{self, Ending, Program, StartError};
use super::super::{Variables, stopped, timed_out, written};
use super::Agent;
use crate::task::{AgentKind, AgentReport, Failure, Reason};

/// What shells say when there is no such program, and when it is not executable (POSIX).
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;
/// What shells add to a signal's number when it killed what they ran (POSIX: more than 128).
const KILLED: i32 = 128;

#[derive(Debug)]
pub struct Shell {
    command: String,
    model: Option<String>,
    variables: Variables,
}

impl Shell {
    pub fn new(command: String, model: Option<String>, variables: Variables) -> Self {
        Self {
            command,
            model,
            variables,
        }
    }
}

impl Agent for Shell {
    fn report(&self) -> AgentReport {
        AgentReport {
            kind: AgentKind::Command,
            model: self.model.clone(),
            exit_code: None,
        }
    }

    fn program(&self, dir: &Path, mut environment: Variables) -> Program {
        environment.extend(self.variables.iter().cloned());
        if let Some(model) = &self.model {
            environment.push(("DESCARTES_MODEL".into(), model.into()));
        }
        Program::shell(&self.command, dir.to_owned(), environment)
    }

    fn judge(&self, ending: Result<Ending, StartError>) -> (AgentReport, Result<(), Failure>) {
        let mut report = self.report();
        if let Ok(Ending::Exited(code)) = ending {
            report.exit_code = Some(code);
        }
        (report, judge(ending))
    }
}

fn judge(ending: Result<Ending, StartError>) -> Result<(), Failure> {
    let failure = match ending {
        Ok(Ending::Exited(0)) => return Ok(()),
        Ok(Ending::Exited(code @ (NOT_FOUND | NOT_EXECUTABLE))) => {
            let what = if code == NOT_FOUND {
                "not found"
            } else {
                "not executable"
            };
            let message =
                format!("the agent's command ended with exit code {code}: a program is {what}");
            Failure::new(Reason::AgentNotFound, message)
        }
        Ok(Ending::Exited(code)) => match process::signal(code - KILLED) {
            Some(signal) => {
                let message = format!(
                    "the agent's command ended with exit code {code}: {} killed it",
                    process::name(signal)
                );
                Failure::new(Reason::AgentKilled, message)
            }
            None => Failure::new(
                Reason::AgentFailed,
                format!("the agent's command failed with exit code {code}"),
            ),
        },
        Ok(Ending::Killed(signal)) => Failure::new(
            Reason::AgentKilled,
            format!("the agent was killed by {}", process::name(signal)),
        ),
        Ok(Ending::OutOfMemory) => Failure::new(
            Reason::OutOfMemory,
            "the machine ran out of memory, and the kernel killed a process of the agent's",
        ),
        Ok(Ending::TimedOut(limit)) => timed_out(limit),
        Ok(Ending::Idle(limit)) => Failure::new(
            Reason::Idle,
            format!("the agent gave no sign of life for {}", written(limit)),
        ),
        Ok(Ending::Stopped(why)) => stopped(&why),
        Err(error @ (StartError::NotFound { .. } | StartError::NotExecutable { .. })) => {
            Failure::because(Reason::AgentNotFound, &error)
        }
        Err(error @ StartError::Directory { .. }) => {
            Failure::because(Reason::WorkspaceFailed, &error)
        }
        // The machine lacks something (processes, memory); another one may not.
        Err(error @ StartError::Other { .. }) => Failure {
            retryable: true,
            ..Failure::because(Reason::AgentFailed, &error)
        },
    };
    Err(failure)
}
