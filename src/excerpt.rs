//! Shortens texts that are too long; never splits a character.

/// Stands for the missing end of a text.
const ELLIPSIS: char = '…';
/// Room for the note on how much of the middle is missing, in bytes.
const NOTE_LEN: usize = 60;

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
    let half = max_bytes.saturating_sub(NOTE_LEN) / 2;
    let head = boundary_before(text, half);
    let tail = (text.len() - half..text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(text.len());
    let note = left_out((tail - head) as u64);
    format!("{}{note}{}", &text[..head], &text[tail..])
}

/// The last boundary of a character at or before `at`.
fn boundary_before(text: &str, at: usize) -> usize {
    let boundary = (0..=at).rev().find(|at| text.is_char_boundary(*at));
    boundary.unwrap_or(0)
}

/// The note in the place of a missing middle.
pub fn left_out(bytes: u64) -> String {
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
