//! Terminal codes, which may be in the middle of a secret.

use console::strip_ansi_codes;

const ESCAPE: char = '\u{1b}';
/// The other character that a terminal code can begin with.
const CONTROL_SEQUENCE_INTRODUCER: char = '\u{9b}';
/// Unicode's picture of [`ESCAPE`], which replaces it in texts for people.
const PICTURE_OF_ESCAPE: char = '\u{241b}';

/// The text without its terminal codes; `None` if it has none. A code whose escape character was replaced by its
/// picture is a code too. The result has no escape character.
pub fn without_terminal_codes(text: &str) -> Option<String> {
    if !text.contains([ESCAPE, CONTROL_SEQUENCE_INTRODUCER, PICTURE_OF_ESCAPE]) {
        return None;
    }
    let codes = text.replace(PICTURE_OF_ESCAPE, "\u{1b}");
    Some(strip_ansi_codes(&codes).replace(ESCAPE, "\u{241b}"))
}
