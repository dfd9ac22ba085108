//! The reading ends of a child's output.
//!
//! Understands nothing of it; any byte is a sign of life.

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

/// One read: large enough for throughput, small enough for the memory budget.
const CHUNK: usize = 128 * 1024;
/// One read of standard error where it has a pipe of its own: few words.
const SMALL_CHUNK: usize = 8 * 1024;
/// How long to go on reading when nothing alive is known to hold the pipe any more. Only what
/// could not be ended, or was given the pipe by other ways than birth, can make it last.
const DRAIN: Duration = Duration::from_millis(250);

/// One of a child's output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    /// Only if [`super::program::Stderr::Apart`] was asked for.
    Stderr,
}

/// What the caller expects of the child after some output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRead {
    ReadMore,
    /// The child has said everything. If it does not end by itself soon, it is ended.
    Finished,
}

/// The reading ends of a child's output.
pub(super) struct Outputs {
    pub(super) stdout: io::PipeReader,
    pub(super) stderr: Option<io::PipeReader>,
}

pub(super) struct OutputReader<'a> {
    stdout: Pipe,
    stderr: Pipe,
    last_word: Arc<Notify>,
    progress: &'a Progress,
    on_output: &'a mut dyn FnMut(Stream, &[u8]) -> AfterRead,
}

impl<'a> OutputReader<'a> {
    pub(super) fn new(
        outputs: Outputs,
        progress: &'a Progress,
        on_output: &'a mut dyn FnMut(Stream, &[u8]) -> AfterRead,
    ) -> Self {
        Self {
            stdout: Pipe::new(Some(outputs.stdout), CHUNK),
            stderr: Pipe::new(outputs.stderr, SMALL_CHUNK),
            last_word: Arc::default(),
            progress,
            on_output,
        }
    }

    /// Is notified when the child has said its last word.
    pub(super) fn last_word(&self) -> Arc<Notify> {
        self.last_word.clone()
    }

    /// Waits for `event` while the output keeps flowing.
    pub(super) async fn until<T>(&mut self, event: impl Future<Output = T>) -> T {
        let mut event = pin!(event);
        loop {
            // A flood starves neither the event, which is asked first, nor the timers: the runtime
            // makes a task that reads and reads give way.
            tokio::select! {
                biased;
                happened = &mut event => return happened,
                () = self.read(), if self.is_open() => {}
            }
        }
    }

    /// Hears the rest.
    pub(super) async fn finish(&mut self) {
        let rest = async {
            while self.is_open() {
                self.read().await;
            }
        };
        if timeout(DRAIN, rest).await.is_err() {
            tracing::warn!("something still holds the output open; what it prints is not heard");
        }
    }

    fn is_open(&self) -> bool {
        self.stdout.end.is_some() || self.stderr.end.is_some()
    }

    async fn read(&mut self) {
        let (stream, bytes) = tokio::select! {
            bytes = self.stdout.read() => (Stream::Stdout, bytes),
            bytes = self.stderr.read() => (Stream::Stderr, bytes),
        };
        if bytes.is_empty() {
            return;
        }
        self.progress.alive();
        if (self.on_output)(stream, bytes) == AfterRead::Finished {
            self.last_word.notify_one();
        }
    }
}

/// One pipe and what was read from it last.
struct Pipe {
    /// `None` once it has ended.
    end: Option<pipe::Receiver>,
    buffer: Vec<u8>,
}

impl Pipe {
    fn new(end: Option<io::PipeReader>, chunk: usize) -> Self {
        let end = end.and_then(|end| {
            let end = pipe::Receiver::from_owned_fd(end.into());
            end.inspect_err(unheard).ok()
        });
        let buffer = vec![0; if end.is_some() { chunk } else { 0 }];
        Self { end, buffer }
    }

    /// The next bytes, none at the end; waits for ever where the end was there before.
    async fn read(&mut self) -> &[u8] {
        let Some(pipe) = &mut self.end else {
            return pending().await;
        };
        let count = pipe.read(&mut self.buffer).await.unwrap_or_else(|error| {
            unheard(&error);
            0
        });
        if count == 0 {
            self.end = None;
        }
        &self.buffer[..count]
    }
}

fn unheard(error: &io::Error) {
    tracing::warn!(%error, "the output could not be read to its end");
}
