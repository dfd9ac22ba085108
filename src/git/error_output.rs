//! Selects the lines of git's output that an error shows.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// The last bytes of a file, at most `limit`. Empty if the file cannot be read.
pub fn end_of_file(mut file: File, limit: usize) -> String {
    let length = file.metadata().map_or(0, |found| found.len());
    let from = length.saturating_sub(limit as u64);
    let mut bytes = Vec::new();
    let read = file
        .seek(SeekFrom::Start(from))
        .and_then(|_| file.take(limit as u64).read_to_end(&mut bytes));
    read.map(|_| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// The beginnings of lines that only report progress.
const PROGRESS_LINE_BEGINNINGS: [&str; 17] = [
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

/// Whether a line only reports progress.
pub fn is_progress(line: &str) -> bool {
    let line = line.strip_prefix("remote: ").unwrap_or(line);
    PROGRESS_LINE_BEGINNINGS
        .iter()
        .any(|beginning| line.starts_with(beginning))
}

/// The most useful lines of git's messages: the first lines of the remote; if there are none, the last line for which
/// `names_cause` is true; if there is none, the last error; if there is none, the last line.
pub fn most_useful_lines(messages: &str, names_cause: impl Fn(&str) -> bool) -> String {
    const MAX_LINES: usize = 3;
    let remote = messages
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
    let cause = messages.lines().rev().find(|line| names_cause(line));
    let mut lines_from_end = messages.lines().rev();
    let error =
        lines_from_end.find(|line| line.starts_with("fatal: ") || line.starts_with("error: "));
    cause
        .or(error)
        .or_else(|| messages.lines().last())
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
