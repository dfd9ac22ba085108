//! One child process, supervised: started in a group of its own, heard, limited, ended, swept up.
//!
//! Knows no agents: what the output means and what an ending is called is for others to say.
//! When [`supervise`] returns, nothing that the child started is left alive.

mod descendants;
mod ear;
mod group;
pub mod memory;

use std::ffi::OsString;
use std::fs::File;
use std::future::pending;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::progress::Progress;
use crate::shutdown::{Stop, Why};
use descendants::Descendants;
use ear::Ear;
use group::Group;

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

/// What to start.
#[derive(Debug)]
pub struct Program {
    pub program: OsString,
    pub args: Vec<OsString>,
    /// The working directory; it must exist.
    pub dir: PathBuf,
    /// The whole environment: nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// What it reads from standard input; nothing where this is `None`. A file and not a pipe,
    /// so that nobody has to write while it does not read.
    pub stdin: Option<File>,
    pub stderr: Stderr,
}

/// Where standard error goes.
#[derive(Debug)]
pub enum Stderr {
    /// Into the same pipe as standard output, which keeps their order exactly.
    WithStdout,
    /// Into a pipe of its own, so that it cannot break the lines of a protocol.
    Apart,
    File(File),
}

/// What of a child is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    Stdout,
    /// Only where [`Stderr::Apart`] was asked for.
    Stderr,
}

/// What the listener made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    More,
    /// The child has said all it had to: it may go, and is made to before long.
    LastWord,
}

impl Program {
    /// A command line for `sh -c`.
    pub fn shell(command: &str, dir: PathBuf, env: Vec<(OsString, OsString)>) -> Self {
        let args = vec!["-c".into(), command.into()];
        Self {
            program: "/bin/sh".into(),
            args,
            dir,
            env,
            stdin: None,
            stderr: Stderr::WithStdout,
        }
    }
}

/// How long it may go on.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Wall clock.
    pub wall: Duration,
    /// Without any output; `None` where silence is no sign.
    pub idle: Option<Duration>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    Exited(i32),
    /// By a signal that the worker did not send.
    Killed(Signal),
    /// The kernel killed it, or something of its, for memory.
    OutOfMemory,
    /// The worker ended it: it went on longer than this.
    TimedOut(Duration),
    /// The worker ended it: nothing was heard for this long.
    Idle(Duration),
    /// The worker ended it: it had said its last word and would not go.
    Lingered,
    /// The worker ended it, being told to.
    Stopped(Why),
}

/// Why it could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{program} is not there")]
    NotFound { program: String },
    #[error("{program} is not executable")]
    NotExecutable { program: String },
    #[error("the directory {dir} cannot be worked in")]
    Directory { dir: String, source: io::Error },
    #[error("{program} could not be started")]
    Other { program: String, source: io::Error },
}

/// Starts a program and stays with it until nothing of it is left.
///
/// `hear` gets the bytes of its output as they come. Any output is a sign of life for `progress`.
pub async fn supervise(
    program: Program,
    limits: Limits,
    stop: &Stop,
    progress: &Progress,
    hear: &mut dyn FnMut(Voice, &[u8]) -> Heard,
) -> Result<Ending, StartError> {
    let kills_before = memory::oom_kills();
    let began = Instant::now();
    let (mut group, outputs) = start(program)?;
    let mut ear = Ear::new(outputs, progress, hear);
    let last_word = ear.last_word();

    let end = ear
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
    ear.until(group.end(grace, stop.sweep_over(SWEEP))).await;
    ear.finish().await;

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

/// A signal by its number, where it is one that has a name.
pub fn signal(number: i32) -> Option<Signal> {
    Signal::from_named_raw(number)
}

/// A signal as people know it: `SIGKILL`.
pub fn name(signal: Signal) -> String {
    let known = NAMES.iter().find(|(known, _)| *known == signal);
    known.map_or_else(
        || format!("signal {}", signal.as_raw()),
        |(_, name)| (*name).to_owned(),
    )
}

/// The signals that programs die of.
const NAMES: [(Signal, &str); 17] = [
    (Signal::HUP, "SIGHUP"),
    (Signal::INT, "SIGINT"),
    (Signal::QUIT, "SIGQUIT"),
    (Signal::ILL, "SIGILL"),
    (Signal::TRAP, "SIGTRAP"),
    (Signal::ABORT, "SIGABRT"),
    (Signal::BUS, "SIGBUS"),
    (Signal::FPE, "SIGFPE"),
    (Signal::KILL, "SIGKILL"),
    (Signal::USR1, "SIGUSR1"),
    (Signal::SEGV, "SIGSEGV"),
    (Signal::USR2, "SIGUSR2"),
    (Signal::PIPE, "SIGPIPE"),
    (Signal::ALARM, "SIGALRM"),
    (Signal::TERM, "SIGTERM"),
    (Signal::XCPU, "SIGXCPU"),
    (Signal::XFSZ, "SIGXFSZ"),
];

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

/// The reading ends of a child's output.
struct Outputs {
    stdout: io::PipeReader,
    stderr: Option<io::PipeReader>,
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
