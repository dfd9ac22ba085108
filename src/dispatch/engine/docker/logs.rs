//! Reads the log of a container: frames of standard output and standard error, one after the other.
//!
//! A frame is a header of eight bytes and a payload. The header is the number of the stream, three zeros, and the
//! length of the payload as a big-endian number of four bytes.

use std::io::{self, Write};

/// The size of a header, in bytes.
const HEADER_SIZE: usize = 8;
/// The number of the stream standard error.
const STDERR: u8 = 2;

/// Writes the payloads of frames to two writers. The bytes of the frames may arrive in pieces of any size.
#[derive(Debug)]
pub struct Demultiplexer<O, E> {
    stdout: O,
    stderr: E,
    /// The bytes of the next header that have arrived.
    header: Vec<u8>,
    /// The frame whose payload is arriving.
    frame: Option<Frame>,
}

/// A frame whose header has arrived.
#[derive(Debug, Clone, Copy)]
struct Frame {
    stream: u8,
    /// How many bytes of the payload have not arrived yet.
    remaining: usize,
}

impl<O: Write, E: Write> Demultiplexer<O, E> {
    pub fn new(stdout: O, stderr: E) -> Self {
        Self {
            stdout,
            stderr,
            header: Vec::with_capacity(HEADER_SIZE),
            frame: None,
        }
    }

    /// Handles the next piece of the log.
    pub fn feed(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let Some(Frame { stream, remaining }) = self.frame else {
                let (part, rest) = bytes.split_at(bytes.len().min(HEADER_SIZE - self.header.len()));
                self.header.extend_from_slice(part);
                bytes = rest;
                if self.header.len() == HEADER_SIZE {
                    let length: [u8; 4] = self.header[4..].try_into().expect("four bytes");
                    let length = u32::from_be_bytes(length) as usize;
                    let stream = self.header[0];
                    self.frame = frame(stream, length);
                    self.header.clear();
                }
                continue;
            };
            let (part, rest) = bytes.split_at(bytes.len().min(remaining));
            match stream {
                STDERR => self.stderr.write_all(part)?,
                _ => self.stdout.write_all(part)?,
            }
            bytes = rest;
            self.frame = frame(stream, remaining - part.len());
        }
        Ok(())
    }

    /// Must be called at the end of the log; returns the writers for standard output and standard error. An error if
    /// the log ends in the middle of a frame.
    pub fn finish(mut self) -> io::Result<(O, E)> {
        if self.frame.is_some() || !self.header.is_empty() {
            return Err(io::Error::other("the log ends in the middle of a frame"));
        }
        self.stdout.flush()?;
        self.stderr.flush()?;
        Ok((self.stdout, self.stderr))
    }
}

/// A frame of which this many bytes have not arrived yet; `None` if it is complete.
fn frame(stream: u8, remaining: usize) -> Option<Frame> {
    (remaining > 0).then_some(Frame { stream, remaining })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(stream: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend(length);
        frame.extend(text.as_bytes());
        frame
    }

    #[test]
    fn frames_that_arrive_in_pieces_are_put_together() {
        let log = [
            encode(1, "out\n"),
            encode(2, "err"),
            encode(1, ""),
            encode(2, "or\n"),
        ]
        .concat();
        for size in 1..log.len() {
            let mut demultiplexer = Demultiplexer::new(Vec::new(), Vec::new());
            for piece in log.chunks(size) {
                demultiplexer.feed(piece).unwrap();
            }
            let (stdout, stderr) = demultiplexer.finish().unwrap();
            assert_eq!((stdout, stderr), (b"out\n".to_vec(), b"error\n".to_vec()));
        }
    }

    #[test]
    fn a_log_that_ends_in_the_middle_of_a_frame_is_an_error() {
        for length in [3, 9] {
            let mut demultiplexer = Demultiplexer::new(Vec::new(), Vec::new());
            demultiplexer.feed(&encode(1, "out\n")[..length]).unwrap();
            assert!(demultiplexer.finish().is_err(), "{length} bytes");
        }
    }
}
