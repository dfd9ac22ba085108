//! The project's own checks: commands that must pass before the work counts.
//!
//! Decides nothing about repairs; `runner` does.

use std::time::Duration;

use tokio::time::Instant;

use super::failures::stopped;
use super::output;
use crate::durations::in_words;
use crate::process::{self, AfterRead, Ending, Limits, Program};
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::ring_buffer::RingBuffer;
use crate::scud::Project;
use crate::shutdown::Stop;
use crate::task::{CheckReport, Failure, Reason};

/// The last output of a check that is reported, and shown to the agent: the end is where tools
/// say what is wrong.
const TAIL: usize = 4 * 1024;

/// What must pass.
#[derive(Debug, Clone)]
pub struct Checks {
    pub commands: Vec<String>,
    /// Whether those after a failed one are left out.
    pub stop_on_failure: bool,
    /// For each one.
    pub timeout: Duration,
}

impl Checks {
    /// The given commands, else the project's.
    pub fn of(project: &Project, given: Option<&[String]>) -> Result<Self, Failure> {
        let own = project
            .checks()
            .map_err(|error| Failure::because(Reason::WorkspaceFailed, &error))?;
        Ok(Self {
            commands: given.map_or(own.commands, <[String]>::to_vec),
            stop_on_failure: own.stop_on_failure,
            // 0 s is SCUD's way to write nothing useful; the task's own time still bounds it.
            timeout: if own.timeout.is_zero() {
                Duration::MAX
            } else {
                own.timeout
            },
        })
    }
}

/// One check as it went.
#[derive(Debug)]
pub struct Checked {
    pub report: CheckReport,
    how: String,
    passed: bool,
}

/// A check that failed.
#[derive(Debug, Clone)]
pub struct Failed {
    pub command: String,
    /// How it ended, as the end of a sentence.
    pub how: String,
    pub output_tail: String,
}

impl Checked {
    pub fn failed(&self) -> Option<Failed> {
        (!self.passed).then(|| Failed {
            command: self.report.command.clone(),
            how: self.how.clone(),
            output_tail: self.report.output_tail.clone(),
        })
    }
}

impl Failed {
    pub fn failure(&self) -> Failure {
        let message = format!("the check `{}` {}", self.command, self.how);
        Failure {
            causes: vec![self.output_tail.clone()],
            ..Failure::new(Reason::ChecksFailed, message)
        }
    }
}

/// Runs one check; an error only where the run itself must end.
pub async fn run(
    command: &str,
    program: Program,
    limits: Limits,
    redactor: &Redactor,
    stop: &Stop,
    progress: &Progress,
) -> Result<Checked, Failure> {
    tracing::info!("check: {command}");
    let began = Instant::now();
    let mut tail = RingBuffer::new(TAIL);
    let mut lines = output::LogLines::new("check");
    let mut stream = redactor.stream();
    let mut keep = |clean: &[u8]| {
        tail.push(clean);
        lines.push(clean);
    };
    let ending = process::supervise(program, limits, stop, progress, &mut |_, bytes| {
        stream.push(bytes, &mut keep);
        AfterRead::ReadMore
    })
    .await;
    stream.finish(&mut keep);
    lines.finish();
    let (exit_code, how) = match ending {
        Ok(Ending::Stopped(why)) => return Err(stopped(&why)),
        Ok(ending @ Ending::Exited(code)) => (Some(code), ending.to_string()),
        Ok(ending) => (None, ending.to_string()),
        Err(error) => return Err(Failure::because(Reason::WorkspaceFailed, &error)),
    };
    let passed = exit_code == Some(0);
    tracing::info!(passed, elapsed = %in_words(began.elapsed()), "check: {command}: {}", if passed { "passed" } else { &how });
    let report = CheckReport {
        command: command.to_owned(),
        exit_code,
        duration: began.elapsed(),
        output_tail: tail.text(),
    };
    Ok(Checked {
        report,
        how,
        passed,
    })
}
