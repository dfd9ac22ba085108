//! One supervised child process: started in its own process group, read, limited, ended, with everything below it.
//!
//! Knows no agents: what the output means and what an ending is called is for others to say.
//! When [`supervise`] returns, nothing that the child started is left alive.

mod descendants;
mod ending;
mod group;
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
use tokio::time::{Instant, sleep, sleep_until};

use crate::progress::Progress;
use crate::shutdown::Stop;
use descendants::Descendants;
pub use ending::Ending;
use group::Group;
pub use output_reader::{AfterRead, Stream};
use output_reader::{OutputReader, Outputs};
pub use program::{Limits, Program, StartError, Stderr};
pub use signals::{name, signal};

/// What is left in the group when its leader has ended by itself gets this long after SIGTERM;
/// it had its time, and nobody waits for a forgotten development server.
const LEFTOVER_GRACE: Duration = Duration::from_secs(1);
/// What has said its last word gets this long to go by itself: enough to write down a session, and
/// nobody waits for a background shell that it still has.
const LAST_WORD_GRACE: Duration = Duration::from_secs(3);
/// How long to go on killing what would not die; shorter in a hurry.
const SWEEP: Duration = Duration::from_secs(2);
/// The kernel's default pipe capacity is 64 KiB; a larger one costs nothing until it is used and
/// spares both sides most of the context switches.
const PIPE: usize = 1024 * 1024;

/// Starts a program and stays with it until nothing of it is left.
///
/// `on_output` gets the bytes of its output as they come. Any output is a sign of life for `progress`.
pub async fn supervise(
    program: Program,
    limits: Limits,
    stop: &Stop,
    progress: &Progress,
    on_output: &mut dyn FnMut(Stream, &[u8]) -> AfterRead,
) -> Result<Ending, StartError> {
    let kills_before = memory::oom_kills();
    let began = Instant::now();
    let (mut group, outputs) = start(program)?;
    let mut reader = OutputReader::new(outputs, progress, on_output);
    let last_word = reader.last_word();

    let end = reader
        .until(async {
            tokio::select! {
                biased;
                status = group.leader_ended() => End::Itself(status),
                why = stop.asked() => End::Early(Ending::Stopped(why)),
                () = sleep_until(began + limits.wall) => End::Early(Ending::TimedOut(limits.wall)),
                () = lingering(&last_word) => End::Early(Ending::Lingered),
                idle = silence(limits.idle, progress) => End::Early(Ending::Idle(idle)),
            }
        })
        .await;
    let grace_began = Instant::now();
    let grace = async {
        match end {
            End::Itself(_) | End::Early(Ending::Lingered) => sleep(LEFTOVER_GRACE).await,
            End::Early(_) => stop.grace_over(grace_began).await,
        }
    };
    reader.until(group.end(grace, stop.sweep_over(SWEEP))).await;
    reader.finish().await;

    let killed_for_memory = memory::oom_kills() > kills_before;
    Ok(match end {
        End::Early(ending) => ending,
        End::Itself(status) => verdict(status.unwrap_or_else(group::lost), killed_for_memory),
    })
}

/// Whether nothing is left of what the worker started; an agent that forks faster than it dies
/// can outlast [`supervise`].
pub fn alone() -> bool {
    descendants::none()
}

/// Who ended it.
enum End {
    Itself(Option<ExitStatus>),
    Early(Ending),
}

fn verdict(status: ExitStatus, killed_for_memory: bool) -> Ending {
    if killed_for_memory && !status.success() {
        return Ending::OutOfMemory;
    }
    match (status.code(), status.signal().and_then(signal)) {
        (Some(code), _) => Ending::Exited(code),
        (None, Some(signal)) => Ending::Killed(signal),
        // A real-time signal: no name, the same meaning.
        (None, None) => Ending::Killed(Signal::KILL),
    }
}

fn start(program: Program) -> Result<(Group, Outputs), StartError> {
    // Its entry `.` is there for whoever may enter it, so this is no wrong word about the program.
    if let Err(source) = std::fs::metadata(program.dir.join(".")) {
        return Err(StartError::Directory {
            dir: program.dir.display().to_string(),
            source,
        });
    }
    let name = program.program.to_string_lossy().into_owned();
    spawn(program).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => StartError::NotFound { program: name },
        io::ErrorKind::PermissionDenied => StartError::NotExecutable { program: name },
        _ => StartError::Other {
            program: name,
            source,
        },
    })
}

fn spawn(program: Program) -> io::Result<(Group, Outputs)> {
    let (stdout, input) = io::pipe()?;
    // Only a matter of speed: a kernel that refuses (a limit per user) leaves 64 KiB.
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(&stdout, PIPE);
    let (stderr, errors) = match program.stderr {
        Stderr::WithStdout => (None, Stdio::from(input.try_clone()?)),
        Stderr::Apart => {
            let (stderr, input) = io::pipe()?;
            (Some(stderr), input.into())
        }
        Stderr::File(file) => (None, file.into()),
    };
    let mut command = Command::new(program.program);
    command
        .args(program.args)
        .current_dir(program.dir)
        .env_clear()
        .envs(program.env)
        .stdin(program.stdin.map_or_else(Stdio::null, Stdio::from))
        .stdout(input)
        .stderr(errors)
        .process_group(0);
    let descendants = Descendants::adopt();
    // Not the runtime's `Command`: its way of waiting and this module's would be in each other's.
    let child = memory::preferred(|| command.spawn())?;
    // The command still holds the writing ends, which would keep the pipe open for ever.
    drop(command);
    let group = Group::of(&child, descendants)?;
    Ok((group, Outputs { stdout, stderr }))
}

/// Waits until a child that has said its last word has had its time to go.
async fn lingering(last_word: &Notify) {
    last_word.notified().await;
    sleep(LAST_WORD_GRACE).await;
}

/// Waits until nothing was heard for `limit`, and says how long that was.
async fn silence(limit: Option<Duration>, progress: &Progress) -> Duration {
    let Some(limit) = limit else {
        return pending().await;
    };
    loop {
        let over = progress.last_life() + limit;
        if over <= Instant::now() {
            return limit;
        }
        sleep_until(over).await;
    }
}
