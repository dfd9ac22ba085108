//! The last bytes of a stream, in bounded memory.

use std::collections::VecDeque;

/// The last `max_len` bytes of a stream.
#[derive(Debug)]
pub struct RingBuffer {
    bytes: VecDeque<u8>,
    max_len: usize,
}

impl RingBuffer {
    pub fn new(max_len: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            max_len,
        }
    }

    /// Appends bytes; returns how many bytes, old or new, were dropped.
    pub fn push(&mut self, bytes: &[u8]) -> u64 {
        let tail = &bytes[bytes.len().saturating_sub(self.max_len)..];
        let excess = (self.bytes.len() + tail.len()).saturating_sub(self.max_len);
        self.bytes.drain(..excess);
        self.bytes.extend(tail);
        (excess + bytes.len() - tail.len()) as u64
    }

    /// Removes and returns all bytes.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes).into()
    }

    /// A copy of all bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.iter().copied().collect()
    }

    /// The content as text; U+FFFD replaces invalid UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}
