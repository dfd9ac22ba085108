//! The messages between the worker and the launcher, on a socket that no other process has. The socket is the
//! launcher's standard input, because without `unsafe` a process can use only standard streams that it inherits.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The size of a message of the launcher, in bytes: a letter for its kind, and a number.
const MESSAGE_SIZE: usize = 5;
/// The worker's first message, which carries the program's standard input.
const STDIN: &[u8] = b"I";
/// Every later message of the worker: requests SIGTERM.
const TERMINATE: &[u8] = b"T";

/// The launcher's exit code if the program cannot be executed; the worker gets the reason by a message.
pub(super) const NOT_STARTED: u8 = 127;

/// A message of the launcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// The program could not be executed: the system's error number.
    NotStarted(i32),
    /// The program ended: its wait status, as `waitpid` returns it. Processes that it started may still run.
    Ended(i32),
}

impl Message {
    /// The letter of the kind, and the number in little endian.
    fn encode(self) -> [u8; MESSAGE_SIZE] {
        let (kind, number) = match self {
            Self::NotStarted(error) => (b'E', error),
            Self::Ended(status) => (b'S', status),
        };
        let [a, b, c, d] = number.to_le_bytes();
        [kind, a, b, c, d]
    }

    /// Reads an encoded message; `None` if its letter is unknown.
    fn decode([kind, number @ ..]: [u8; MESSAGE_SIZE]) -> Option<Self> {
        let number = i32::from_le_bytes(number);
        match kind {
            b'E' => Some(Self::NotStarted(number)),
            b'S' => Some(Self::Ended(number)),
            _ => None,
        }
    }
}

/// The worker's end of the socket.
#[derive(Debug)]
pub struct WorkerSocket(UnixStream);

impl WorkerSocket {
    /// Makes both ends: the worker's and the launcher's.
    pub(super) fn pair() -> io::Result<(Self, UnixStream)> {
        let (worker_end, launcher_end) = UnixStream::pair()?;
        worker_end.set_nonblocking(true)?;
        Ok((Self(worker_end), launcher_end))
    }

    /// Sends the program's standard input to the launcher; `None` means an empty one.
    pub(super) fn send_stdin(&self, file: Option<&File>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        let files: Vec<_> = file.into_iter().map(AsFd::as_fd).collect();
        if !files.is_empty() {
            rights.push(SendAncillaryMessage::ScmRights(&files));
        }
        let bytes = [IoSlice::new(STDIN)];
        sendmsg(&self.0, &bytes, &mut rights, SendFlags::empty())?;
        Ok(())
    }

    /// Reads the next message, if there is one. Messages are written in one piece, so they are never incomplete.
    pub fn read(&mut self) -> Option<Message> {
        let mut bytes = [0; MESSAGE_SIZE];
        match self.0.read(&mut bytes) {
            Ok(MESSAGE_SIZE) => Message::decode(bytes),
            _ => None,
        }
    }

    /// Asks the first process of the namespace to send SIGTERM to all others.
    pub fn terminate(&mut self) -> io::Result<()> {
        self.0.write_all(TERMINATE)
    }

    /// Clones the socket, for waiting until there is something to read.
    pub fn try_clone_socket(&self) -> io::Result<UnixStream> {
        self.0.try_clone()
    }
}

/// The launcher's end of the socket.
pub(super) struct LauncherSocket(UnixStream);

impl LauncherSocket {
    /// The socket that is this process's standard input. The program gets another standard input.
    pub fn from_stdin() -> io::Result<Self> {
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self(socket.into()))
    }

    /// Receives the program's standard input.
    pub fn receive_stdin(&self) -> io::Result<Option<OwnedFd>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let received = recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut byte)],
            &mut rights,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if received.bytes != STDIN.len() || byte != STDIN {
            return Err(io::Error::other(
                "standard input is not a socket of the worker",
            ));
        }
        let mut files = rights.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        Ok(files.next())
    }

    /// Sends a message to the worker. An error means that the worker has ended, and is ignored.
    pub fn send(&mut self, message: Message) {
        let _ = self.0.write_all(&message.encode());
    }

    /// Reports that the program could not be executed; returns the launcher's exit code for that.
    pub fn report_not_started(mut self, error: &io::Error) -> ExitCode {
        self.send(Message::NotStarted(
            error.raw_os_error().unwrap_or_default(),
        ));
        ExitCode::from(NOT_STARTED)
    }

    /// Waits for a request to send SIGTERM; false if the worker has ended.
    pub fn wait_for_request(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(1))
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}
