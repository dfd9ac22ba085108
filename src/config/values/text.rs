//! Texts and names.

/// The value, or the end of a sentence that says why the text is invalid.
pub type ParseResult<T> = Result<T, String>;

/// Any text.
pub fn text(text: &str) -> ParseResult<String> {
    if text.contains('\0') {
        return Err("contains a NUL character".to_owned());
    }
    Ok(text.to_owned())
}

/// A name: one line without control characters, short enough for a log or a file name.
pub fn line(text: &str) -> ParseResult<String> {
    line_up_to(text, MAX_LINE_LEN)
}

/// The longest name, in bytes.
const MAX_LINE_LEN: usize = 200;

/// One line of at most `max` bytes.
pub fn line_up_to(text: &str, max: usize) -> ParseResult<String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("is blank".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("contains control characters; it must be one line".to_owned());
    }
    if text.len() > max {
        return Err(format!(
            "is {} bytes long; at most {max} are allowed",
            text.len()
        ));
    }
    Ok(text.to_owned())
}
