//! The output of a container: frames of standard output and standard error in one stream.
//!
//! A frame is a header of eight bytes (the stream, three zeros, the length as a big-endian number), and then as
//! many bytes.

use std::io::{self, Write};

/// The size of a header, in bytes.
const HEADER: usize = 8;

/// Writes the frames of a stream, which may be cut into pieces anywhere, to two writers.
#[derive(Debug)]
pub struct Demultiplexer<O, E> {
    stdout: O,
    stderr: E,
    header: Vec<u8>,
    /// The stream of the current frame, and how many of its bytes have not arrived yet.
    frame: Option<(u8, usize)>,
}

impl<O: Write, E: Write> Demultiplexer<O, E> {
    pub fn new(stdout: O, stderr: E) -> Self {
        Self {
            stdout,
            stderr,
            header: Vec::with_capacity(HEADER),
            frame: None,
        }
    }

    /// Reads a part of the stream.
    pub fn feed(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let Some((stream, left)) = self.frame else {
                let (part, rest) = bytes.split_at(bytes.len().min(HEADER - self.header.len()));
                self.header.extend_from_slice(part);
                bytes = rest;
                if self.header.len() == HEADER {
                    let length: [u8; 4] = self.header[4..].try_into().expect("four bytes");
                    let length = u32::from_be_bytes(length) as usize;
                    self.frame = (length > 0).then_some((self.header[0], length));
                    self.header.clear();
                }
                continue;
            };
            let (part, rest) = bytes.split_at(bytes.len().min(left));
            match stream {
                2 => self.stderr.write_all(part)?,
                _ => self.stdout.write_all(part)?,
            }
            bytes = rest;
            self.frame = (left > part.len()).then_some((stream, left - part.len()));
        }
        Ok(())
    }

    /// Must be called at the end of the stream; returns the writers. An error if the stream ends in the middle of a
    /// frame.
    pub fn finish(mut self) -> io::Result<(O, E)> {
        if self.frame.is_some() || !self.header.is_empty() {
            return Err(io::Error::other("the log ends in the middle of a frame"));
        }
        self.stdout.flush()?;
        self.stderr.flush()?;
        Ok((self.stdout, self.stderr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend(length);
        frame.extend(text.as_bytes());
        frame
    }

    #[test]
    fn frames_that_are_cut_anywhere_are_put_together() {
        let whole = [
            frame(1, "out\n"),
            frame(2, "err"),
            frame(1, ""),
            frame(2, "or\n"),
        ]
        .concat();
        for size in 1..whole.len() {
            let mut frames = Demultiplexer::new(Vec::new(), Vec::new());
            for piece in whole.chunks(size) {
                frames.feed(piece).unwrap();
            }
            let (stdout, stderr) = frames.finish().unwrap();
            assert_eq!((stdout, stderr), (b"out\n".to_vec(), b"error\n".to_vec()));
        }
    }

    #[test]
    fn a_stream_that_ends_in_the_middle_of_a_frame_is_an_error() {
        for length in [3, 9] {
            let mut frames = Demultiplexer::new(Vec::new(), Vec::new());
            frames.feed(&frame(1, "out\n")[..length]).unwrap();
            assert!(frames.finish().is_err(), "{length} bytes");
        }
    }
}
