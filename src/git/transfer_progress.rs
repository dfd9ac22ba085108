//! Reads the progress of a transfer from git's progress lines, and collects all other lines of git's output.

use super::error_output::is_progress;
use crate::progress::{Progress, Transfer};
use crate::ring_buffer::RingBuffer;

/// The longest progress line, in bytes. A longer line is stored with the other lines, in pieces.
const MAX_LINE_SIZE: usize = 4 * 1024;

/// The beginnings of git's and git-lfs's progress lines, each with the description that users see.
const PHASES: [(&str, &str); 10] = [
    ("Enumerating objects", "enumerating objects"),
    ("Counting objects", "counting objects"),
    ("Compressing objects", "compressing objects"),
    ("Receiving objects", "receiving objects"),
    ("Resolving deltas", "resolving deltas"),
    ("Updating files", "checking out files"),
    ("Filtering content", "filtering files"),
    ("Writing objects", "sending objects"),
    ("Downloading LFS objects", "downloading LFS objects"),
    ("Uploading LFS objects", "uploading LFS objects"),
];

/// Separates the progress lines in the output of one command from the other lines.
pub struct ProgressReader<'a> {
    progress: &'a Progress,
    /// The beginning of the line that is not complete yet.
    line: Vec<u8>,
    /// The end of the other lines.
    other_lines: RingBuffer,
}

impl<'a> ProgressReader<'a> {
    /// Stores the last `max_size` bytes of the other lines.
    pub fn new(progress: &'a Progress, max_size: usize) -> Self {
        Self {
            progress,
            line: Vec::new(),
            other_lines: RingBuffer::new(max_size),
        }
    }

    /// Reads a part of the output.
    pub fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\r' | b'\n')) {
            self.line.extend_from_slice(piece);
            let is_whole = matches!(piece.last(), Some(b'\r' | b'\n'));
            if is_whole || self.line.len() > MAX_LINE_SIZE {
                self.end_line();
            }
        }
    }

    /// The end of the other lines so far.
    pub fn other_lines(&mut self) -> String {
        self.end_line();
        self.other_lines.text()
    }

    fn end_line(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        // A progress line of the remote ends with an escape sequence that clears the rest of the line.
        let text = text.trim().trim_end_matches("\u{1b}[K").trim_end();
        if let Some(transfer) = parse_progress_line(text) {
            self.progress.set_transfer(Some(transfer));
        } else if !is_progress(text) {
            self.other_lines.push(&self.line);
        }
        self.line.clear();
    }
}

impl Drop for ProgressReader<'_> {
    fn drop(&mut self) {
        self.progress.set_transfer(None);
    }
}

/// Reads `Receiving objects:  45% (9/20), 1.20 MiB | 300.00 KiB/s`.
fn parse_progress_line(line: &str) -> Option<Transfer> {
    let line = line.strip_prefix("remote: ").unwrap_or(line);
    let (name, rest) = line.split_once(':')?;
    let (_, step) = PHASES.iter().find(|(known, _)| *known == name)?;
    let (percent, rest) = rest.trim_start().split_once('%')?;
    let bytes = rest.split_once(", ").map(|(_, size)| size);
    let bytes = bytes.and_then(|size| size.split(" | ").next());
    Some(Transfer {
        step,
        percent: percent.parse().ok().filter(|percent| *percent <= 100)?,
        bytes: bytes.and_then(parse_size),
    })
}

/// Reads `1.20 MiB` (git) and `1.2 MB` (git-lfs) as a number of bytes.
fn parse_size(size: &str) -> Option<u64> {
    let (number, unit) = size.trim().split_once(' ')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let unit: u64 = match unit.trim_end_matches(|c: char| !c.is_ascii_alphabetic()) {
        "bytes" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    let digits = fraction.get(..fraction.len().min(3))?;
    let scale = 10_u64.pow(u32::try_from(digits.len()).ok()?);
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let part = digits.parse::<u64>().ok()?.checked_mul(unit)? / scale;
    whole.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_lines_of_git_and_git_lfs_are_read() {
        for (line, step, percent, bytes) in [
            (
                "Receiving objects:  45% (9/20), 1.25 MiB | 300.00 KiB/s",
                "receiving objects",
                45,
                Some(1_310_720),
            ),
            (
                "Receiving objects: 100% (20/20), 96 bytes | 96.00 KiB/s, done.",
                "receiving objects",
                100,
                Some(96),
            ),
            ("Resolving deltas:   0% (0/7)", "resolving deltas", 0, None),
            ("Updating files:  50% (1/2)", "checking out files", 50, None),
            (
                "remote: Compressing objects:  50% (1/2)",
                "compressing objects",
                50,
                None,
            ),
            (
                "Downloading LFS objects:  50% (1/2), 1.2 MB | 1.0 MB/s",
                "downloading LFS objects",
                50,
                Some(1_200_000),
            ),
        ] {
            let expected = Transfer {
                step,
                percent,
                bytes,
            };
            assert_eq!(parse_progress_line(line), Some(expected), "{line}");
        }
        for line in [
            "fatal: Receiving objects: 3%",
            "Receiving objects: x%",
            "",
            "README: 3% (1/2)",
        ] {
            assert_eq!(parse_progress_line(line), None, "{line}");
        }
    }

    #[test]
    fn other_lines_contain_no_progress_for_any_size_of_the_chunks() {
        let output = "Receiving objects:  10% (1/9)\rReceiving objects:  20% (2/9), 3 bytes | 1 KiB/s\rfatal: early EOF\nremote: Counting objects:  50% (1/2)\u{1b}[K\rremote: no\u{1b}[K\nlast";
        for size in 1..output.len() {
            let progress = Progress::new();
            let mut reader = ProgressReader::new(&progress, 1024);
            for piece in output.as_bytes().chunks(size) {
                reader.push(piece);
            }
            assert_eq!(
                reader.other_lines(),
                "fatal: early EOF\nremote: no\u{1b}[K\nlast"
            );
        }
    }

    #[test]
    fn many_progress_lines_do_not_push_an_error_out_of_the_buffer() {
        let progress = Progress::new();
        let mut reader = ProgressReader::new(&progress, 64);
        reader.push(b"fatal: the reason\n");
        for _ in 0..1000 {
            reader.push(b"Receiving objects:  45% (9/20), 1.25 MiB | 300.00 KiB/s\r");
        }
        assert_eq!(progress.snapshot().transfer.unwrap().percent, 45);
        assert_eq!(reader.other_lines(), "fatal: the reason\n");
        drop(reader);
        assert_eq!(progress.snapshot().transfer, None);
    }
}
