//! Any command line as an agent: it reads the prompt from standard input, and its exit code says
//! whether it succeeded.
//!
//! Its output is shown and reported, but not interpreted.

use super::codex;
use super::kind::{Agent, Kind, NewAgent, ProgramContext, Settings};
use crate::environment::variable;
use crate::model::UsageAndCost;
use crate::process::{self, AfterRead, Ending, Program, StartError};
use crate::runner::failures::{
    EXIT_CODE_NOT_EXECUTABLE, EXIT_CODE_NOT_FOUND, exit_code, killing_signal,
};
use crate::runner::output::AgentOutput;
use crate::scud::AgentDefinition;
use crate::task::{AgentReport, Failure, Reason};

pub static KIND: Kind = Kind {
    word: "command",
    only_provider: None,
    is_candidate: |settings| settings.command.is_some(),
    create,
};

struct CommandAgent {
    command: String,
    model: Option<String>,
    exit_code: Option<i32>,
}

fn create(settings: &Settings, definition: Option<&AgentDefinition>) -> NewAgent {
    let Some(command) = settings.command.clone() else {
        return Err(Failure::new(
            Reason::AgentNotFound,
            "there is no agent to run: set DESCARTES_AGENT_COMMAND or --agent-command to the command that starts one",
        ));
    };
    // The command may use any harness, so the definition's model is passed on unchecked.
    let defined = definition.and_then(|definition| definition.model.clone());
    Ok(Box::new(CommandAgent {
        command,
        model: settings.model.clone().or(defined),
        exit_code: None,
    }))
}

impl Agent for CommandAgent {
    fn report(&self) -> AgentReport {
        AgentReport {
            kind: KIND.word,
            model: self.model.clone(),
            session_id: None,
            exit_code: self.exit_code,
            spent: UsageAndCost::default(),
        }
    }

    fn program(&mut self, context: ProgramContext<'_>) -> Result<Program, Failure> {
        self.exit_code = None;
        let mut environment = context.environment;
        environment.extend(context.model_access.variables());
        environment.extend(codex::configuration(
            &context.state_dir,
            context.user,
            &environment,
            context.model_access,
        ));
        let model = self.model.as_ref();
        environment.extend(model.map(|model| variable("DESCARTES_MODEL", model)));
        let dir = context.dir.to_owned();
        Ok(Program::shell(
            &self.command,
            dir,
            environment,
            context.launch,
        ))
    }

    fn read_output(&mut self, bytes: &[u8], output: &mut AgentOutput<'_>) -> AfterRead {
        output.push(bytes);
        AfterRead::ReadMore
    }

    fn judge(&mut self, ending: Result<Ending, StartError>) -> Result<(), Failure> {
        let code = exit_code(ending)?;
        self.exit_code = Some(code);
        if code == 0 {
            return Ok(());
        }
        Err(failure_of_exit_code(code))
    }

    fn final_message(&self) -> Option<String> {
        None
    }
}

/// The failure that a shell's exit code means.
fn failure_of_exit_code(code: i32) -> Failure {
    let ended = format!("the agent's command ended with exit code {code}");
    match code {
        EXIT_CODE_NOT_FOUND => Failure::new(
            Reason::AgentNotFound,
            format!("{ended}: a program is not found"),
        ),
        EXIT_CODE_NOT_EXECUTABLE => Failure::new(
            Reason::AgentNotFound,
            format!("{ended}: a program is not executable"),
        ),
        _ => match killing_signal(code) {
            Some(signal) => Failure::new(
                Reason::AgentKilled,
                format!("{ended}: {} killed it", process::signal_name(signal)),
            ),
            None => Failure::new(
                Reason::AgentFailed,
                format!("the agent's command failed with exit code {code}"),
            ),
        },
    }
}
