//! A standard stream whose reader may have stopped reading.
//!
//! A write to a full pipe or a paused terminal blocks, perhaps forever. So a separate thread writes, and all other
//! code only queues lines for it: a run must go on and be reported even if the stream is not read. The thread starts
//! with the first line that would have to wait. Only Linux can write to a pipe without waiting; on other systems, the
//! thread starts with the first line.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

/// If more bytes than this wait to be written, further lines are dropped. So many bytes fill many screens, and need
/// only a small part of the memory budget.
const MAX_WAITING_BYTES: usize = 256 * 1024;
/// If more bytes than this wait to be written, the reader has probably stopped reading.
const STUCK_BYTES: usize = 4 * 1024;
/// The pause between two attempts to write if the stream is in non-blocking mode. Another process with the same stream
/// may have set that mode.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// A stream that a queue writes to.
pub trait Sink: Write + Send {
    /// The descriptor of the stream, for writes without waiting; `None` if only the thread may write to the stream.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "only Linux can write to a pipe without waiting")
    )]
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

impl<T: Write + AsFd + Send> Sink for T {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

/// The queue of one stream; cheap to clone. The bytes of each [`OutputQueue::write`] arrive completely or not at
/// all.
#[derive(Clone)]
pub struct OutputQueue(Arc<Shared>);

impl std::fmt::Debug for OutputQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutputQueue").finish_non_exhaustive()
    }
}

struct Shared {
    state: Mutex<State>,
    /// Is notified when `state` has changed.
    changed: Condvar,
    /// Is notified when the thread has written something.
    written: Notify,
    /// Makes the line that replaces dropped lines, from their number.
    gap_note: fn(usize) -> String,
}

#[derive(Default)]
struct State {
    /// The stream; `None` after the thread has taken it.
    stream: Option<Box<dyn Sink>>,
    /// The bytes that the thread has not taken yet.
    waiting: Vec<u8>,
    /// Whether the thread is writing bytes that it has taken from `waiting`.
    is_writing: bool,
    /// How many lines were dropped because `waiting` was full. The thread takes this count together with all of
    /// `waiting`. So each gap has one note, exactly where the lines are missing.
    dropped_lines: usize,
    /// Whether the reader has closed the stream, or no thread could be started, so that nothing can be written any
    /// more.
    is_closed: bool,
}

/// Whether all queued bytes are written.
enum WriteState {
    AllWritten,
    /// Bytes still wait to be written.
    Waiting,
    /// The rest cannot be written.
    Closed,
}

impl State {
    fn write_state(&self) -> WriteState {
        if self.is_closed {
            WriteState::Closed
        } else if self.is_writing || !self.waiting.is_empty() {
            WriteState::Waiting
        } else {
            WriteState::AllWritten
        }
    }
}

impl OutputQueue {
    /// Writes to the stream.
    pub fn new(stream: impl Sink + 'static) -> Self {
        Self::with_note(stream, dropped_note)
    }

    /// Writes to the stream; `gap_note` makes the line that replaces dropped lines.
    pub fn with_note(stream: impl Sink + 'static, gap_note: fn(usize) -> String) -> Self {
        let output = Self::without_stream(gap_note);
        output.state().stream = Some(Box::new(stream));
        output
    }

    fn without_stream(gap_note: fn(usize) -> String) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            written: Notify::new(),
            gap_note,
        }))
    }

    /// Starts the thread that writes.
    fn start_thread(&self, state: &mut State, stream: Box<dyn Sink>) {
        let queue = self.clone();
        let name = "output".to_owned();
        let thread = thread::Builder::new().name(name);
        if thread.spawn(move || queue.write_queued(stream)).is_err() {
            // The system limits the number of threads. Without the thread, a write could block the run forever, so
            // nothing is written.
            state.is_closed = true;
        }
    }

    /// Writes bytes, or queues them if the reader is slow; drops them if too many are waiting.
    pub fn write(&self, bytes: &[u8]) {
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        let mut rest = bytes;
        if let Some(stream) = state.stream.take() {
            match write_without_waiting(stream.as_ref(), bytes) {
                Ok(count) if count == bytes.len() => {
                    state.stream = Some(stream);
                    return;
                }
                Ok(count) => rest = &bytes[count..],
                Err(rustix::io::Errno::PIPE) => {
                    state.is_closed = true;
                    return;
                }
                // The reader is slow, or the kernel cannot do this with this kind of stream.
                Err(_) => {}
            }
            self.start_thread(&mut state, stream);
        }
        if state.waiting.len() < MAX_WAITING_BYTES {
            state.waiting.extend_from_slice(rest);
        } else {
            state.dropped_lines += bytes.split(|byte| *byte == b'\n').count() - 1;
        }
        self.0.changed.notify_all();
    }

    /// Waits until everything is written, at most for `time_limit`; returns false if something is not written.
    pub async fn wait_until_written(&self, time_limit: Duration) -> bool {
        let is_written = async {
            loop {
                let written = self.0.written.notified();
                let write_state = self.state().write_state();
                match write_state {
                    WriteState::AllWritten => return true,
                    WriteState::Closed => return false,
                    WriteState::Waiting => written.await,
                }
            }
        };
        timeout(time_limit, is_written).await.unwrap_or(false)
    }

    /// Like [`Self::wait_until_written`], but blocks the thread.
    pub fn block_until_written(&self, time_limit: Duration) -> bool {
        let deadline = Instant::now() + time_limit;
        let mut state = self.state();
        loop {
            match state.write_state() {
                WriteState::AllWritten => return true,
                WriteState::Closed => return false,
                WriteState::Waiting => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.0.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether the reader seems to have stopped reading.
    pub fn is_stuck(&self) -> bool {
        self.state().waiting.len() > STUCK_BYTES
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop of the thread: writes the queued bytes until the reader closes the stream.
    fn write_queued(&self, mut stream: Box<dyn Sink>) {
        while let Some(bytes) = self.wait_for_bytes() {
            let mut left = bytes.as_slice();
            let is_written = loop {
                let step = match left {
                    [] => stream.flush().map(|()| None),
                    left => stream.write(left).map(Some),
                };
                match step {
                    Ok(None) => break true,
                    Ok(Some(0)) => break false,
                    Ok(Some(count)) => left = &left[count..],
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        drop(self.0.changed.wait_timeout(self.state(), RETRY_INTERVAL));
                    }
                    Err(_) => break false,
                }
            };
            let mut state = self.state();
            state.is_writing = false;
            state.is_closed = !is_written;
            self.0.changed.notify_all();
            self.0.written.notify_waiters();
        }
    }

    /// Waits for bytes to write; `None` if the reader has closed the stream.
    fn wait_for_bytes(&self) -> Option<Vec<u8>> {
        let mut state = self.state();
        loop {
            if state.is_closed {
                return None;
            }
            if !state.waiting.is_empty() {
                state.is_writing = true;
                let mut bytes = std::mem::take(&mut state.waiting);
                let dropped_lines = std::mem::take(&mut state.dropped_lines);
                if dropped_lines > 0 {
                    bytes.extend_from_slice((self.0.gap_note)(dropped_lines).as_bytes());
                }
                return Some(bytes);
            }
            let woken = self.0.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Writes as much as is possible without waiting. Does not set non-blocking mode, which would apply to all processes
/// that share the stream.
#[cfg(target_os = "linux")]
fn write_without_waiting(stream: &dyn Sink, bytes: &[u8]) -> rustix::io::Result<usize> {
    use rustix::io::{Errno, ReadWriteFlags, pwritev2};
    /// The argument of pwritev2(2) for a write at the current position of a file. Pipes have no position.
    const CURRENT_POSITION: u64 = u64::MAX;
    let descriptor = stream.descriptor().ok_or(Errno::OPNOTSUPP)?;
    let slices = [io::IoSlice::new(bytes)];
    pwritev2(
        descriptor,
        &slices,
        CURRENT_POSITION,
        ReadWriteFlags::NOWAIT,
    )
}

#[cfg(not(target_os = "linux"))]
fn write_without_waiting(_: &dyn Sink, _: &[u8]) -> rustix::io::Result<usize> {
    Err(rustix::io::Errno::OPNOTSUPP)
}

/// The note that replaces dropped lines.
fn dropped_note(dropped_lines: usize) -> String {
    let lines = if dropped_lines == 1 {
        "1 line was"
    } else {
        &format!("{dropped_lines} lines were")
    };
    format!("[{lines} left out here: the reader was too slow]\n")
}

#[cfg(test)]
mod tests;
