//! Selects the lines of git's output that an error shows.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// The last bytes of a file, at most `limit`.
pub fn last_words(mut file: File, limit: usize) -> String {
    let length = file.metadata().map_or(0, |found| found.len());
    let from = length.saturating_sub(limit as u64);
    let mut bytes = Vec::new();
    let read = file
        .seek(SeekFrom::Start(from))
        .and_then(|_| file.take(limit as u64).read_to_end(&mut bytes));
    read.map(|_| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// The beginnings of lines that only report the progress of a transfer.
const PROGRESS: [&str; 17] = [
    "Enumerating objects:",
    "Counting objects:",
    "Compressing objects:",
    "Receiving objects:",
    "Resolving deltas:",
    "Resolving references:",
    "Writing objects:",
    "Unpacking objects:",
    "Updating files:",
    "Filtering content:",
    "Checking connectivity:",
    "Total ",
    "Delta compression using",
    "Downloading LFS objects:",
    "Uploading LFS objects:",
    "Checking out LFS objects:",
    "Downloading <unknown file>",
];

/// Whether a line only reports the progress of a transfer.
pub fn is_progress(line: &str) -> bool {
    let line = line.strip_prefix("remote: ").unwrap_or(line);
    PROGRESS.iter().any(|beginning| line.starts_with(beginning))
}

/// The most useful lines of an error output: the lines of the remote; if there are none, the last line for which
/// `names_trouble` is true; if there is none, the last error.
pub fn quote(words: &str, names_trouble: impl Fn(&str) -> bool) -> String {
    const MAX_LINES: usize = 3;
    let remote = words
        .lines()
        .filter_map(|line| line.strip_prefix("remote:"));
    let remote: Vec<&str> = remote
        .map(str::trim)
        .filter(|line| line.bytes().any(|byte| byte.is_ascii_alphanumeric()))
        .take(MAX_LINES)
        .collect();
    if !remote.is_empty() {
        return format!("remote: {}", remote.join("; "));
    }
    let mut backwards = words.lines().rev();
    let trouble = words.lines().rev().find(|line| names_trouble(line));
    let error = backwards.find(|line| line.starts_with("fatal: ") || line.starts_with("error: "));
    trouble
        .or(error)
        .or_else(|| words.lines().last())
        .unwrap_or_default()
        .to_owned()
}

/// The lines of git's output, without progress and without lines that git would have overwritten on a terminal.
pub fn without_progress(text: &str) -> String {
    let lines = text.lines().map(|line| {
        line.rsplit('\r')
            .find(|part| !part.is_empty())
            .unwrap_or_default()
    });
    let lines: Vec<&str> = lines
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && !is_progress(line))
        .collect();
    lines.join("\n")
}
