//! The last bytes of a stream, in bounded memory.

use std::collections::VecDeque;

/// The last `cap` bytes of a stream.
#[derive(Debug)]
pub struct RingBuffer {
    bytes: VecDeque<u8>,
    cap: usize,
}

impl RingBuffer {
    pub fn new(cap: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            cap,
        }
    }

    /// Appends bytes; returns how many bytes, old or new, were dropped.
    pub fn push(&mut self, bytes: &[u8]) -> u64 {
        let kept = &bytes[bytes.len().saturating_sub(self.cap)..];
        let over = (self.bytes.len() + kept.len()).saturating_sub(self.cap);
        self.bytes.drain(..over);
        self.bytes.extend(kept);
        (over + bytes.len() - kept.len()) as u64
    }

    /// Removes and returns all bytes.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes).into()
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.iter().copied().collect()
    }

    /// The content as text; U+FFFD replaces invalid UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}
