//! Tests the queue with readers that are slow, stop reading, or have closed the stream.
//!
//! The tests do not depend on which thread is faster: they decide when the queue's thread starts,
//! and when its writes block.

use std::io::{BufRead, BufReader, Read};
use std::ops::Range;

use super::*;

/// How long a test waits for a state.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// The number of [`lines`] for which the queue has room; the next one is dropped.
const QUEUED_LINES: usize = MAX_WAITING_BYTES / LINE_SIZE;
const LINE_SIZE: usize = 1024;

/// Numbered lines of equal length.
fn lines(numbers: Range<usize>) -> String {
    let line = |number| format!("{number:0>width$}\n", width = LINE_SIZE - 1);
    numbers.map(line).collect()
}

fn write_lines(output: &OutputQueue, numbers: Range<usize>) {
    for number in numbers {
        output.write(lines(number..number + 1).as_bytes());
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

    /// Waits until the queue's thread has taken the queued bytes and is blocked in a write.
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

/// Has no descriptor, so that only the thread writes to it.
impl Sink for Gate {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl OutputQueue {
    /// Starts the thread now.
    fn start_with(&self, gate: Gate) {
        self.start_thread(&mut self.state(), Box::new(gate));
    }

    fn has_thread(&self) -> bool {
        self.state().stream.is_none()
    }
}

/// Compares two long texts; the message shows only the first line that differs.
#[track_caller]
fn assert_written(written: &str, expected: &str) {
    let differing = written.lines().zip(expected.lines()).find(|(a, b)| a != b);
    assert_eq!(differing, None);
    assert_eq!(written.len(), expected.len());
}

#[test]
fn lines_arrive_in_the_order_in_which_they_were_written() {
    let (mut reader, writer) = io::pipe().unwrap();
    let output = OutputQueue::new(writer);
    for line in ["one\n", "two\n", "three\n"] {
        output.write(line.as_bytes());
    }
    assert!(output.block_until_written(TIME_LIMIT));
    let mut bytes = [0; 14];
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"one\ntwo\nthree\n");
}

#[test]
fn one_note_counts_the_dropped_lines_at_the_place_where_they_are_missing() {
    let gate = Gate::default();
    let output = OutputQueue::new(gate.clone());
    // The thread has taken the first line and is blocked when the others are written.
    write_lines(&output, 0..1);
    gate.wait_until_it_blocks();
    write_lines(&output, 1..2000);
    assert!(!output.block_until_written(Duration::from_millis(1)));
    gate.set_open(true);
    assert!(output.block_until_written(TIME_LIMIT));
    write_lines(&output, 2000..2003);
    assert!(output.block_until_written(TIME_LIMIT));
    let gap = dropped_note(2000 - 1 - QUEUED_LINES);
    assert_written(
        &gate.written(),
        &(lines(0..1 + QUEUED_LINES) + &gap + &lines(2000..2003)),
    );
}

#[test]
fn lines_written_after_a_gap_come_after_its_note() {
    let gate = Gate::default();
    let output = OutputQueue::without_stream(dropped_note);
    // The thread starts late: lines have been dropped before it takes the first ones.
    write_lines(&output, 0..1000);
    output.start_with(gate.clone());
    gate.wait_until_it_blocks();
    // Now there is room again, until further lines fill the queue a second time.
    write_lines(&output, 1000..2000);
    gate.set_open(true);
    assert!(output.block_until_written(TIME_LIMIT));
    let gap = dropped_note(1000 - QUEUED_LINES);
    assert_written(
        &gate.written(),
        &(lines(0..QUEUED_LINES) + &gap + &lines(1000..1000 + QUEUED_LINES) + &gap),
    );
}

#[test]
fn each_gap_has_a_note_if_the_reader_is_slow_several_times() {
    let gate = Gate::default();
    let output = OutputQueue::new(gate.clone());
    let mut expected = String::new();
    for (begin, gap) in [(0, 1), (5000, 2), (10_000, 700)] {
        let end = begin + 1 + QUEUED_LINES + gap;
        gate.set_open(false);
        write_lines(&output, begin..begin + 1);
        gate.wait_until_it_blocks();
        write_lines(&output, begin + 1..end);
        gate.set_open(true);
        assert!(output.block_until_written(TIME_LIMIT));
        write_lines(&output, end..end + 3);
        assert!(output.block_until_written(TIME_LIMIT));
        let words = match gap {
            1 => "1 line was".to_owned(),
            gap => format!("{gap} lines were"),
        };
        expected += &lines(begin..end - gap);
        expected.extend(["[", &words, " left out here: the reader was too slow]\n"]);
        expected += &lines(end..end + 3);
    }
    assert_written(&gate.written(), &expected);
}

#[test]
fn a_dropped_write_of_several_lines_counts_as_several_lines() {
    let gate = Gate::default();
    let output = OutputQueue::without_stream(dropped_note);
    write_lines(&output, 0..QUEUED_LINES);
    output.write(b"an error\nand its cause\nand the cause's\n");
    gate.set_open(true);
    output.start_with(gate.clone());
    assert!(output.block_until_written(TIME_LIMIT));
    assert_written(
        &gate.written(),
        &(lines(0..QUEUED_LINES) + &dropped_note(3)),
    );
}

#[test]
fn a_write_does_not_block_if_the_reader_stops_and_a_note_counts_the_missing_lines() {
    let (reader, writer) = io::pipe().unwrap();
    let output = OutputQueue::new(writer);
    write_lines(&output, 0..2000);
    assert!(!output.block_until_written(Duration::from_millis(1)));
    let reader_thread = thread::spawn(move || {
        let lines = BufReader::new(reader).lines().map(Result::unwrap);
        lines.take_while(|line| line != "end").collect::<Vec<_>>()
    });
    assert!(output.block_until_written(TIME_LIMIT));
    output.write(b"end\n");
    // The number of gaps depends on when the thread took lines; the missing lines do not.
    let (mut next_number, mut read_lines) = (0, 0);
    for line in reader_thread.join().unwrap() {
        if let Ok(number) = line.parse::<usize>() {
            assert_eq!(number, next_number, "after {read_lines} lines");
            next_number += 1;
            read_lines += 1;
        } else {
            let words = line.split(' ').next().unwrap_or_default();
            let missing = words.trim_start_matches('[').parse::<usize>();
            next_number += missing.unwrap_or_else(|_| panic!("no note: {line}"));
        }
    }
    assert_eq!(next_number, 2000);
    assert!(
        (QUEUED_LINES..2000).contains(&read_lines),
        "{read_lines} lines were read"
    );
}

#[test]
fn a_thread_starts_only_when_the_pipe_is_full_and_no_byte_is_lost_or_moved() {
    let (mut reader, writer) = io::pipe().unwrap();
    // The default size of a pipe depends on the size of memory pages.
    #[cfg(target_os = "linux")]
    rustix::pipe::fcntl_setpipe_size(&writer, 64 * 1024).unwrap();
    // Kernels before 6.4 cannot write to a pipe without waiting.
    let can_write_without_waiting = write_without_waiting(&writer, b"first\n").is_ok();
    let output = OutputQueue::new(writer);
    output.write(b"second\n");
    assert_eq!(output.has_thread(), !can_write_without_waiting);
    // More than a pipe of 64 KiB has room for, so that the last line is cut in the middle.
    write_lines(&output, 0..100);
    assert!(output.has_thread());
    let reader_thread = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    assert!(output.block_until_written(TIME_LIMIT));
    // The thread ends, and closes the pipe.
    output.state().is_closed = true;
    output.0.changed.notify_all();
    let first = if can_write_without_waiting {
        "first\n"
    } else {
        ""
    };
    let expected = format!("{first}second\n{}", lines(0..100));
    assert_written(&reader_thread.join().unwrap().unwrap(), &expected);
}

#[test]
fn block_until_written_returns_at_once_if_the_reader_has_closed_the_stream() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let output = OutputQueue::new(writer);
    output.write(b"a line\n");
    assert!(!output.block_until_written(TIME_LIMIT));
    output.write(b"a line\n");
    assert!(!output.block_until_written(TIME_LIMIT));
}
