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

    /// Appends, and says how many bytes fell out (or never got in).
    pub fn push(&mut self, bytes: &[u8]) -> u64 {
        let kept = &bytes[bytes.len().saturating_sub(self.cap)..];
        let over = (self.bytes.len() + kept.len()).saturating_sub(self.cap);
        self.bytes.drain(..over);
        self.bytes.extend(kept);
        (over + bytes.len() - kept.len()) as u64
    }

    /// Everything in it, which leaves it empty.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes).into()
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.iter().copied().collect()
    }

    /// The text in it, with U+FFFD where it is no UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}
