//! A helper process of the worker, for example the model gateway. The supervision of other processes neither
//! kills nor reaps it.
//!
//! The helper must end when its standard input ends: the kernel closes that pipe however the worker ends.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tokio::time::{Instant, sleep};

use super::descendants::{self, Descendants};
use super::program::Program;

/// How often to check whether the process has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A running helper process. It is killed when this value is dropped.
#[derive(Debug)]
pub struct HelperProcess {
    pid: Pid,
}

/// The worker's ends of the helper's standard streams.
#[derive(Debug)]
pub struct Pipes {
    pub stdin: io::PipeWriter,
    pub stdout: io::PipeReader,
    pub stderr: io::PipeReader,
}

impl HelperProcess {
    /// Starts a program. Its standard streams are pipes; the fields of `program` for streams are ignored.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start(program: Program) -> io::Result<(Self, Pipes)> {
        let (child_stdin, stdin) = io::pipe()?;
        let (stdout, child_stdout) = io::pipe()?;
        let (stderr, child_stderr) = io::pipe()?;
        // Initializes the list of exempt children before this child exists.
        drop(Descendants::adopt());
        let child = Command::new(program.program)
            .args(program.args)
            .current_dir(program.dir)
            .env_clear()
            .envs(program.env)
            .stdin(Stdio::from(child_stdin))
            .stdout(child_stdout)
            .stderr(child_stderr)
            // In its own process group, the helper gets no signal from the terminal: the worker ends it last.
            .process_group(0)
            .spawn()?;
        let pid = Pid::from_child(&child);
        descendants::exempt(pid);
        let pipes = Pipes {
            stdin,
            stdout,
            stderr,
        };
        Ok((Self { pid }, pipes))
    }

    /// Waits until the helper has ended, at most for the grace period; then the drop of `self` kills it. The caller
    /// must have closed its standard input.
    pub async fn end(self, grace: Duration) {
        let deadline = Instant::now() + grace;
        while descendants::is_exempt(self.pid) && Instant::now() < deadline {
            if !matches!(waitpid(Some(self.pid), WaitOptions::NOHANG), Ok(None)) {
                descendants::end_exemption(self.pid);
                return;
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}

impl Drop for HelperProcess {
    fn drop(&mut self) {
        // Once the helper is reaped, its pid may belong to another process.
        if descendants::end_exemption(self.pid) {
            let _ = kill_process(self.pid, Signal::KILL);
            // If the helper is not dead yet, it is reaped together with later children.
            let _ = waitpid(Some(self.pid), WaitOptions::NOHANG);
        }
    }
}
