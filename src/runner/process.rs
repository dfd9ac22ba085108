//! One child process, supervised: started in a group of its own, heard, limited, ended, swept up.
//!
//! Knows no agents: what the output means and what an ending is called is for others to say.
//! When [`supervise`] returns, nothing that the child started is left alive.

mod descendants;
mod memory;

use std::ffi::OsString;
use std::fs::File;
use std::future::pending;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::progress::Progress;
use crate::shutdown::{Stop, Why};

/// What is left in the group when its leader has ended by itself gets this long after SIGTERM;
/// it had its time, and nobody waits for a forgotten development server.
const LEFTOVER_GRACE: Duration = Duration::from_secs(1);
/// How long to go on reading when nothing alive is known to hold the pipe any more; only an
/// uninterruptible process can make it last.
const DRAIN: Duration = Duration::from_secs(1);
/// The kernel's default pipe capacity is 64 KiB; a larger one costs nothing until it is used and
/// spares both sides most of the context switches.
const PIPE: usize = 1024 * 1024;
/// One read: large enough for throughput, small enough for the memory budget.
const CHUNK: usize = 128 * 1024;

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
    /// Where standard error goes; with standard output where this is `None`.
    pub stderr: Option<File>,
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
            stderr: None,
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
/// Standard output and standard error are one pipe, which keeps their order exactly; `hear` gets
/// its bytes as they come. Any output is a sign of life for `progress`.
pub async fn supervise(
    program: Program,
    limits: Limits,
    stop: &Stop,
    progress: &Progress,
    hear: &mut dyn FnMut(&[u8]),
) -> Result<Ending, StartError> {
    descendants::adopt();
    let kills_before = memory::oom_kills();
    let began = Instant::now();
    let (mut group, pipe) = start(program)?;
    let mut ear = Ear {
        pipe,
        open: true,
        buffer: vec![0; CHUNK],
        progress,
        hear,
    };

    let end = ear
        .until(async {
            tokio::select! {
                biased;
                status = group.leader_ended() => End::Itself(status),
                why = stop.asked() => End::Early(Ending::Stopped(why)),
                () = sleep_until(began + limits.wall) => End::Early(Ending::TimedOut(limits.wall)),
                idle = silence(limits.idle, progress) => End::Early(Ending::Idle(idle)),
            }
        })
        .await;
    let grace_began = Instant::now();
    let grace = async {
        match end {
            End::Itself(_) => sleep(LEFTOVER_GRACE).await,
            End::Early(_) => stop.grace_over(grace_began).await,
        }
    };
    ear.until(group.end(grace)).await;
    ear.until_silent(DRAIN).await;

    let killed_for_memory = memory::oom_kills() > kills_before;
    Ok(match end {
        End::Early(ending) => ending,
        End::Itself(status) => verdict(status, killed_for_memory),
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
    match signal {
        // rustix spells these two out.
        Signal::ABORT => "SIGABRT".to_owned(),
        Signal::ALARM => "SIGALRM".to_owned(),
        other => format!("{other:?}").replace("Signal::", "SIG"),
    }
}

/// Who ended it.
enum End {
    Itself(io::Result<ExitStatus>),
    Early(Ending),
}

fn verdict(status: io::Result<ExitStatus>, killed_for_memory: bool) -> Ending {
    // waitpid fails only where somebody else reaped the child; then nothing is known of it.
    let status = status.unwrap_or_else(|error| {
        tracing::error!(%error, "the exit status was lost");
        ExitStatus::from_raw(Signal::KILL.as_raw())
    });
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

fn start(program: Program) -> Result<(Group, pipe::Receiver), StartError> {
    if let Err(source) = std::fs::read_dir(&program.dir) {
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

fn spawn(program: Program) -> io::Result<(Group, pipe::Receiver)> {
    let (output, input) = io::pipe()?;
    // Only a matter of speed: a kernel that refuses (a limit per user) leaves 64 KiB.
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(&output, PIPE);
    let stderr = match program.stderr {
        Some(file) => Stdio::from(file),
        None => Stdio::from(input.try_clone()?),
    };
    let mut command = tokio::process::Command::new(program.program);
    command
        .args(program.args)
        .current_dir(program.dir)
        .env_clear()
        .envs(program.env)
        .stdin(program.stdin.map_or_else(Stdio::null, Stdio::from))
        .stdout(input)
        .stderr(stderr)
        .process_group(0);
    let child = command.spawn()?;
    // The command still holds the writing ends, which would keep the pipe open for ever.
    drop(command);
    let group = Group::of(child)?;
    memory::prefer_for_oom_kill(group.id);
    Ok((group, pipe::Receiver::from_owned_fd(output.into())?))
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

/// The child and everything in its process group.
struct Group {
    leader: Child,
    id: Pid,
    /// The leader was waited for, so its pid may be somebody else's by now (the group's id cannot,
    /// as long as the group has a member).
    reaped: bool,
}

impl Group {
    fn of(leader: Child) -> io::Result<Self> {
        let pid = leader
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let id = pid.ok_or_else(|| io::Error::other("the child has no pid"))?;
        Ok(Self {
            leader,
            id,
            reaped: false,
        })
    }

    /// Waits for the leader, and reaps what else has become the worker's to reap meanwhile.
    async fn leader_ended(&mut self) -> io::Result<ExitStatus> {
        let mut orphans = descendants::Deaths::new();
        loop {
            tokio::select! {
                biased;
                status = self.leader.wait() => {
                    self.reaped = true;
                    return status;
                }
                () = orphans.of_a_child() => descendants::reap_all_but(Some(self.id)),
            }
        }
    }

    /// SIGTERM, grace, SIGKILL to the group, then whatever escaped the group.
    async fn end(&mut self, grace: impl Future<Output = ()>) {
        if self.signal(Signal::TERM) {
            tokio::select! {
                () = self.emptied() => {}
                () = grace => {}
            }
            self.signal(Signal::KILL);
        }
        if !self.reaped {
            // After SIGKILL only an uninterruptible process takes time; the sweep has the bound.
            let _ = timeout(DRAIN, self.leader_ended()).await;
        }
        descendants::sweep().await;
    }

    /// Sends a signal to the group; false where nothing is left of it.
    fn signal(&self, signal: Signal) -> bool {
        kill_process_group(self.id, signal).is_ok()
    }

    async fn emptied(&mut self) {
        if !self.reaped {
            let _ = self.leader_ended().await;
        }
        let mut deaths = descendants::Deaths::new();
        loop {
            descendants::reap_all_but(None);
            if rustix::process::test_kill_process_group(self.id).is_err() {
                return;
            }
            deaths.of_anything().await;
        }
    }
}

impl Drop for Group {
    /// The worker panicked: the agent must not survive that either.
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(Signal::KILL);
        }
    }
}

/// The reading end of the child's output.
struct Ear<'a> {
    pipe: pipe::Receiver,
    open: bool,
    buffer: Vec<u8>,
    progress: &'a Progress,
    hear: &'a mut dyn FnMut(&[u8]),
}

impl Ear<'_> {
    /// Waits for `event` while the output keeps flowing.
    async fn until<T>(&mut self, event: impl Future<Output = T>) -> T {
        let mut event = pin!(event);
        loop {
            tokio::select! {
                biased;
                happened = &mut event => return happened,
                read = self.pipe.read(&mut self.buffer), if self.open => self.take(read),
            }
        }
    }

    /// Hears the rest, at most for `limit` (somebody may hold the pipe and never write).
    async fn until_silent(&mut self, limit: Duration) {
        let rest = async {
            while self.open {
                let read = self.pipe.read(&mut self.buffer).await;
                self.take(read);
            }
        };
        if timeout(limit, rest).await.is_err() {
            tracing::warn!("something still holds the output open; what it prints is not heard");
        }
    }

    fn take(&mut self, read: io::Result<usize>) {
        match read {
            Ok(0) => self.open = false,
            Ok(count) => {
                self.progress.alive();
                (self.hear)(&self.buffer[..count]);
            }
            Err(error) => {
                tracing::warn!(%error, "the output could not be read to its end");
                self.open = false;
            }
        }
    }
}
