//! One line of `@nodes` with its fields.

use super::fields::{Fields, unescape};
use super::lexer::{Node, SyntaxError, quote};
use crate::excerpt::{first_chars, visible};
use crate::task::{Priority, Status};

/// Longer titles are shortened.
const MAX_TITLE_CHARS: usize = 1_000;

/// A title for messages and prompts: short, and without control characters.
pub(super) fn title_for_display(written: &str) -> String {
    let start = first_chars(written, 2 * MAX_TITLE_CHARS);
    first_chars(&visible(&unescape(&start)), MAX_TITLE_CHARS)
}

/// The fields of a node line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row<'a> {
    /// The title with its escapes.
    pub title: &'a str,
    pub status: Status,
    /// The offset of the status letter in the file, in bytes.
    pub status_offset: usize,
    pub complexity: u32,
    pub priority: Priority,
}

impl<'a> Row<'a> {
    /// Reads a node line. Requires the five fields that SCUD requires, and one status letter that SCUD knows.
    /// SCUD reads any other status as pending, and a word by its first letter (`Deferred` as done). Here that
    /// is an error, because the wrong tasks would run. Complexity and priority have the same defaults as in
    /// SCUD; further fields are ignored.
    pub fn of(node: Node<'a>) -> Result<Self, SyntaxError> {
        let error = |message| SyntaxError {
            line: node.line,
            message,
        };
        let mut fields = Fields::of(node.text);
        let mut next = || fields.next();
        let (Some(id), Some(title), Some(status), Some(complexity), Some(priority)) =
            (next(), next(), next(), next(), next())
        else {
            let count = Fields::of(node.text).count();
            let id = quote(node.id());
            return Err(error(format!(
                "task {id} has {count} of 5 fields; a line is: id | title | status | complexity | priority"
            )));
        };
        let known_status = match status.text.as_bytes() {
            [letter] => Status::from_letter(*letter),
            _ => None,
        };
        let Some(known_status) = known_status else {
            let (id, status) = (quote(id.text), quote(status.text));
            return Err(error(format!(
                "task {id} has the unknown status {status}; the statuses are P, I, D, R, B, F, C, X and !"
            )));
        };
        Ok(Self {
            title: title.text,
            status: known_status,
            status_offset: node.offset + status.offset,
            complexity: complexity.text.parse().unwrap_or(0),
            priority: match priority.text.as_bytes().first() {
                Some(b'C') => Priority::Critical,
                Some(b'H') => Priority::High,
                Some(b'L') => Priority::Low,
                _ => Priority::Medium,
            },
        })
    }
}
