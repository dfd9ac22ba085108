//! A standard stream whose reader may have stopped reading.
//!
//! A write to a full pipe or a paused terminal blocks, perhaps forever. So a separate thread writes, and
//! all other code only queues lines for it: a run must go on and be reported even if the stream is not
//! read. The thread starts with the first line that cannot be written without waiting: Linux can write to a pipe that way.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

/// If more bytes than this wait to be written, further lines are dropped. They fill many screens, and need only a small part of
/// the memory budget.
const MAX_WAITING: usize = 256 * 1024;
/// If more bytes than this wait, the reader has probably stopped reading.
const STUCK_SIZE: usize = 4 * 1024;
/// How often to try again if the stream is in non-blocking mode, which another process that shares it
/// may have set.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// A stream that an outlet writes to. Its descriptor must be that of the stream.
pub trait Sink: Write + Send {
    /// The descriptor, if a write to it may be tried without waiting.
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

/// The queue of one stream; cheap to clone. The bytes of each [`Outlet::write`] arrive completely or not at
/// all.
#[derive(Clone)]
pub struct Outlet(Arc<Shared>);

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Is notified when the thread has written something.
    written: Notify,
    /// Makes the line that replaces dropped lines; gets their number.
    gap_note: fn(usize) -> String,
}

#[derive(Default)]
struct State {
    /// The stream, until the thread has it.
    stream: Option<Box<dyn Sink>>,
    waiting: Vec<u8>,
    /// Whether the thread is writing bytes that it has taken from `waiting`.
    is_writing: bool,
    /// How many lines were dropped because `waiting` was full. The thread takes this count together with all of
    /// `waiting`. So each gap has one note, exactly where the lines are missing.
    dropped: usize,
    /// Whether the reader is gone, so that nothing can be written any more.
    is_closed: bool,
}

impl State {
    /// True if everything is written, false if the reader is gone, `None` if bytes are still being written.
    fn drain_result(&self) -> Option<bool> {
        if self.is_closed {
            return Some(false);
        }
        (!self.is_writing && self.waiting.is_empty()).then_some(true)
    }
}

impl Outlet {
    /// Writes to the stream.
    pub fn new(stream: impl Sink + 'static) -> Self {
        Self::with_note(stream, dropped_note)
    }

    /// The same, but `gap_note` makes the line that replaces dropped lines.
    pub fn with_note(stream: impl Sink + 'static, gap_note: fn(usize) -> String) -> Self {
        let outlet = Self::without_stream(gap_note);
        outlet.state().stream = Some(Box::new(stream));
        outlet
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
    fn start(&self, state: &mut State, stream: Box<dyn Sink>) {
        let writing = self.clone();
        let name = "outlet".to_owned();
        let thread = thread::Builder::new().name(name);
        if thread.spawn(move || writing.write_queued(stream)).is_err() {
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
            self.start(&mut state, stream);
        }
        if state.waiting.len() < MAX_WAITING {
            state.waiting.extend_from_slice(rest);
        } else {
            state.dropped += bytes.split(|byte| *byte == b'\n').count() - 1;
        }
        self.0.changed.notify_all();
    }

    /// Waits until everything is written, at most for `time_limit`; returns false if something is not written.
    pub async fn wait_until_written(&self, time_limit: Duration) -> bool {
        let drained = async {
            loop {
                let written = self.0.written.notified();
                let drained = self.state().drain_result();
                match drained {
                    Some(drained) => return drained,
                    None => written.await,
                }
            }
        };
        timeout(time_limit, drained).await.unwrap_or(false)
    }

    /// Like [`Self::wait_until_written`], but blocks the thread.
    pub fn drain(&self, time_limit: Duration) -> bool {
        let deadline = Instant::now() + time_limit;
        let mut state = self.state();
        loop {
            if let Some(drained) = state.drain_result() {
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

    /// Whether the reader seems to have stopped reading.
    pub fn is_stuck(&self) -> bool {
        self.state().waiting.len() > STUCK_SIZE
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop of the thread: writes the queued bytes until the reader is gone.
    fn write_queued(&self, mut stream: Box<dyn Sink>) {
        while let Some(bytes) = self.wait_for_bytes() {
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
                        drop(self.0.changed.wait_timeout(self.state(), RETRY_INTERVAL));
                    }
                    Err(_) => break false,
                }
            };
            let mut state = self.state();
            state.is_writing = false;
            state.is_closed = !written;
            self.0.changed.notify_all();
            self.0.written.notify_waiters();
        }
    }

    /// Waits for something to write; `None` if the reader is gone.
    fn wait_for_bytes(&self) -> Option<Vec<u8>> {
        let mut state = self.state();
        loop {
            if state.is_closed {
                return None;
            }
            if !state.waiting.is_empty() {
                state.is_writing = true;
                let mut bytes = std::mem::take(&mut state.waiting);
                let dropped = std::mem::take(&mut state.dropped);
                if dropped > 0 {
                    bytes.extend_from_slice((self.0.gap_note)(dropped).as_bytes());
                }
                return Some(bytes);
            }
            let woken = self.0.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Writes as much as is possible without waiting. The descriptor does not get into non-blocking mode, which would be that
/// of all processes that share it.
#[cfg(target_os = "linux")]
fn write_without_waiting(stream: &dyn Sink, bytes: &[u8]) -> rustix::io::Result<usize> {
    use rustix::io::{Errno, ReadWriteFlags, pwritev2};
    /// The current position of a file; pipes have none.
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
fn dropped_note(dropped: usize) -> String {
    let lines = if dropped == 1 {
        "1 line was"
    } else {
        &format!("{dropped} lines were")
    };
    format!("[{lines} left out here: the reader was too slow]\n")
}

#[cfg(test)]
mod tests {
    //! Readers that are slow, stop reading, or are gone.
    //!
    //! The tests do not depend on which thread is faster: they decide when the outlet's thread starts,
    //! and when its writes block.

    use std::io::{BufRead, BufReader, Read};
    use std::ops::Range;

    use super::*;

    /// How long a test waits for a state.
    const TIME_LIMIT: Duration = Duration::from_secs(60);
    /// The number of [`lines`] for which the queue has room; the next one is dropped.
    const QUEUED_LINES: usize = MAX_WAITING / LINE_SIZE;
    const LINE_SIZE: usize = 1024;

    /// Numbered lines of equal length.
    fn lines(numbers: Range<usize>) -> String {
        let line = |number| format!("{number:0>width$}\n", width = LINE_SIZE - 1);
        numbers.map(line).collect()
    }

    fn write(outlet: &Outlet, numbers: Range<usize>) {
        for number in numbers {
            outlet.write(lines(number..number + 1).as_bytes());
        }
    }

    /// A stream on which writes block while the gate is closed.
    #[derive(Clone, Default)]
    struct Gate(Arc<(Mutex<GateState>, Condvar)>);

    #[derive(Default)]
    struct GateState {
        is_open: bool,
        /// A write is waiting for the gate to open.
        is_blocking: bool,
        written: Vec<u8>,
    }

    impl Gate {
        fn state(&self) -> MutexGuard<'_, GateState> {
            self.0.0.lock().unwrap()
        }

        fn set_open(&self, is_open: bool) {
            self.state().is_open = is_open;
            self.0.1.notify_all();
        }

        /// Waits until the outlet's thread has taken the queued bytes and is blocked in a write.
        fn wait_until_it_blocks(&self) {
            let wait = self
                .0
                .1
                .wait_timeout_while(self.state(), TIME_LIMIT, |state| !state.is_blocking);
            assert!(!wait.unwrap().1.timed_out(), "nothing was written");
        }

        fn written(&self) -> String {
            String::from_utf8(self.state().written.clone()).unwrap()
        }
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.state();
            state.is_blocking = true;
            self.0.1.notify_all();
            while !state.is_open {
                state = self.0.1.wait(state).unwrap();
            }
            state.is_blocking = false;
            state.written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Only the thread writes to it.
    impl Sink for Gate {
        fn descriptor(&self) -> Option<BorrowedFd<'_>> {
            None
        }
    }

    impl Outlet {
        /// Starts the thread now.
        fn start_with(&self, gate: Gate) {
            self.start(&mut self.state(), Box::new(gate));
        }

        fn has_thread(&self) -> bool {
            self.state().stream.is_none()
        }
    }

    /// Compares two long texts; the message shows only the first line that differs.
    #[track_caller]
    fn assert_read(read: &str, expected: &str) {
        let differing = read.lines().zip(expected.lines()).find(|(a, b)| a != b);
        assert_eq!(differing, None);
        assert_eq!(read.len(), expected.len());
    }

    #[test]
    fn lines_arrive_in_the_order_in_which_they_were_written() {
        let (mut reader, writer) = io::pipe().unwrap();
        let outlet = Outlet::new(writer);
        for line in ["one\n", "two\n", "three\n"] {
            outlet.write(line.as_bytes());
        }
        assert!(outlet.drain(TIME_LIMIT));
        let mut bytes = [0; 14];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"one\ntwo\nthree\n");
    }

    #[test]
    fn one_note_counts_the_dropped_lines_at_the_place_where_they_are_missing() {
        let gate = Gate::default();
        let outlet = Outlet::new(gate.clone());
        // The thread has taken the first line and is blocked when the others are written.
        write(&outlet, 0..1);
        gate.wait_until_it_blocks();
        write(&outlet, 1..2000);
        assert!(!outlet.drain(Duration::from_millis(1)));
        gate.set_open(true);
        assert!(outlet.drain(TIME_LIMIT));
        write(&outlet, 2000..2003);
        assert!(outlet.drain(TIME_LIMIT));
        let gap = dropped_note(2000 - 1 - QUEUED_LINES);
        assert_read(
            &gate.written(),
            &(lines(0..1 + QUEUED_LINES) + &gap + &lines(2000..2003)),
        );
    }

    #[test]
    fn lines_written_after_a_gap_come_after_its_note() {
        let gate = Gate::default();
        let outlet = Outlet::without_stream(dropped_note);
        // The thread starts late: lines have been dropped before it takes the first ones.
        write(&outlet, 0..1000);
        outlet.start_with(gate.clone());
        gate.wait_until_it_blocks();
        // Now there is room again, until further lines fill the queue a second time.
        write(&outlet, 1000..2000);
        gate.set_open(true);
        assert!(outlet.drain(TIME_LIMIT));
        let gap = dropped_note(1000 - QUEUED_LINES);
        assert_read(
            &gate.written(),
            &(lines(0..QUEUED_LINES) + &gap + &lines(1000..1000 + QUEUED_LINES) + &gap),
        );
    }

    #[test]
    fn each_gap_has_a_note_if_the_reader_is_slow_several_times() {
        let gate = Gate::default();
        let outlet = Outlet::new(gate.clone());
        let mut expected = String::new();
        for (begin, gap) in [(0, 1), (5000, 2), (10_000, 700)] {
            let end = begin + 1 + QUEUED_LINES + gap;
            gate.set_open(false);
            write(&outlet, begin..begin + 1);
            gate.wait_until_it_blocks();
            write(&outlet, begin + 1..end);
            gate.set_open(true);
            assert!(outlet.drain(TIME_LIMIT));
            write(&outlet, end..end + 3);
            assert!(outlet.drain(TIME_LIMIT));
            let words = match gap {
                1 => "1 line was".to_owned(),
                gap => format!("{gap} lines were"),
            };
            expected += &lines(begin..end - gap);
            expected.extend(["[", &words, " left out here: the reader was too slow]\n"]);
            expected += &lines(end..end + 3);
        }
        assert_read(&gate.written(), &expected);
    }

    #[test]
    fn a_dropped_write_of_several_lines_counts_as_several_lines() {
        let gate = Gate::default();
        let outlet = Outlet::without_stream(dropped_note);
        write(&outlet, 0..QUEUED_LINES);
        outlet.write(b"an error\nand its cause\nand the cause's\n");
        gate.set_open(true);
        outlet.start_with(gate.clone());
        assert!(outlet.drain(TIME_LIMIT));
        assert_read(
            &gate.written(),
            &(lines(0..QUEUED_LINES) + &dropped_note(3)),
        );
    }

    #[test]
    fn a_write_does_not_block_if_the_reader_stops_and_a_note_counts_the_missing_lines() {
        let (reader, writer) = io::pipe().unwrap();
        let outlet = Outlet::new(writer);
        write(&outlet, 0..2000);
        assert!(!outlet.drain(Duration::from_millis(1)));
        let reading = thread::spawn(move || {
            let lines = BufReader::new(reader).lines().map(Result::unwrap);
            lines.take_while(|line| line != "end").collect::<Vec<_>>()
        });
        assert!(outlet.drain(TIME_LIMIT));
        outlet.write(b"end\n");
        // The number of gaps depends on when the thread took lines; the missing lines do not.
        let (mut next, mut read) = (0, 0);
        for line in reading.join().unwrap() {
            if let Ok(number) = line.parse::<usize>() {
                assert_eq!(number, next, "after {read} lines");
                next += 1;
                read += 1;
            } else {
                let words = line.split(' ').next().unwrap_or_default();
                let missing = words.trim_start_matches('[').parse::<usize>();
                next += missing.unwrap_or_else(|_| panic!("no note: {line}"));
            }
        }
        assert_eq!(next, 2000);
        assert!(
            (QUEUED_LINES..2000).contains(&read),
            "{read} lines were read"
        );
    }

    #[test]
    fn a_thread_starts_only_when_the_pipe_is_full_and_no_byte_is_lost_or_moved() {
        let (mut reader, writer) = io::pipe().unwrap();
        // A pipe is larger where memory pages are.
        #[cfg(target_os = "linux")]
        rustix::pipe::fcntl_setpipe_size(&writer, 64 * 1024).unwrap();
        // Kernels before 6.4 cannot write to a pipe without waiting.
        let can_try = write_without_waiting(&writer, b"first\n").is_ok();
        let outlet = Outlet::new(writer);
        outlet.write(b"second\n");
        assert_eq!(outlet.has_thread(), !can_try);
        // More than a pipe of 64 KiB has room for, so that the last line is cut in the middle.
        write(&outlet, 0..100);
        assert!(outlet.has_thread());
        let reading = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        assert!(outlet.drain(TIME_LIMIT));
        // The thread ends, and closes the pipe.
        outlet.state().is_closed = true;
        outlet.0.changed.notify_all();
        let first = if can_try { "first\n" } else { "" };
        let expected = format!("{first}second\n{}", lines(0..100));
        assert_read(&reading.join().unwrap().unwrap(), &expected);
    }

    #[test]
    fn drain_does_not_wait_if_the_reader_is_gone() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let outlet = Outlet::new(writer);
        outlet.write(b"a line\n");
        assert!(!outlet.drain(TIME_LIMIT));
        outlet.write(b"a line\n");
        assert!(!outlet.drain(TIME_LIMIT));
    }
}
