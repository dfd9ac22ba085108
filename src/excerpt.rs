//! Shortens texts that are too long; never splits a character.

/// Replaces the end of a shortened text.
const ELLIPSIS: char = '…';
/// The maximum length of [`left_out_note`], in bytes.
const MAX_NOTE_LEN: usize = 60;
/// Replaces a control character for which Unicode has no picture.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;
/// Unicode's controls of text direction, which make a terminal show a text in another order.
const DIRECTION_CONTROLS: [char; 9] = [
    '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}',
    '\u{2069}',
];

/// The first `max_chars` characters, with an ellipsis if there are more.
pub fn first_chars(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        None => text.to_owned(),
        Some((end, _)) => with_ellipsis(&text[..end]),
    }
}

/// The first `max_bytes` bytes, with an ellipsis if there are more.
pub fn first_bytes(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    with_ellipsis(&text[..boundary_before(text, max_bytes)])
}

fn with_ellipsis(beginning: &str) -> String {
    let mut excerpt = beginning.to_owned();
    excerpt.push(ELLIPSIS);
    excerpt
}

/// The beginning and the end of a text, within `max_bytes` bytes, with a note between them on how
/// much is missing.
pub fn both_ends(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let half = max_bytes.saturating_sub(MAX_NOTE_LEN) / 2;
    let head = boundary_before(text, half);
    let tail = (text.len() - half..text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(text.len());
    let note = left_out_note((tail - head) as u64);
    format!("{}{note}{}", &text[..head], &text[tail..])
}

/// Replaces control characters, except line feeds and tabs, by visible characters, so that a project's texts cannot
/// control a terminal.
pub fn visible(text: &str) -> String {
    let picture = |c: char| match c {
        '\n' | '\t' => c,
        // Unicode's control pictures are in the same order.
        '\0'..='\u{1f}' => char::from_u32(u32::from(c) + 0x2400).unwrap_or(REPLACEMENT),
        '\u{7f}' => '\u{2421}',
        c if c.is_control() || DIRECTION_CONTROLS.contains(&c) => REPLACEMENT,
        c => c,
    };
    text.chars().map(picture).collect()
}

/// The last boundary of a character at or before `at`.
fn boundary_before(text: &str, at: usize) -> usize {
    let boundary = (0..=at).rev().find(|at| text.is_char_boundary(*at));
    boundary.unwrap_or(0)
}

/// The note that replaces the missing middle of a text.
pub fn left_out_note(bytes: u64) -> String {
    format!("\n[... {bytes} bytes left out ...]\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_fits_stays_as_it_is() {
        assert_eq!(first_chars("zwölf", 5), "zwölf");
        assert_eq!(first_bytes("zwölf", 6), "zwölf");
        assert_eq!(both_ends("zwölf", 6), "zwölf");
    }

    #[test]
    fn control_characters_become_visible() {
        let text = "a\x1b]0;t\x07b\u{9b}31mc\rd\0e\x7ff\u{202e}g\th\ni";
        assert_eq!(visible(text), "a␛]0;t␇b\u{fffd}31mc␍d␀e␡f\u{fffd}g\th\ni");
    }

    #[test]
    fn a_character_is_never_split() {
        assert_eq!(first_chars("zwölf", 3), "zwö…");
        assert_eq!(first_bytes("zwölf", 3), "zw…");
        let text = "ä".repeat(100);
        let excerpt = both_ends(&text, 101);
        assert_eq!(
            excerpt,
            format!("{0}\n[... 160 bytes left out ...]\n{0}", "ä".repeat(10))
        );
    }
}
