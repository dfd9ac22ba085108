//! A process that serves the worker while it supervises others, which leave it alone.
//!
//! It must end when its standard input ends: the kernel closes the pipe however the worker ends.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tokio::time::{Instant, sleep};

use super::descendants::{self, Descendants};
use super::program::Program;

/// How often to look whether the process has ended.
const POLL: Duration = Duration::from_millis(2);

/// The process. It is killed when this is dropped.
#[derive(Debug)]
pub struct HelperProcess {
    pid: Pid,
}

/// The other ends of its standard streams.
#[derive(Debug)]
pub struct Pipes {
    pub stdin: io::PipeWriter,
    pub stdout: io::PipeReader,
    pub stderr: io::PipeReader,
}

impl HelperProcess {
    /// Starts a program; its own standard streams are ignored.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start(program: Program) -> io::Result<(Self, Pipes)> {
        let (input, stdin) = io::pipe()?;
        let (stdout, output) = io::pipe()?;
        let (stderr, errors) = io::pipe()?;
        // Lists the children that were there before.
        drop(Descendants::adopt());
        let child = Command::new(program.program)
            .args(program.args)
            .current_dir(program.dir)
            .env_clear()
            .envs(program.env)
            .stdin(Stdio::from(input))
            .stdout(output)
            .stderr(errors)
            // A signal of the terminal is for the worker, which ends its helper last.
            .process_group(0)
            .spawn()?;
        let pid = Pid::from_child(&child);
        descendants::spare(pid);
        let pipes = Pipes {
            stdin,
            stdout,
            stderr,
        };
        Ok((Self { pid }, pipes))
    }

    /// Waits until it has ended, whose standard input must be closed. Kills it after `patience`.
    pub async fn end(self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while descendants::is_spared(self.pid) && Instant::now() < deadline {
            if !matches!(waitpid(Some(self.pid), WaitOptions::NOHANG), Ok(None)) {
                descendants::stop_sparing(self.pid);
                return;
            }
            sleep(POLL).await;
        }
    }
}

impl Drop for HelperProcess {
    fn drop(&mut self) {
        // If it was reaped, its pid may belong to another process.
        if descendants::stop_sparing(self.pid) {
            let _ = kill_process(self.pid, Signal::KILL);
            // Fails to reap it only if it is not dead yet: then it is reaped with later children.
            let _ = waitpid(Some(self.pid), WaitOptions::NOHANG);
        }
    }
}
