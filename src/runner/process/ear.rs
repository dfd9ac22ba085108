//! The reading end of a child's output.
//!
//! Understands nothing of it; any byte is a sign of life.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::progress::Progress;

/// One read: large enough for throughput, small enough for the memory budget.
const CHUNK: usize = 128 * 1024;
/// How long to go on reading when nothing alive is known to hold the pipe any more. Only what
/// could not be ended, or was given the pipe by other ways than birth, can make it last.
const DRAIN: Duration = Duration::from_millis(250);

pub(super) struct Ear<'a> {
    /// `None` once it has ended.
    pipe: Option<pipe::Receiver>,
    buffer: Vec<u8>,
    progress: &'a Progress,
    hear: &'a mut dyn FnMut(&[u8]),
}

impl<'a> Ear<'a> {
    pub(super) fn new(
        output: io::PipeReader,
        progress: &'a Progress,
        hear: &'a mut dyn FnMut(&[u8]),
    ) -> Self {
        let pipe = pipe::Receiver::from_owned_fd(output.into());
        Self {
            pipe: pipe.inspect_err(unheard).ok(),
            buffer: vec![0; CHUNK],
            progress,
            hear,
        }
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
                () = self.read(), if self.pipe.is_some() => {}
            }
        }
    }

    /// Hears the rest.
    pub(super) async fn finish(&mut self) {
        let rest = async {
            while self.pipe.is_some() {
                self.read().await;
            }
        };
        if timeout(DRAIN, rest).await.is_err() {
            tracing::warn!("something still holds the output open; what it prints is not heard");
        }
    }

    async fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.read(&mut self.buffer).await {
            Ok(0) => self.pipe = None,
            Ok(count) => {
                self.progress.alive();
                (self.hear)(&self.buffer[..count]);
            }
            Err(error) => {
                unheard(&error);
                self.pipe = None;
            }
        }
    }
}

fn unheard(error: &io::Error) {
    tracing::warn!(%error, "the output could not be read to its end");
}
