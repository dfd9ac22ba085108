//! One supervised child process: starts it in its own process group, reads its output, enforces its
//! limits, and ends it together with every process below it.
//!
//! Knows nothing about agents: the callers interpret the output and the ending.
//! When [`supervise`] returns, nothing that the child started is alive.

mod descendants;
mod ending;
mod group;
mod helper;
mod launcher;
pub mod memory;
mod output_reader;
mod program;
mod signals;

use std::future::pending;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::descriptors::Inherited;
use crate::progress::Progress;
use crate::shutdown::Stop;
use descendants::Descendants;
pub use ending::Ending;
use group::Group;
pub use helper::HelperProcess;
use launcher::{Launcher, LeaderEnd};
use memory::OutOfMemory;
pub use output_reader::{AfterRead, Stream};
use output_reader::{OutputPipes, OutputReader};
pub use program::{Limits, Program, StartError, Stderr};
pub use signals::{signal_from_number, signal_name};

/// The grace period between SIGTERM and SIGKILL for a child that the worker ends, if no stop signal shortens it: long
/// enough for a build tool to clean up.
pub const KILL_GRACE: Duration = Duration::from_secs(10);
/// The grace period for processes that are left in the group after the leader has ended by itself: usually a
/// forgotten development server.
const LEFTOVER_GRACE: Duration = Duration::from_secs(1);
/// How long a child may take to exit by itself after it has reported its result: long enough to save a session, and
/// short, because often only a forgotten background shell keeps the child alive.
const EXIT_GRACE: Duration = Duration::from_secs(3);
/// How long to keep killing processes that do not die; a stop window shortens it. On a machine with a hundred busy
/// processes for each processor, killed processes need seconds to die.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// The capacity of the pipe for standard output, in bytes. The kernel's default is 64 KiB. A larger capacity costs
/// nothing until it is used, and saves most of the context switches.
const PIPE_CAPACITY: usize = 1024 * 1024;

/// Runs a program until the program and every process below it have ended.
/// `on_output` gets the bytes of the program's output as they come. Output counts as activity in `progress`, unless
/// `program.stderr` says otherwise.
///
/// # Errors
/// If the program cannot be started.
pub async fn supervise(
    program: Program,
    limits: Limits,
    stop: &Stop,
    progress: &Progress,
    on_output: &mut dyn FnMut(Stream, &[u8]) -> AfterRead,
) -> Result<Ending, StartError> {
    supervise_until(program, limits, stop, progress, pending(), on_output).await
}

/// Like [`supervise`], and ends the program when `event` happens.
///
/// First waits for the end of the program or for a reason to end it. Then ends the whole group, and reads on meanwhile:
/// a program that cannot write would not react to SIGTERM. The rest of the output is read last, when no process can
/// write any more. The kernel's counter of processes that were killed because memory ran out is for all processes, so
/// its value is compared with the value before the start.
pub async fn supervise_until(
    program: Program,
    limits: Limits,
    stop: &Stop,
    progress: &Progress,
    event: impl Future<Output = ()>,
    on_output: &mut dyn FnMut(Stream, &[u8]) -> AfterRead,
) -> Result<Ending, StartError> {
    let memory_before = memory::OomKills::count();
    let start_time = Instant::now();
    let name = program.program.to_string_lossy().into_owned();
    let (mut group, outputs) = start(program)?;
    let mut reader = OutputReader::new(outputs, progress, on_output);
    let result_reported = reader.result_reported();

    let ended_by = reader
        .read_until(async {
            tokio::select! {
                biased;
                end = group.wait_for_leader_end() => match end {
                    LeaderEnd::Status(status) => EndedBy::Child(status),
                    LeaderEnd::NotStarted(error) => EndedBy::LaunchFailure(error),
                },
                why = stop.wait_until_requested() => EndedBy::Worker(Ending::Stopped(why)),
                () = sleep_until(start_time + limits.run_time) => EndedBy::Worker(Ending::TimedOut(limits.run_time)),
                () = event => EndedBy::Worker(Ending::EventHappened),
                () = wait_until_exit_is_overdue(&result_reported) => EndedBy::Worker(Ending::Lingered),
                idle = wait_until_output_is_overdue(limits.idle_timeout, progress) => EndedBy::Worker(Ending::Idle(idle)),
            }
        })
        .await;
    let grace_start = Instant::now();
    let grace = async {
        match &ended_by {
            EndedBy::Child(_) | EndedBy::LaunchFailure(_) | EndedBy::Worker(Ending::Lingered) => {
                sleep(LEFTOVER_GRACE).await;
            }
            EndedBy::Worker(_) => stop.wait_for_grace_period(grace_start + KILL_GRACE).await,
        }
    };
    let give_up = stop.wait_for_kill_timeout(KILL_TIMEOUT);
    reader.read_until(group.end(grace, give_up)).await;
    reader.read_rest().await;

    match ended_by {
        EndedBy::Worker(ending) => Ok(ending),
        EndedBy::LaunchFailure(error) => Err(StartError::of(name, error)),
        EndedBy::Child(status) => {
            let status = status.unwrap_or_else(group::unknown_status);
            Ok(classify(status, memory_before.compare_with_now()))
        }
    }
}

/// Kills and reaps the descendants that earlier calls of [`supervise`] left: after a panic, or if they forked faster
/// than they died.
pub async fn kill_leftovers() {
    let mut descendants = Descendants::adopt();
    let _ = timeout(KILL_TIMEOUT, descendants.kill_all()).await;
}

/// Whether no process is left below the worker. Processes that fork faster than they die can outlast [`supervise`].
pub fn no_descendants_left() -> bool {
    descendants::no_descendants_left()
}

/// The cause of the child's end.
enum EndedBy {
    /// The child ended by itself. `None` if its exit status is unknown.
    Child(Option<ExitStatus>),
    /// The launcher could not execute the program.
    LaunchFailure(io::Error),
    /// The worker ended the child, for this reason.
    Worker(Ending),
}

/// The ending of a child that the worker did not end.
fn classify(status: ExitStatus, memory: OutOfMemory) -> Ending {
    match memory {
        OutOfMemory::Certainly if !status.success() => return Ending::OutOfMemory,
        OutOfMemory::Possibly if status.signal() == Some(Signal::KILL.as_raw()) => {
            return Ending::PossiblyOutOfMemory;
        }
        OutOfMemory::Possibly => tracing::warn!(
            "the kernel killed a process because memory ran out; it is unknown whether that was a process of this run"
        ),
        OutOfMemory::Certainly | OutOfMemory::No => {}
    }
    match (status.code(), status.signal().and_then(signal_from_number)) {
        (Some(code), _) => Ending::Exited(code),
        (None, Some(signal)) => Ending::Killed(signal),
        // A real-time signal has no name and is reported as SIGKILL.
        (None, None) => Ending::Killed(Signal::KILL),
    }
}

/// Starts a program. The error distinguishes an unusable directory from an unusable program.
fn start(program: Program) -> Result<(Group, OutputPipes), StartError> {
    // stat `dir/.` needs search permission, so a later ENOENT or EACCES concerns the program.
    if let Err(source) = std::fs::metadata(program.dir.join(".")) {
        return Err(StartError::Directory {
            dir: program.dir.display().to_string(),
            source,
        });
    }
    let name = program.program.to_string_lossy().into_owned();
    spawn(program).map_err(|source| StartError::of(name, source))
}

/// Starts a program in a new process group or session, with pipes for its output.
///
/// The worker must be the subreaper before the program starts, so that no orphan escapes. Descriptors for the child are
/// made inheritable only around the start, so that no other program inherits them.
fn spawn(mut program: Program) -> io::Result<(Group, OutputPipes)> {
    let (stdout, stdout_writer) = io::pipe()?;
    // The larger pipe only saves time. The kernel may refuse the size (there is a limit per user), and 64 KiB work too.
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(&stdout, PIPE_CAPACITY);
    let stderr_is_activity = !matches!(program.stderr, Stderr::SeparateWithoutActivity);
    let (stderr, stderr_writer) = match program.stderr {
        Stderr::WithStdout => (None, Stdio::from(stdout_writer.try_clone()?)),
        Stderr::Separate | Stderr::SeparateWithoutActivity => {
            let (stderr, writer) = io::pipe()?;
            (Some(stderr), writer.into())
        }
    };
    let prepared = match program.launch {
        None => None,
        Some(launch) => {
            let args = std::mem::take(&mut program.args);
            let target = std::mem::take(&mut program.program);
            Some(launch.prepare(target, args, program.stdin.as_ref(), &mut program.env)?)
        }
    };
    let mut command = match &prepared {
        None => Command::new(program.program),
        Some(prepared) => Command::new(&prepared.program),
    };
    command
        .current_dir(program.dir)
        .env_clear()
        .envs(program.env)
        .stdout(stdout_writer)
        .stderr(stderr_writer);
    match &prepared {
        None => command
            .args(program.args)
            .stdin(program.stdin.map_or_else(Stdio::null, Stdio::from))
            .process_group(0),
        Some(prepared) => command
            .args(&prepared.args)
            .stdin(prepared.stdin.try_clone()?),
    };
    // bubblewrap leads its process group from the start. The other launcher makes a session itself, which a group
    // leader cannot do.
    if prepared
        .as_ref()
        .is_some_and(|prepared| prepared.is_namespace)
    {
        command.process_group(0);
    }
    let descendants = Descendants::adopt();
    if let Some(prepared) = &prepared {
        prepared.make_descriptor_inheritable()?;
    }
    let lent_descriptors = program
        .inherited
        .as_ref()
        .map(Inherited::let_children_inherit)
        .transpose()?;
    // Not tokio's `Command`: tokio reaps children too, which would race with this module.
    let child = memory::with_raised_score(|| command.spawn())?;
    drop(lent_descriptors);
    // The command still holds the writing ends, which would keep the pipe open forever.
    drop(command);
    let launcher = prepared.map(Launcher::of).transpose()?;
    let group = Group::of(&child, launcher, descendants)?;
    Ok((
        group,
        OutputPipes {
            stdout,
            stderr,
            stderr_is_activity,
        },
    ))
}

/// Waits until [`EXIT_GRACE`] has passed since the child reported its result.
async fn wait_until_exit_is_overdue(result_reported: &Notify) {
    result_reported.notified().await;
    sleep(EXIT_GRACE).await;
}

/// Waits until there was no activity for `limit`; returns the limit.
async fn wait_until_output_is_overdue(limit: Option<Duration>, progress: &Progress) -> Duration {
    let Some(limit) = limit else {
        return pending().await;
    };
    loop {
        let deadline = progress.last_alive() + limit;
        if deadline <= Instant::now() {
            return limit;
        }
        sleep_until(deadline).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_and_the_counters_of_kills_decide_whether_a_child_ran_out_of_memory() {
        let killed = ExitStatus::from_raw(Signal::KILL.as_raw());
        let failed = ExitStatus::from_raw(1 << 8);
        let succeeded = ExitStatus::from_raw(0);
        let cases = [
            (OutOfMemory::Possibly, failed, Ending::Exited(1)),
            (OutOfMemory::Possibly, succeeded, Ending::Exited(0)),
            (OutOfMemory::Possibly, killed, Ending::PossiblyOutOfMemory),
            (OutOfMemory::Certainly, failed, Ending::OutOfMemory),
            (OutOfMemory::Certainly, succeeded, Ending::Exited(0)),
            (OutOfMemory::No, killed, Ending::Killed(Signal::KILL)),
        ];
        for (memory, status, expected) in cases {
            assert_eq!(classify(status, memory), expected, "{memory:?} {status:?}");
        }
        let text = Ending::PossiblyOutOfMemory.to_string();
        assert!(text.contains("possibly"), "{text}");
    }
}
