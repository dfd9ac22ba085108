//! A standard stream whose reader may have stopped reading.
//!
//! A write to a full pipe or a paused terminal blocks, perhaps forever. So a separate thread writes, and
//! all other code only queues lines for it: a run must go on and be reported even if the stream is not
//! read.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

/// What may be waiting for a reader, in bytes: many screens full, little beside the memory budget.
const CAP: usize = 256 * 1024;
/// More than this is waiting only where the reader has stopped reading.
const STUCK: usize = 4 * 1024;
/// When to try again where the stream itself refuses to block (somebody who shares it made it so).
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// One stream; cheap to clone. Each call of [`Outlet::write`] arrives whole or not at all.
#[derive(Debug, Clone)]
pub struct Outlet(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Is notified when the thread has written something.
    written: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// The thread has taken what was waiting and is not done with it.
    busy: bool,
    /// How many writes found no room.
    dropped: u64,
    /// The reader is gone for good.
    closed: bool,
}

impl State {
    /// Whether everything is written, or never will be; `None` while the thread is at it.
    fn is_drained(&self) -> Option<bool> {
        if self.closed {
            return Some(false);
        }
        (!self.busy && self.waiting.is_empty()).then_some(true)
    }
}

impl Outlet {
    /// Takes over a stream.
    pub fn new(stream: impl Write + Send + 'static) -> Self {
        let outlet = Self(Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            written: Notify::new(),
        }));
        let writing = outlet.clone();
        let name = "outlet".to_owned();
        let thread = thread::Builder::new().name(name);
        if thread.spawn(move || writing.pump(stream)).is_err() {
            // A limit on threads. Silence is better than a run that may hang.
            outlet.state().closed = true;
        }
        outlet
    }

    /// Leaves bytes to be written; they are dropped where too much is waiting already.
    pub fn write(&self, bytes: &[u8]) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        if state.waiting.len() < CAP {
            state.waiting.extend_from_slice(bytes);
        } else {
            state.dropped += 1;
        }
        self.0.changed.notify_all();
    }

    /// Waits until everything is written, at most for `patience`; false if something is not written.
    pub async fn drained(&self, patience: Duration) -> bool {
        let drained = async {
            loop {
                let written = self.0.written.notified();
                let drained = self.state().is_drained();
                match drained {
                    Some(drained) => return drained,
                    None => written.await,
                }
            }
        };
        timeout(patience, drained).await.unwrap_or(false)
    }

    /// Like [`Self::drained`], but blocks the thread.
    pub fn drain(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        loop {
            if let Some(drained) = state.is_drained() {
                return drained;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.0.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether nobody seems to be reading.
    pub fn is_stuck(&self) -> bool {
        self.state().waiting.len() > STUCK
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the thread does, as long as there is a reader.
    fn pump(&self, mut stream: impl Write) {
        while let Some(bytes) = self.take() {
            let mut left = bytes.as_slice();
            let written = loop {
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
                        drop(self.0.changed.wait_timeout(self.state(), TRY_AGAIN));
                    }
                    Err(_) => break false,
                }
            };
            let mut state = self.state();
            state.busy = false;
            state.closed = !written;
            self.0.changed.notify_all();
            self.0.written.notify_waiters();
        }
    }

    /// Waits for something to write; nothing where nobody reads any more.
    fn take(&self) -> Option<Vec<u8>> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if !state.waiting.is_empty() {
                state.busy = true;
                let mut bytes = std::mem::take(&mut state.waiting);
                let dropped = std::mem::take(&mut state.dropped);
                if dropped > 0 {
                    let note =
                        format!("[{dropped} lines were left out here: nobody was reading]\n");
                    bytes.extend_from_slice(note.as_bytes());
                }
                return Some(bytes);
            }
            let woken = self.0.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_written_arrives_in_order() {
        let (mut reader, writer) = io::pipe().unwrap();
        let outlet = Outlet::new(writer);
        for line in ["one\n", "two\n", "three\n"] {
            outlet.write(line.as_bytes());
        }
        assert!(outlet.drain(PATIENCE));
        let mut bytes = [0; 14];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"one\ntwo\nthree\n");
    }

    #[test]
    fn a_reader_that_does_not_read_holds_nobody_up_and_learns_what_it_missed() {
        let (mut reader, writer) = io::pipe().unwrap();
        let outlet = Outlet::new(writer);
        let line = [b'x'; 1023]
            .iter()
            .chain(b"\n")
            .copied()
            .collect::<Vec<u8>>();
        for _ in 0..2000 {
            outlet.write(&line);
        }
        assert!(!outlet.drain(Duration::from_millis(1)));
        let mut text = String::new();
        let reading = thread::spawn(move || {
            let mut bytes = vec![0; 64 * 1024];
            while !text.contains("nobody was reading") {
                let count = reader.read(&mut bytes).unwrap();
                text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            }
            text
        });
        let text = reading.join().unwrap();
        let (lines, note) = text.split_at(text.find('[').unwrap());
        let dropped = 2000 - lines.len() / 1024;
        assert!(lines.len() >= CAP, "{}", lines.len());
        assert_eq!(
            note,
            format!("[{dropped} lines were left out here: nobody was reading]\n")
        );
    }

    #[test]
    fn a_reader_that_is_gone_is_no_reason_to_wait() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let outlet = Outlet::new(writer);
        outlet.write(b"anybody?\n");
        assert!(!outlet.drain(PATIENCE));
        outlet.write(b"anybody?\n");
        assert!(!outlet.drain(PATIENCE));
    }
}
