//! Splits a stream of bytes into lines, in bounded memory.

use std::mem::take;

use memchr::{memchr, memchr2};

/// What ends a line.
#[derive(Debug, Clone, Copy)]
pub enum LineEnd {
    Newline,
    /// Also a carriage return: progress bars overwrite their line with it.
    NewlineOrReturn,
}

/// Collects the bytes of a line until its end arrives.
#[derive(Debug)]
pub struct LineSplitter {
    line_end: LineEnd,
    max_len: usize,
    line: Line,
}

/// A line without its end.
#[derive(Debug, Default)]
pub struct Line {
    /// At most the splitter's maximum length.
    pub bytes: Vec<u8>,
    /// Whether the line was longer than `bytes`.
    pub is_truncated: bool,
}

impl LineSplitter {
    /// Lines longer than `max_len` bytes are truncated.
    pub fn new(line_end: LineEnd, max_len: usize) -> Self {
        Self {
            line_end,
            max_len,
            line: Line::default(),
        }
    }

    /// Removes the bytes of the next line from the front of `input`. Returns `None`, with `input`
    /// empty, if the end of the line is still to come.
    pub fn next_line(&mut self, input: &mut &[u8]) -> Option<Line> {
        let end = match self.line_end {
            LineEnd::Newline => memchr(b'\n', input),
            LineEnd::NewlineOrReturn => memchr2(b'\n', b'\r', input),
        };
        let part = &input[..end.unwrap_or(input.len())];
        let room = self.max_len - self.line.bytes.len();
        self.line
            .bytes
            .extend_from_slice(&part[..part.len().min(room)]);
        self.line.is_truncated |= part.len() > room;
        *input = end.map_or(&[], |end| &input[end + 1..]);
        end.map(|_| take(&mut self.line))
    }

    /// Removes the line whose end has not arrived; `None` if it has no bytes.
    pub fn take_unfinished(&mut self) -> Option<Line> {
        let line = take(&mut self.line);
        (!line.bytes.is_empty()).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits the chunks into lines. The flag of each line is [`Line::is_truncated`].
    fn split(line_end: LineEnd, max_len: usize, chunks: &[&str]) -> Vec<(String, bool)> {
        let mut splitter = LineSplitter::new(line_end, max_len);
        let mut lines = Vec::new();
        for chunk in chunks {
            let mut input = chunk.as_bytes();
            while let Some(line) = splitter.next_line(&mut input) {
                lines.push(line);
            }
            assert!(input.is_empty());
        }
        lines.extend(splitter.take_unfinished());
        let text = |line: Line| {
            let text = String::from_utf8(line.bytes).unwrap();
            (text, line.is_truncated)
        };
        lines.into_iter().map(text).collect()
    }

    /// The expected result for lines that are not truncated.
    fn whole(lines: &[&str]) -> Vec<(String, bool)> {
        lines
            .iter()
            .map(|line| ((*line).to_owned(), false))
            .collect()
    }

    #[test]
    fn lines_do_not_depend_on_the_sizes_of_the_chunks() {
        let expected = whole(&["one", "", "two\r", "three"]);
        let text = "one\n\ntwo\r\nthree";
        assert_eq!(split(LineEnd::Newline, 10, &[text]), expected);
        for at in 0..text.len() {
            let chunks = [&text[..at], &text[at..]];
            assert_eq!(split(LineEnd::Newline, 10, &chunks), expected, "{at}");
        }
    }

    #[test]
    fn a_carriage_return_ends_a_line_only_if_asked_for() {
        let lines = split(LineEnd::NewlineOrReturn, 10, &["50%\r100%\n"]);
        assert_eq!(lines, whole(&["50%", "100%"]));
    }

    #[test]
    fn a_line_longer_than_the_maximum_is_truncated_and_the_next_one_is_whole() {
        let lines = split(LineEnd::Newline, 3, &["abc\nab", "cd", "e\nxy\n"]);
        let expected = [("abc", false), ("abc", true), ("xy", false)];
        let expected = expected.map(|(text, is_truncated)| (text.to_owned(), is_truncated));
        assert_eq!(lines, expected);
    }
}
