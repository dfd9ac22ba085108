//! The project's own checks: commands that must pass before the work counts as done.
//!
//! `rounds` decides whether a failed check starts another round of the agent.

use std::time::Duration;

use tokio::time::Instant;

use super::failures::{
    EXIT_CODE_NOT_EXECUTABLE, EXIT_CODE_NOT_FOUND, settings_failure, stop_failure,
};
use super::output;
use crate::durations::in_words;
use crate::environment::value_of;
use crate::excerpt::visible;
use crate::process::{self, AfterRead, Ending, Limits, Program};
use crate::programs::{Lookup, look_up};
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::ring_buffer::RingBuffer;
use crate::scud::Project;
use crate::shutdown::Stop;
use crate::task::{CheckReport, Failure, Reason};

/// How much of the end of a check's output is reported and shown to the agent, in bytes. Tools print their
/// errors at the end.
const OUTPUT_TAIL: usize = 4 * 1024;
/// The time limit for each command in the settings. SCUD has the same default for the project's commands.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// The commands that must pass.
#[derive(Debug, Clone)]
pub struct Checks {
    /// Command lines for the shell, in the order in which they run.
    pub commands: Vec<String>,
    /// Whether the commands after a failed one are skipped.
    pub stop_on_failure: bool,
    /// The time limit for each command; `None` if commands are limited only by the time that is left for the task.
    pub timeout: Option<Duration>,
}

impl Checks {
    /// Selects the commands of the settings, or else the project's. Reads the project's file only if the settings have
    /// no commands: a mistake in the file must not stop a run that does not need the file.
    pub fn select(project: &Project, commands: Option<&[String]>) -> Result<Self, Failure> {
        if let Some(commands) = commands {
            return Ok(Self {
                commands: commands.to_vec(),
                stop_on_failure: true,
                timeout: Some(DEFAULT_TIMEOUT),
            });
        }
        let checks = project.checks().map_err(|error| settings_failure(&error))?;
        Ok(Self {
            commands: checks.commands,
            stop_on_failure: checks.stop_on_failure,
            timeout: Some(checks.timeout).filter(|timeout| !timeout.is_zero()),
        })
    }

    /// The time limit for the next command. `time_left` is the time that is left for the task.
    pub fn time_limit(&self, time_left: Duration) -> Duration {
        self.timeout
            .map_or(time_left, |timeout| timeout.min(time_left))
    }
}

/// One check that has run, and its result.
#[derive(Debug)]
pub struct FinishedCheck {
    pub report: CheckReport,
    result: Result<(), CheckError>,
}

/// Why a check did not pass.
#[derive(Debug, Clone)]
enum CheckError {
    /// How the check ended, as the end of a sentence.
    Failed(String),
    /// Why the shell could not start the check, as the end of a sentence.
    CannotStart(String),
}

/// A check that failed.
#[derive(Debug, Clone)]
pub struct FailedCheck {
    pub command: String,
    /// How the check ended, as the end of a sentence.
    pub how_it_ended: String,
    /// The end of the output, with masked secrets.
    pub output_tail: String,
}

impl FinishedCheck {
    /// This check as a failed check; `None` if it passed. A check that cannot start is a failure of the run: the
    /// command is wrong or its program is not installed, and the agent cannot change that.
    pub fn failed_check(&self) -> Result<Option<FailedCheck>, Failure> {
        let CheckReport {
            command,
            output_tail,
            ..
        } = &self.report;
        match &self.result {
            Ok(()) => Ok(None),
            Err(CheckError::Failed(how_it_ended)) => Ok(Some(FailedCheck {
                command: command.clone(),
                how_it_ended: how_it_ended.clone(),
                output_tail: output_tail.clone(),
            })),
            Err(CheckError::CannotStart(why)) => Err(Failure {
                causes: vec![output_tail.clone()],
                retryable: false,
                ..Failure::new(
                    Reason::WorkspaceFailed,
                    format!(
                        "the check `{command}` cannot start: {why}; correct the command in DESCARTES_CHECKS or \
                         .scud/config.toml, or install the program"
                    ),
                )
            }),
        }
    }
}

impl FailedCheck {
    /// The failure of a run that ends because of this check.
    pub fn failure(&self) -> Failure {
        let message = format!("the check `{}` {}", self.command, self.how_it_ended);
        Failure {
            causes: vec![self.output_tail.clone()],
            ..Failure::new(Reason::ChecksFailed, message)
        }
    }
}

/// Runs one check. Returns an error only if the whole run must end.
pub async fn run(
    command: &str,
    program: Program,
    limits: Limits,
    redactor: &Redactor,
    stop: &Stop,
    progress: &Progress,
) -> Result<FinishedCheck, Failure> {
    let shown = visible(command);
    tracing::info!("check: {shown}");
    let began = Instant::now();
    let path = value_of(&program.env, "PATH")
        .unwrap_or_default()
        .to_owned();
    let dir = program.dir.clone();
    let mut tail = RingBuffer::new(OUTPUT_TAIL);
    let mut lines = output::LogLines::new("check");
    let mut stream = redactor.stream();
    let mut store = |clean: &[u8]| {
        tail.push(clean);
        lines.push(clean);
    };
    let ending = process::supervise(program, limits, stop, progress, &mut |_, bytes| {
        stream.push(bytes, &mut store);
        AfterRead::ReadMore
    })
    .await;
    stream.finish(&mut store);
    lines.finish();
    let (exit_code, result) = match ending {
        Ok(Ending::Stopped(why)) => return Err(stop_failure(&why)),
        Ok(Ending::Exited(0)) => (Some(0), Ok(())),
        Ok(ending @ Ending::Exited(code)) => {
            let error = match cannot_start(code, &look_up(command, &path, Some(&dir))) {
                Some(why) => CheckError::CannotStart(why),
                None => CheckError::Failed(ending.to_string()),
            };
            (Some(code), Err(error))
        }
        Ok(ending) => (None, Err(CheckError::Failed(ending.to_string()))),
        Err(error) => return Err(Failure::from_error(Reason::WorkspaceFailed, &error)),
    };
    let how_it_ended = match &result {
        Ok(()) => "passed",
        Err(CheckError::Failed(how_it_ended)) => how_it_ended,
        Err(CheckError::CannotStart(_)) => "cannot start",
    };
    tracing::info!(passed = result.is_ok(), elapsed = %in_words(began.elapsed()), "check: {shown}: {how_it_ended}");
    let report = CheckReport {
        command: command.to_owned(),
        exit_code,
        duration: began.elapsed(),
        output_tail: tail.text(),
    };
    Ok(FinishedCheck { report, result })
}

/// Why the shell could not start a check; `None` if the check did start, or if it is unknown which program it starts.
/// If the program exists, exit code 127 comes from that program: `npm test` exits with 127 if a program that it starts
/// is missing, and the agent may install that one. If the program is unknown, the agent may be able to make it:
/// `cd web && ./test` needs only the file `web/test`.
fn cannot_start(code: i32, lookup: &Lookup) -> Option<String> {
    match (code, lookup) {
        (EXIT_CODE_NOT_FOUND | EXIT_CODE_NOT_EXECUTABLE, Lookup::Missing(word)) => Some(format!(
            "there is no executable program `{word}` (exit code {code})"
        )),
        _ => None,
    }
}
