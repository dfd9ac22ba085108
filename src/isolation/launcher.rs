//! The hidden command `launch`: restricts itself, then executes the program. Needs no `unsafe`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use super::control_group;
use super::init;
use super::kind::{
    GROUP_WORD, Kind, LAUNCH_COMMAND, PROGRAM_WORD, SET_WORD, TEST_EXIT_CODE, USER_WORD,
};
use super::socket::{LauncherSocket, NOT_STARTED};

/// The hidden command was not started by a worker.
#[derive(Debug, thiserror::Error)]
#[error("`{LAUNCH_COMMAND}` is used by the worker itself; run `descartes-worker --help`")]
pub struct NotStartedByWorker;

/// Runs the hidden command if the arguments of this process name it; returns its exit code.
///
/// The standard input of the program is received first, because it comes over the socket that the messages use. The
/// capabilities are dropped before Landlock, and the user changes last: another user could not do the other steps.
pub fn run_if_requested() -> Option<Result<ExitCode, NotStartedByWorker>> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != LAUNCH_COMMAND {
        return None;
    }
    let kind = args.next().unwrap_or_default();
    let keeps_pwd = args.next().is_some_and(|word| word == "pwd");
    let (mut variables, mut user, mut group_members) = (Vec::new(), None, None);
    let program = loop {
        match args.next() {
            Some(word) if word == SET_WORD => variables.extend(args.next().zip(args.next())),
            Some(word) if word == GROUP_WORD => group_members = args.next(),
            Some(word) if word == USER_WORD => {
                match (parse_number(args.next()), parse_number(args.next())) {
                    (Some(uid), Some(gid)) => user = Some((uid, gid)),
                    _ => return Some(Err(NotStartedByWorker)),
                }
            }
            Some(word) if word == PROGRAM_WORD => break args.next(),
            _ => break None,
        }
    };
    let Ok(socket) = LauncherSocket::from_stdin() else {
        return Some(Err(NotStartedByWorker));
    };
    let Ok(stdin) = socket.receive_stdin() else {
        return Some(Err(NotStartedByWorker));
    };
    if let Some(members) = group_members {
        control_group::join(Path::new(&members));
    }
    // Starts a session without a controlling terminal. An error means that the process leads one already.
    let _ = rustix::process::setsid();
    let is_namespace = kind == Kind::Namespace.word();
    #[cfg(target_os = "linux")]
    drop_capabilities();
    let kind = if is_namespace {
        Kind::Namespace
    } else {
        restrict_by_landlock()
    };
    let Some(program) = program else {
        return Some(Ok(exit_code_of_test(kind)));
    };
    let mut command = Command::new(program);
    command
        .args(args)
        .envs(variables)
        .stdin(stdin.map_or_else(Stdio::null, Stdio::from));
    if let Some((uid, gid)) = user {
        // This also drops root's supplementary groups.
        command.uid(uid).gid(gid);
    }
    if !keeps_pwd {
        command.env_remove("PWD");
    }
    Some(Ok(if is_namespace {
        init::run(command, socket)
    } else {
        let error = command.exec();
        socket.report_not_started(&error)
    }))
}

fn parse_number(word: Option<OsString>) -> Option<u32> {
    word?.to_str()?.parse().ok()
}

/// Reports the kind of isolation by the exit code; see [`TEST_EXIT_CODE`].
fn exit_code_of_test(kind: Kind) -> ExitCode {
    let number = Kind::ALL.iter().position(|known| *known == kind);
    let number = number.and_then(|number| i32::try_from(number).ok());
    let code = number.and_then(|number| u8::try_from(TEST_EXIT_CODE + number).ok());
    ExitCode::from(code.unwrap_or(NOT_STARTED))
}

/// Restricts this process by Landlock, as far as the kernel supports it; returns the resulting kind of isolation.
#[cfg(target_os = "linux")]
fn restrict_by_landlock() -> Kind {
    if restrict_signals().is_ok() {
        Kind::Landlock
    } else if restrict_tracing().is_ok() {
        Kind::LandlockTrace
    } else {
        Kind::Session
    }
}

#[cfg(not(target_os = "linux"))]
fn restrict_by_landlock() -> Kind {
    Kind::Session
}

/// Drops capabilities that let a program see the machine's processes. Since Linux 6.15, a process with one of them
/// can read the environment of every other process, also under Landlock. In a PID namespace, such a process could
/// unmount `/proc`, and would then see the `/proc` of the machine, which it covers. A program of root gets the
/// capabilities that are left in the bounding set. An error means that this process has none of them.
#[cfg(target_os = "linux")]
fn drop_capabilities() {
    use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
    for capability in [
        CapabilitySet::PERFMON,
        CapabilitySet::SYS_ADMIN,
        CapabilitySet::SYS_PTRACE,
    ] {
        let _ = remove_capability_from_bounding_set(capability);
    }
}

/// Enters a Landlock domain that forbids signals to processes outside of it. Like every domain, it also forbids to
/// trace them.
#[cfg(target_os = "linux")]
fn restrict_signals() -> Result<(), landlock::RulesetError> {
    use landlock::{CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};
    let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    rules.scope(Scope::Signal)?.create()?.restrict_self()?;
    Ok(())
}

/// Enters a Landlock domain, which forbids to trace processes outside of it. A domain must forbid some other access,
/// too: this one forbids to make block devices, which only root can do anyway.
#[cfg(target_os = "linux")]
fn restrict_tracing() -> Result<(), landlock::RulesetError> {
    use landlock::{AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};
    let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    rules
        .handle_access(AccessFs::MakeBlock)?
        .create()?
        .restrict_self()?;
    Ok(())
}
