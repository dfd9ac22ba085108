//! Light styling for the Markdown of agents, line by line: headings, lists, bold text and code. Only for terminals.

use console::{Style, StyledObject};

/// The beginning of the first and of the last line of a code block.
const FENCE: &str = "```";

/// Styles the lines of one agent.
#[derive(Debug, Default)]
pub struct Markdown {
    is_in_code_block: bool,
}

impl Markdown {
    /// Returns the line with styles. It must have no control characters.
    pub fn style_line(&mut self, line: &str) -> String {
        if line.trim_start().starts_with(FENCE) {
            self.is_in_code_block = !self.is_in_code_block;
            return paint(Style::new().dim(), line).to_string();
        }
        if self.is_in_code_block {
            return paint(Style::new().cyan(), line).to_string();
        }
        if is_heading(line) {
            return paint(Style::new().bold().underlined(), line).to_string();
        }
        let text = line.trim_start();
        match ["- ", "* "].iter().find_map(|mark| text.strip_prefix(mark)) {
            Some(item) => {
                let indent = &line[..line.len() - text.len()];
                format!(
                    "{indent}{} {}",
                    paint(Style::new().dim(), "•"),
                    style_inline(item)
                )
            }
            None => style_inline(line),
        }
    }
}

fn paint<T>(style: Style, text: T) -> StyledObject<T> {
    style.for_stderr().apply_to(text)
}

/// Whether a line begins with one to six number signs and a space. The signs stay in the output, because the line may
/// also be a comment in a shell script.
fn is_heading(line: &str) -> bool {
    let signs = line.chars().take_while(|c| *c == '#').count();
    (1..=6).contains(&signs) && line[signs..].starts_with(' ')
}

/// Replaces `**bold**` and `` `code` `` by styled text. A mark without a closing mark stays.
fn style_inline(text: &str) -> String {
    let mut styled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['*', '`']) {
        let (before, marked) = rest.split_at(at);
        styled.push_str(before);
        let (mark, style) = if marked.starts_with('`') {
            ("`", Style::new().cyan())
        } else if marked.starts_with("**") {
            ("**", Style::new().bold())
        } else {
            styled.push('*');
            rest = &marked[1..];
            continue;
        };
        let inner = &marked[mark.len()..];
        let end = inner.find(mark);
        let content = end.map(|end| &inner[..end]);
        match (content, end) {
            (Some(content), Some(end)) if is_meant_to_be_styled(content) => {
                styled.push_str(&paint(style, content).to_string());
                rest = &inner[end + mark.len()..];
            }
            _ => {
                styled.push_str(mark);
                rest = inner;
            }
        }
    }
    styled + rest
}

/// Whether the text between two marks is meant to be styled. It is not if it is empty, or if a space follows the first
/// mark or precedes the second one: `2 ** 3 ** 4`.
fn is_meant_to_be_styled(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(' ') && !text.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text without styles: the test's standard error may be a terminal or not.
    fn plain(line: &str) -> String {
        console::strip_ansi_codes(&Markdown::default().style_line(line)).into_owned()
    }

    #[test]
    fn pairs_of_marks_are_removed_and_single_marks_stay() {
        for (line, shown) in [
            ("**Done:** `a.rs` is *good*", "Done: a.rs is *good*"),
            ("2 ** 3 ** 4 and `open", "2 ** 3 ** 4 and `open"),
            ("# heading", "# heading"),
            ("  - item with **bold**", "  • item with bold"),
            ("`` and ****", "`` and ****"),
            ("ä**ö**ü", "äöü"),
            ("", ""),
        ] {
            assert_eq!(plain(line), shown, "{line}");
        }
    }

    #[test]
    fn text_in_a_code_block_stays_as_it_is() {
        let mut markdown = Markdown::default();
        let lines = ["```sh", "echo **a** `b`", "```", "**a**"];
        let shown =
            lines.map(|line| console::strip_ansi_codes(&markdown.style_line(line)).into_owned());
        assert_eq!(shown, ["```sh", "echo **a** `b`", "```", "a"]);
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_styled_without_a_panic(lines in proptest::collection::vec(".{0,40}", 1..5)) {
            let mut markdown = Markdown::default();
            for line in lines {
                markdown.style_line(&line);
            }
        }
    }
}
