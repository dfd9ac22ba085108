//! Texts and times as the protocol limits them.

use std::time::Duration;

use crate::excerpt::visible;

/// The maximum length of a one-line message, in characters.
const MAX_LINE_CHARS: usize = 500;

pub fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

/// The text on one line, cut to the maximum length.
pub fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    cut(&words.join(" "), MAX_LINE_CHARS)
}

/// The first `max_chars` characters of a text, with an ellipsis if the rest was cut off. Escapes control characters.
pub fn cut(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        None => visible(text),
        Some((end, _)) => format!("{}…", visible(&text[..end])),
    }
}
