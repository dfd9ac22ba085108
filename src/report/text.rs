//! Texts that are safe to show on the page.

use console::strip_ansi_codes;
use maud::Render;

use crate::excerpt::{both_ends, first_chars, visible};
use crate::redact::Redactor;

/// The maximum length of a text in one line, in characters.
const MAX_LINE_CHARS: usize = 300;

/// A text without secrets, terminal codes and control characters, and not longer than allowed. maud escapes it when it
/// is rendered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Render for Text {
    fn render_to(&self, buffer: &mut String) {
        self.0.as_str().render_to(buffer);
    }
}

/// Makes every [`Text`].
#[derive(Debug, Clone)]
pub struct Cleaner {
    redactor: Redactor,
}

impl Cleaner {
    pub fn new(redactor: &Redactor) -> Self {
        Self {
            redactor: redactor.clone(),
        }
    }

    /// A text on one line.
    pub fn line(&self, text: &str) -> Text {
        let clean = self.clean(text);
        let words: Vec<&str> = clean.split_whitespace().collect();
        Text(first_chars(&words.join(" "), MAX_LINE_CHARS))
    }

    /// A text on several lines. If it is longer than `max_bytes`, its middle is left out.
    pub fn block(&self, text: &str, max_bytes: usize) -> Text {
        Text(both_ends(self.clean(text).trim_end(), max_bytes))
    }

    /// The lines of code or of a patch, which a person reviews. Shows control characters instead of doing what they do
    /// on a terminal, so that they hide nothing. If the text is longer than `max_bytes`, its middle is left out.
    pub fn code(&self, text: &str, max_bytes: usize) -> Text {
        let shown = visible(&self.redactor.mask(text));
        // Masks again: a pictured control character may be a part of a secret.
        Text(both_ends(self.redactor.mask(&shown).trim_end(), max_bytes))
    }

    fn clean(&self, text: &str) -> String {
        let masked = self.redactor.mask(text);
        // A terminal shows only the text after the last carriage return of a line. Progress bars use that.
        let lines = masked.split('\n').map(|line| {
            let line = line.strip_suffix('\r').unwrap_or(line);
            line.rsplit('\r').next().unwrap_or(line)
        });
        let lines: Vec<&str> = lines.collect();
        let shown = visible(&strip_ansi_codes(&lines.join("\n")));
        // Masks again: a terminal code may have been in the middle of a secret.
        self.redactor.mask(&shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaner() -> Cleaner {
        Cleaner::new(&Redactor::new(&["hunter2-hunter2".into()]))
    }

    #[test]
    fn terminal_codes_are_removed_and_control_characters_are_made_visible() {
        let text = cleaner().block("\x1b[31mred\x1b[0m\x1b]0;title\x07 \0 \u{202e}evil", 100);
        assert!(
            !text.as_str().contains(['\x1b', '\0', '\u{202e}']),
            "{text:?}"
        );
        assert!(text.as_str().starts_with("red"), "{text:?}");
        assert!(text.as_str().ends_with("evil"), "{text:?}");
    }

    #[test]
    fn code_shows_carriage_returns_and_terminal_codes_and_what_they_would_hide() {
        let text = cleaner().code("+evil() #\r# harmless\n+\x1b]0;more()\x07x\n", 100);
        assert_eq!(text.as_str(), "+evil() #␍# harmless\n+␛]0;more()␇x");
    }

    #[test]
    fn a_secret_in_code_is_masked_even_with_a_terminal_code_in_it() {
        for text in ["hunter2-hunter2", "hunter2\x1b[0m-hunter2"] {
            let text = cleaner().code(&format!("+password = {text}"), 100);
            assert!(!text.as_str().contains("hunter2"), "{text:?}");
        }
    }

    #[test]
    fn a_progress_bar_is_shown_as_its_last_state() {
        let text = cleaner().block("10 %\r50 %\r100 %\r\nnext", 100);
        assert_eq!(text.as_str(), "100 %\nnext");
    }

    #[test]
    fn a_secret_is_masked_even_with_a_terminal_code_in_it() {
        for text in ["hunter2-hunter2", "hunter2\x1b[0m-hunter2"] {
            let text = cleaner().line(&format!("password {text}"));
            assert!(!text.as_str().contains("hunter2"), "{text:?}");
        }
    }

    #[test]
    fn a_long_text_keeps_both_ends_within_the_maximum() {
        let text = cleaner().block(&format!("begin{}end", "x".repeat(10_000)), 500);
        assert!(text.as_str().len() <= 500);
        assert!(text.as_str().starts_with("begin") && text.as_str().ends_with("end"));
    }

    #[test]
    fn markup_is_escaped_when_it_is_rendered() {
        let text = cleaner().line(r#"<script>alert("1")</script> & 'x'"#);
        let html = maud::html! { p title=(text) { (text) } }.into_string();
        assert!(
            !html.contains("<script>") && !html.contains("\"1\""),
            "{html}"
        );
    }
}
