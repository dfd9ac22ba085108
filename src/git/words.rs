//! The end of what git says, as an error shows it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// The end of git's own words that an error shows.
pub const WORDS: usize = 2 * 1024;

pub fn last_words(mut file: File) -> String {
    let length = file.metadata().map_or(0, |found| found.len());
    let from = length.saturating_sub(WORDS as u64);
    let mut bytes = Vec::new();
    let read = file
        .seek(SeekFrom::Start(from))
        .and_then(|_| file.take(WORDS as u64).read_to_end(&mut bytes));
    read.map(|_| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// git's words without the lines that it overwrote on a terminal.
pub fn without_progress(text: &str) -> String {
    let lines = text.lines().map(|line| {
        line.rsplit('\r')
            .find(|part| !part.is_empty())
            .unwrap_or_default()
    });
    let lines: Vec<&str> = lines
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("\n")
}
