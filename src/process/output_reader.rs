//! Reads a child's output while the supervisor waits for something else.
//! Does not interpret the output. Every byte counts as activity, except the bytes of standard error if the program was
//! started with [`super::Stderr::SeparateWithoutActivity`].

use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::progress::Progress;

/// The size of one read, in bytes: large enough for throughput, small enough for the memory that the worker may use.
const CHUNK_SIZE: usize = 128 * 1024;
/// The size of one read of standard error if it has a separate pipe, in bytes. Usually there is little to read.
const SMALL_CHUNK_SIZE: usize = 8 * 1024;
/// How long to read on after every known descendant is dead. Only a process that survived SIGKILL, or
/// that received the pipe over a socket, can still hold it open.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(250);

/// One of a child's output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    /// Only if standard error has a separate pipe.
    Stderr,
}

/// The caller's decision after some output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRead {
    ReadMore,
    /// The child has reported its result. If it does not exit soon, it is ended.
    Finished,
}

/// The reading ends of the pipes for a child's output.
pub(super) struct OutputPipes {
    pub(super) stdout: io::PipeReader,
    pub(super) stderr: Option<io::PipeReader>,
    pub(super) stderr_is_activity: bool,
}

/// Reads both streams, and passes the bytes to the caller.
pub(super) struct OutputReader<'a> {
    stdout: Pipe,
    stderr: Pipe,
    stderr_is_activity: bool,
    result_reported: Arc<Notify>,
    progress: &'a Progress,
    on_output: &'a mut dyn FnMut(Stream, &[u8]) -> AfterRead,
}

impl<'a> OutputReader<'a> {
    pub(super) fn new(
        outputs: OutputPipes,
        progress: &'a Progress,
        on_output: &'a mut dyn FnMut(Stream, &[u8]) -> AfterRead,
    ) -> Self {
        Self {
            stdout: Pipe::new(Some(outputs.stdout), CHUNK_SIZE),
            stderr: Pipe::new(outputs.stderr, SMALL_CHUNK_SIZE),
            stderr_is_activity: outputs.stderr_is_activity,
            result_reported: Arc::default(),
            progress,
            on_output,
        }
    }

    /// Is notified when the child has reported its result.
    pub(super) fn result_reported(&self) -> Arc<Notify> {
        self.result_reported.clone()
    }

    /// Reads the output until `event` happens.
    pub(super) async fn read_until<T>(&mut self, event: impl Future<Output = T>) -> T {
        let mut event = pin!(event);
        loop {
            // A flood of output delays neither the event, which is polled first, nor the timers: tokio
            // makes a task that reads without pause yield.
            tokio::select! {
                biased;
                result = &mut event => return result,
                () = self.read(), if self.is_open() => {}
            }
        }
    }

    /// Reads the output that is left in the pipes, for at most [`DRAIN_TIMEOUT`].
    pub(super) async fn read_rest(&mut self) {
        let rest = async {
            while self.is_open() {
                self.read().await;
            }
        };
        if timeout(DRAIN_TIMEOUT, rest).await.is_err() {
            tracing::warn!(
                "a process still holds the output open; what it prints from now on is not read"
            );
        }
    }

    fn is_open(&self) -> bool {
        self.stdout.receiver.is_some() || self.stderr.receiver.is_some()
    }

    /// Reads the next bytes of either stream, and passes them to the caller.
    async fn read(&mut self) {
        let (stream, bytes) = tokio::select! {
            bytes = self.stdout.read() => (Stream::Stdout, bytes),
            bytes = self.stderr.read() => (Stream::Stderr, bytes),
        };
        if bytes.is_empty() {
            return;
        }
        if stream == Stream::Stdout || self.stderr_is_activity {
            self.progress.mark_alive();
        }
        if (self.on_output)(stream, bytes) == AfterRead::Finished {
            self.result_reported.notify_one();
        }
    }
}

/// One pipe and the bytes that were read from it last.
struct Pipe {
    /// `None` after the end of the stream.
    receiver: Option<pipe::Receiver>,
    /// Its capacity is the size of one read. It is not filled with zeros before a read: most commands print little.
    buffer: Vec<u8>,
}

impl Pipe {
    fn new(pipe: Option<io::PipeReader>, chunk_size: usize) -> Self {
        let receiver = pipe.and_then(|pipe| {
            let receiver = pipe::Receiver::from_owned_fd(pipe.into());
            receiver.inspect_err(warn_unreadable).ok()
        });
        let buffer = Vec::with_capacity(if receiver.is_some() { chunk_size } else { 0 });
        Self { receiver, buffer }
    }

    /// Reads the next bytes: none at the end of the stream. After the end, waits forever.
    async fn read(&mut self) -> &[u8] {
        let Some(receiver) = &mut self.receiver else {
            return pending().await;
        };
        self.buffer.clear();
        let read = receiver.read_buf(&mut self.buffer).await;
        let count = read.unwrap_or_else(|error| {
            warn_unreadable(&error);
            0
        });
        if count == 0 {
            self.receiver = None;
        }
        &self.buffer
    }
}

fn warn_unreadable(error: &io::Error) {
    tracing::warn!(%error, "the rest of the output cannot be read");
}
