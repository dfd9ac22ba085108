//! The connection to the launcher of an isolated program: reads its messages, and asks it to end the program.

use std::future::pending;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::isolation::{ControlGroup, Message, PreparedLaunch, WorkerSocket};

/// How the leader, or the program that it launched, ended.
pub(super) enum LeaderEnd {
    /// `None` if something else in this process has reaped the leader.
    Status(Option<ExitStatus>),
    /// The launcher could not execute the program.
    NotStarted(io::Error),
}

/// A running launcher.
pub(super) struct Launcher {
    socket: WorkerSocket,
    control_group: Option<ControlGroup>,
    /// Becomes readable when a message arrives; `None` after the launcher has closed its end.
    readiness: Option<UnixStream>,
    /// Whether the leader of the group is bubblewrap, which lives until the namespace is empty.
    pub(super) is_namespace: bool,
}

impl Launcher {
    pub(super) fn of(prepared: PreparedLaunch) -> io::Result<Self> {
        let PreparedLaunch {
            socket,
            control_group,
            ..
        } = prepared;
        let readiness = UnixStream::from_std(socket.try_clone_socket()?)?;
        Ok(Self {
            is_namespace: prepared.is_namespace,
            socket,
            control_group,
            readiness: Some(readiness),
        })
    }

    /// How the program ended, if the launcher has reported that.
    pub(super) fn reported_end(&mut self) -> Option<LeaderEnd> {
        Some(match self.socket.read()? {
            Message::NotStarted(error) => {
                LeaderEnd::NotStarted(io::Error::from_raw_os_error(error))
            }
            Message::Ended(status) => LeaderEnd::Status(Some(ExitStatus::from_raw(status))),
        })
    }

    /// Waits until there may be a message.
    pub(super) async fn wait_for_message(&mut self) {
        let Some(readiness) = &self.readiness else {
            return pending().await;
        };
        let ready = readiness.ready(Interest::READABLE).await;
        // After the launcher has closed its end, there is nothing to wait for.
        if !ready.is_ok_and(|ready| !ready.is_read_closed()) {
            self.readiness = None;
        }
        // Marks the socket as read, so that the next call waits for the next message.
        if let Some(readiness) = &self.readiness {
            let _ = readiness.try_io(Interest::READABLE, || -> io::Result<()> {
                Err(io::ErrorKind::WouldBlock.into())
            });
        }
    }

    /// Kills everything in the program's control group, if it has one.
    pub(super) fn kill_control_group(&self) {
        if let Some(group) = &self.control_group {
            group.kill();
        }
    }

    /// Asks the first process of the namespace to send SIGTERM to all others; fails if that process has ended.
    pub(super) fn terminate(&mut self) -> io::Result<()> {
        self.socket.terminate()
    }
}
