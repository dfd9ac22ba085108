//! Finds out, once in a run, which isolation this machine allows: by starting nothing in it.

use std::time::Duration;

use crate::environment::Variables;
use crate::isolation::{self, Isolation, Kind, Launch, Mode};
use crate::process::{self, AfterRead, Ending, Limits, Program, Stderr};
use crate::progress::Progress;
use crate::shutdown::Stop;
use crate::task::{Failure, Reason};

/// How long a test may take; it usually needs a few milliseconds.
const TEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a test's error is quoted, in bytes.
const MAX_ERROR: usize = 500;

/// Tests the isolation unless that is done; an error if a weaker one is not accepted.
pub async fn test(
    isolation: &Isolation,
    environment: &Variables,
    stop: &Stop,
    progress: &Progress,
) -> Result<Kind, Failure> {
    if isolation.mode == Mode::Off {
        isolation.set_tested(Kind::Off);
        return Ok(Kind::Off);
    }
    let mut why = "bubblewrap (bwrap) is not on the PATH".to_owned();
    if let Some(launch) = isolation.launch_as(Kind::Namespace) {
        match try_out(launch, environment, stop, progress).await {
            Ok(kind) => {
                isolation.set_tested(kind);
                return Ok(kind);
            }
            Err(error) => why = format!("bubblewrap does not work here: {error}"),
        }
    }
    if isolation.mode == Mode::Strict {
        let message = format!(
            "DESCARTES_ISOLATION is strict, and the agent cannot get a PID namespace: {why}; install bubblewrap on a \
             machine that allows namespaces, or set DESCARTES_ISOLATION=auto"
        );
        return Err(Failure::new(Reason::WorkspaceFailed, message));
    }
    let kind = match isolation.launch_as(Kind::Landlock) {
        Some(launch) => try_out(launch, environment, stop, progress).await,
        None => Ok(Kind::Off),
    };
    let kind = kind.unwrap_or_else(|error| {
        tracing::warn!(error, "programs cannot be isolated at all");
        Kind::Off
    });
    isolation.set_tested(kind);
    tracing::debug!(why, "no PID namespace");
    Ok(kind)
}

/// Starts the launcher without a program; it ends with the number of what it got.
async fn try_out(
    launch: Launch,
    environment: &Variables,
    stop: &Stop,
    progress: &Progress,
) -> Result<Kind, String> {
    let program = Program {
        program: String::new().into(),
        args: Vec::new(),
        dir: "/".into(),
        env: environment.clone(),
        stdin: None,
        stderr: Stderr::WithStdout,
        inherited: None,
        launch: Some(launch),
    };
    let limits = Limits {
        wall: TEST_TIMEOUT,
        idle: None,
    };
    let mut said = Vec::new();
    let mut listen = |_, bytes: &[u8]| {
        let room = MAX_ERROR - said.len();
        said.extend_from_slice(&bytes[..bytes.len().min(room)]);
        AfterRead::ReadMore
    };
    let ending = process::supervise(program, limits, stop, progress, &mut listen).await;
    let ending = ending.map_err(|error| error.to_string())?;
    let kind = match ending {
        Ending::Exited(code) => isolation::kind_of_test(code),
        _ => None,
    };
    kind.ok_or_else(|| {
        let words = String::from_utf8_lossy(&said);
        match words.trim() {
            "" => format!("its test {ending}"),
            words => words.to_owned(),
        }
    })
}
