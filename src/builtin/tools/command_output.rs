//! The output of a shell command, as the model reads it: its beginning, its end and notes, in bounded memory.

use super::result::MAX_RESULT_SIZE;
use crate::excerpt;
use crate::ring_buffer::RingBuffer;

/// How much of the beginning and of the end of a command's output the model gets, in bytes each. The rest of
/// [`MAX_RESULT_SIZE`] is for notes.
const MAX_PART_SIZE: usize = MAX_RESULT_SIZE / 2 - 1_000;

/// The beginning and the end of a command's output.
pub struct CommandOutput {
    head: Vec<u8>,
    tail: RingBuffer,
    /// How many bytes between `head` and `tail` were left out.
    left_out: u64,
}

impl CommandOutput {
    pub fn new() -> Self {
        Self {
            head: Vec::new(),
            tail: RingBuffer::new(MAX_PART_SIZE),
            left_out: 0,
        }
    }

    /// Adds the next bytes of the output.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = (MAX_PART_SIZE - self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.left_out += self.tail.push(&bytes[room..]);
    }

    /// The stored output, with a note about the bytes that were left out.
    pub fn text(&self) -> String {
        let tail = self.tail.bytes();
        let note = match self.left_out {
            0 => String::new(),
            bytes => excerpt::left_out_note(bytes),
        };
        let bytes = [self.head.as_slice(), note.as_bytes(), &tail].concat();
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }
}

/// The text that the model reads about a command that ended.
pub fn with_exit_code(output: &str, code: i32) -> String {
    match (output, code) {
        ("", 0) => "[no output]".to_owned(),
        (output, 0) => output.to_owned(),
        ("", code) => format!("[no output; exit code {code}]"),
        (output, code) => with_note(output, &format!("[exit code {code}]")),
    }
}

/// The output of a command with a note of the tool on a line below it.
pub fn with_note(output: &str, note: &str) -> String {
    if output.is_empty() {
        note.to_owned()
    } else {
        format!("{output}\n{note}")
    }
}
