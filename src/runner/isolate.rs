//! Tests, once in a run, which isolation this machine allows: starts the launcher without a program.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use crate::environment::Variables;
use crate::isolation::{self, Isolation, Kind, Launch, Mode, User};
use crate::process::{self, AfterRead, Ending, Limits, Program, Stderr};
use crate::progress::Progress;
use crate::shutdown::Stop;
use crate::task::{Failure, Reason};

/// How long a test may take; it usually needs a few milliseconds.
const TEST_LIMITS: Limits = Limits {
    run_time: Duration::from_secs(10),
    idle_timeout: None,
};
/// A shell script that enters each of its arguments. Its exit code is the position of the first directory that it
/// cannot enter, counted from 1, or 0.
const ENTER: &str =
    "number=0; for dir; do number=$((number + 1)); cd -- \"$dir\" || exit $number; done";
/// How much of a test's output an error quotes, in bytes.
const MAX_ERROR: usize = 500;

/// Finds the strongest isolation that works here, and stores it in `isolation`: a PID namespace, else Landlock, else
/// none.
///
/// # Errors
/// If `DESCARTES_ISOLATION` is `strict` and there is no PID namespace, or if no program can be started as the
/// agent's user.
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
                test_user(isolation, kind, environment, stop, progress).await?;
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
    tracing::debug!(why, "no PID namespace");
    if kind != Kind::Off {
        test_user(isolation, kind, environment, stop, progress).await?;
    } else if let Some(user) = &isolation.user {
        let error = "programs cannot be started with another user here";
        return Err(unusable(user, &error));
    }
    isolation.set_tested(kind);
    Ok(kind)
}

/// Starts a program as the agent's user, if that is not the worker's.
async fn test_user(
    isolation: &Isolation,
    kind: Kind,
    environment: &Variables,
    stop: &Stop,
    progress: &Progress,
) -> Result<(), Failure> {
    let (Some(user), Some(launch)) = (&isolation.user, isolation.launch_as(kind)) else {
        return Ok(());
    };
    let program = Program::shell("exit 0", "/".into(), environment.clone(), Some(launch));
    let mut ignore = |_, _: &[u8]| AfterRead::ReadMore;
    match process::supervise(program, TEST_LIMITS, stop, progress, &mut ignore).await {
        Ok(Ending::Exited(0)) => Ok(()),
        Ok(ending) => Err(unusable(user, &format!("a test {ending}"))),
        Err(error) => Err(unusable(user, &eyre::Report::from(error))),
    }
}

/// An error if the agent's user cannot enter a directory that the agent needs. A program tries it, because the
/// permission bits alone do not say.
pub async fn enter(
    isolation: &Isolation,
    dirs: &[&Path],
    environment: &Variables,
    stop: &Stop,
    progress: &Progress,
) -> Result<(), Failure> {
    let (Some(user), Some(launch)) = (&isolation.user, isolation.launch()) else {
        return Ok(());
    };
    let mut program = Program::shell(ENTER, "/".into(), environment.clone(), Some(launch));
    program.args.push("sh".into());
    program.args.extend(dirs.iter().map(Into::into));
    let mut ignore = |_, _: &[u8]| AfterRead::ReadMore;
    let ending = process::supervise(program, TEST_LIMITS, stop, progress, &mut ignore).await;
    let ending = ending.map_err(|error| unusable(user, &eyre::Report::from(error)))?;
    let Ending::Exited(number) = ending else {
        return Err(unusable(user, &format!("a test {ending}")));
    };
    let at = usize::try_from(number)
        .ok()
        .and_then(|number| number.checked_sub(1));
    let Some(dir) = at.and_then(|at| dirs.get(at)) else {
        return Ok(());
    };
    let (name, dir) = (&user.name, dir.display());
    let message = format!(
        "DESCARTES_AGENT_USER, {name}, cannot enter {dir}: give everyone the right to enter each directory above it \
         (`chmod o+x`), or choose another one with TMPDIR or DESCARTES_WORKSPACE"
    );
    Err(Failure {
        retryable: false,
        ..Failure::new(Reason::WorkspaceFailed, message)
    })
}

fn unusable(user: &User, error: &dyn Display) -> Failure {
    let name = &user.name;
    let message = format!(
        "no program can be started as DESCARTES_AGENT_USER, {name}: {error:#}; give the worker the capabilities SETUID and \
         SETGID, or unset it"
    );
    Failure::new(Reason::WorkspaceFailed, message)
}

/// Starts the launcher without a program; its exit code is the number of the isolation that it got.
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
    let mut output = Vec::new();
    let mut keep = |_, bytes: &[u8]| {
        let room = MAX_ERROR - output.len();
        output.extend_from_slice(&bytes[..bytes.len().min(room)]);
        AfterRead::ReadMore
    };
    let ending = process::supervise(program, TEST_LIMITS, stop, progress, &mut keep).await;
    let ending = ending.map_err(|error| error.to_string())?;
    let kind = match ending {
        Ending::Exited(code) => isolation::kind_from_exit_code(code),
        _ => None,
    };
    kind.ok_or_else(|| {
        let output = String::from_utf8_lossy(&output);
        match output.trim() {
            "" => format!("its test {ending}"),
            text => text.to_owned(),
        }
    })
}
