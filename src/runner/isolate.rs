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
/// A shell script that enters each directory among its arguments. Its exit code is the position, counted from 1, of the
/// first directory that it cannot enter, or 0 if it can enter all of them.
const ENTER_SCRIPT: &str =
    "number=0; for dir; do number=$((number + 1)); cd -- \"$dir\" || exit $number; done";
/// How much of a test's output an error quotes, in bytes.
const MAX_QUOTED_OUTPUT: usize = 500;

/// Finds the strongest isolation that works here, and stores it in `isolation`: a PID namespace, else Landlock, else
/// none.
///
/// # Errors
/// If `DESCARTES_ISOLATION` is `strict` and there is no PID namespace, or if no program can be started as the
/// agent's user.
pub async fn test_isolation(
    isolation: &Isolation,
    environment: &Variables,
    stop: &Stop,
    progress: &Progress,
) -> Result<Kind, Failure> {
    if isolation.mode == Mode::Off {
        isolation.set_tested_kind(Kind::Off);
        return Ok(Kind::Off);
    }
    let mut why = "bubblewrap (bwrap) is not on the PATH".to_owned();
    if let Some(launch) = isolation.launch_as(Kind::Namespace) {
        match test_launcher(launch, environment, stop, progress).await {
            Ok(kind) => {
                test_user(isolation, kind, environment, stop, progress).await?;
                isolation.set_tested_kind(kind);
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
        Some(launch) => test_launcher(launch, environment, stop, progress).await,
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
        return Err(user_failure(user, &error));
    }
    isolation.set_tested_kind(kind);
    Ok(kind)
}

/// Tests that a program can be started as the agent's user, if that is not the worker's user.
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
        Ok(ending) => Err(user_failure(user, &format!("a test {ending}"))),
        Err(error) => Err(user_failure(user, &eyre::Report::from(error))),
    }
}

/// An error if the agent's user cannot enter one of the directories. A program of that user tries to enter them,
/// because the permission bits alone do not say whether it can.
pub async fn check_agent_can_enter(
    isolation: &Isolation,
    dirs: &[&Path],
    environment: &Variables,
    stop: &Stop,
    progress: &Progress,
) -> Result<(), Failure> {
    let (Some(user), Some(launch)) = (&isolation.user, isolation.launch()) else {
        return Ok(());
    };
    let mut program = Program::shell(ENTER_SCRIPT, "/".into(), environment.clone(), Some(launch));
    program.args.push("sh".into());
    program.args.extend(dirs.iter().map(Into::into));
    let mut ignore = |_, _: &[u8]| AfterRead::ReadMore;
    let ending = process::supervise(program, TEST_LIMITS, stop, progress, &mut ignore).await;
    let ending = ending.map_err(|error| user_failure(user, &eyre::Report::from(error)))?;
    let Ending::Exited(position) = ending else {
        return Err(user_failure(user, &format!("a test {ending}")));
    };
    let index = usize::try_from(position)
        .ok()
        .and_then(|position| position.checked_sub(1));
    let Some(dir) = index.and_then(|index| dirs.get(index)) else {
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

/// The failure if no program can be started as the agent's user.
fn user_failure(user: &User, error: &dyn Display) -> Failure {
    let name = &user.name;
    let message = format!(
        "no program can be started as DESCARTES_AGENT_USER, {name}: {error:#}; give the worker the capabilities SETUID and \
         SETGID, or unset it"
    );
    Failure::new(Reason::WorkspaceFailed, message)
}

/// Starts the launcher without a program. Its exit code says which kind of isolation it got.
async fn test_launcher(
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
    let mut store_output = |_, bytes: &[u8]| {
        let room = MAX_QUOTED_OUTPUT - output.len();
        output.extend_from_slice(&bytes[..bytes.len().min(room)]);
        AfterRead::ReadMore
    };
    let ending = process::supervise(program, TEST_LIMITS, stop, progress, &mut store_output).await;
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
