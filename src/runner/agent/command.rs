//! Any command line as an agent: the prompt on its stdin, its exit code for a verdict.
//!
//! What it prints is shown and kept, but not understood.

use super::kind::{Agent, Kind, Made, Place, Settings};
use crate::environment::variable;
use crate::model::Spent;
use crate::process::{self, AfterRead, Ending, Program, StartError};
use crate::runner::failures::exit_code;
use crate::runner::output::Live;
use crate::scud::AgentDefinition;
use crate::task::{AgentReport, Failure, Reason};

pub static KIND: Kind = Kind {
    word: "command",
    suits: |settings| settings.command.is_some(),
    make,
};

/// What shells say when there is no such program, and when it is not executable (POSIX).
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;
/// What shells add to a signal's number when it killed what they ran (POSIX: more than 128).
const KILLED: i32 = 128;

struct Shell {
    command: String,
    model: Option<String>,
    exit_code: Option<i32>,
}

fn make(settings: &Settings, definition: Option<&AgentDefinition>) -> Made {
    let Some(command) = settings.command.clone() else {
        return Err(Failure::new(
            Reason::AgentNotFound,
            "there is no agent to run: set DESCARTES_AGENT_COMMAND to the command that starts one",
        ));
    };
    // Whatever the command starts, it knows the definition's words better than anybody here.
    let defined = definition.and_then(|definition| definition.model.clone());
    Ok(Box::new(Shell {
        command,
        model: settings.model.clone().or(defined),
        exit_code: None,
    }))
}

impl Agent for Shell {
    fn report(&self) -> AgentReport {
        AgentReport {
            kind: KIND.word,
            model: self.model.clone(),
            session_id: None,
            exit_code: self.exit_code,
            spent: Spent::default(),
        }
    }

    fn program(&mut self, place: Place<'_>) -> Result<Program, Failure> {
        self.exit_code = None;
        let mut environment = place.environment;
        environment.extend(place.access.variables());
        let model = self.model.as_ref();
        environment.extend(model.map(|model| variable("DESCARTES_MODEL", model)));
        let dir = place.dir.to_owned();
        Ok(Program::shell(&self.command, dir, environment))
    }

    fn hear(&mut self, bytes: &[u8], live: &mut Live<'_>) -> AfterRead {
        live.hear(bytes);
        AfterRead::ReadMore
    }

    fn judge(&mut self, ending: Result<Ending, StartError>) -> Result<(), Failure> {
        let code = exit_code(ending)?;
        self.exit_code = Some(code);
        if code == 0 {
            return Ok(());
        }
        Err(failure(code))
    }

    fn last_words(&self) -> Option<String> {
        None
    }
}

/// What a shell's exit code means.
fn failure(code: i32) -> Failure {
    let ended = format!("the agent's command ended with exit code {code}");
    match code {
        NOT_FOUND => Failure::new(
            Reason::AgentNotFound,
            format!("{ended}: a program is not found"),
        ),
        NOT_EXECUTABLE => Failure::new(
            Reason::AgentNotFound,
            format!("{ended}: a program is not executable"),
        ),
        _ => match process::signal(code - KILLED) {
            Some(signal) => Failure::new(
                Reason::AgentKilled,
                format!("{ended}: {} killed it", process::name(signal)),
            ),
            None => Failure::new(
                Reason::AgentFailed,
                format!("the agent's command failed with exit code {code}"),
            ),
        },
    }
}
