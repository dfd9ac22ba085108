//! The `.scg` format line by line: the kind of each line, borrowed from the text.
//!
//! The lexer accepts everything that SCUD accepts: unknown sections, comments, blank lines, the old `# Epic:`.
//! Between lines it remembers only the current section, and it reads a field only to find the field's end.
//! `search` and `graph` decide what the lines mean together.

use super::fields::{Fields, first_two_fields, trim};

/// The error for an invalid line; the caller adds the path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct SyntaxError {
    /// Counted from 1.
    pub line: usize,
    pub message: String,
}

impl SyntaxError {
    /// The error for a task or a phase (`kind`) whose name is defined in two lines.
    pub(super) fn defined_twice(
        kind: &str,
        name: &str,
        first_line: usize,
        second_line: usize,
    ) -> Self {
        let name = quote(name);
        Self {
            line: second_line,
            message: format!(
                "{kind} {name} is defined twice (lines {first_line} and {second_line})"
            ),
        }
    }
}

/// One line that carries information.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Phase {
        tag: &'a str,
        line: usize,
        body: Position,
    },
    /// A name in `@meta`. SCUD uses this name of the phase instead of the name in the header.
    Name(&'a str),
    /// `@meta` declares a pipeline: the edges of this phase are its flow, not dependencies.
    Pipeline,
    Node(Node<'a>),
    /// A line of `@edges`, which [`parse_edge`] splits.
    Edge(&'a str),
    /// A line of `@parents`, which [`parse_parent`] splits.
    Parent(&'a str),
    /// A line of `@agents`, which `first_two_fields` splits.
    Agent(&'a str),
    /// The heading of a text; the [`Item::Text`] lines that follow are its content.
    Heading {
        id: &'a str,
        field: &'a str,
    },
    Text(&'a str),
}

/// A line of `@nodes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node<'a> {
    pub text: &'a str,
    /// The offset of `text` in the file, in bytes.
    pub offset: usize,
    pub line: usize,
}

impl<'a> Node<'a> {
    /// The first field.
    pub fn id(&self) -> &'a str {
        Fields::of(self.text).next().map_or("", |field| field.text)
    }
}

/// The position of a line's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// In bytes, from the start of the file.
    offset: usize,
    line: usize,
}

/// The kind of line that must come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Header,
    Tag,
    Body,
}

/// The section to which the next line of a phase belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    /// Before the first section, or in a section that is not read.
    Skipped,
    Meta,
    Nodes,
    Edges,
    Parents,
    Agents,
    Details,
    /// In `@details`, below the heading of a text.
    Text,
}

/// An iterator over the items of a graph; it ends after the first syntax error.
#[derive(Debug, Clone)]
pub(super) struct Items<'a> {
    text: &'a str,
    /// The beginning of the next line.
    next: Position,
    expected: Expected,
    section: Section,
    /// Whether a node of the current phase has been read.
    has_node: bool,
}

impl<'a> Items<'a> {
    /// The items of the whole `text`.
    pub fn of(text: &'a str) -> Self {
        Self {
            text,
            next: Position { offset: 0, line: 1 },
            expected: Expected::Header,
            section: Section::Skipped,
            has_node: false,
        }
    }

    /// The items of one phase's body and everything after it: the next [`Item::Phase`] ends the body.
    pub fn of_body(text: &'a str, body: Position) -> Self {
        Self {
            next: body,
            expected: Expected::Body,
            ..Self::of(text)
        }
    }

    /// The nodes of one phase, from its first to its last; the rest of the text is skipped.
    pub fn of_nodes(text: &'a str, first: Node<'a>, last: Node<'a>) -> Self {
        // Starts at the beginning of the line: a `---` without its indentation would be a separator.
        let begin = text[..first.offset].rfind('\n').map_or(0, |end| end + 1);
        Self {
            next: Position {
                offset: begin,
                line: first.line,
            },
            expected: Expected::Body,
            section: Section::Nodes,
            has_node: true,
            ..Self::of(&text[..last.offset + last.text.len()])
        }
    }

    /// The next line and its position; CRLF counts as one end of line, as in SCUD.
    fn next_line(&mut self) -> Option<(&'a str, Position)> {
        let begin = self.next;
        let rest = &self.text[begin.offset..];
        if rest.is_empty() {
            return None;
        }
        let (line, length) = match rest.find('\n') {
            Some(end) => (&rest[..end], end + 1),
            None => (rest, rest.len()),
        };
        self.next = Position {
            offset: begin.offset + length,
            line: begin.line + 1,
        };
        Some((line.strip_suffix('\r').unwrap_or(line), begin))
    }

    /// Reads the line `# SCUD Graph v1`.
    fn read_header(&mut self, line: &str, number: usize) -> Result<(), SyntaxError> {
        // SCUD skips white space between phases; a second separator there is harmless.
        if line.trim().is_empty() || line == "---" {
            return Ok(());
        }
        if line.trim_start().starts_with("# SCUD Graph") {
            self.expected = Expected::Tag;
            return Ok(());
        }
        let message = if line.starts_with('\u{feff}') {
            "the file begins with a byte order mark, which scud does not accept".to_owned()
        } else {
            format!("expected `# SCUD Graph v1`, found {}", quote(line))
        };
        Err(SyntaxError {
            line: number,
            message,
        })
    }

    /// Reads the line with the tag of a phase.
    fn read_tag(&mut self, line: &'a str, number: usize) -> Result<Item<'a>, SyntaxError> {
        let tag = line
            .strip_prefix("# Phase:")
            .or_else(|| line.strip_prefix("# Epic:"));
        let Some(tag) = tag else {
            let message = format!("expected `# Phase: <tag>`, found {}", quote(line));
            return Err(SyntaxError {
                line: number,
                message,
            });
        };
        self.expected = Expected::Body;
        self.section = Section::Skipped;
        self.has_node = false;
        Ok(Item::Phase {
            tag: checked_tag(tag.trim(), number)?,
            line: number,
            body: self.next,
        })
    }

    /// Reads a line of a phase.
    fn read_body(
        &mut self,
        line: &'a str,
        begin: Position,
    ) -> Result<Option<Item<'a>>, SyntaxError> {
        if line == "---" {
            self.expected = Expected::Header;
            return Ok(None);
        }
        // This test comes first: an indented line below a heading is always text, even if it looks like another kind of
        // line, so that the text of a task can never become a task. SCUD tests for `@` first, and loses the text after
        // such a line.
        if self.section == Section::Text
            && let Some(text) = line.strip_prefix("  ")
        {
            return Ok(Some(Item::Text(text)));
        }
        let trimmed = trim(line);
        match trimmed.as_bytes().first() {
            // A blank line ends a paragraph of the text; SCUD drops it.
            None if self.section == Section::Text => return Ok(Some(Item::Text(""))),
            None | Some(b'#') => return Ok(None),
            Some(b'}') if trimmed.len() == 1 => return Ok(None),
            Some(b'@') => {
                self.section = section_of(trimmed);
                return Ok(None);
            }
            Some(_) => {}
        }
        match self.section {
            Section::Skipped => Ok(None),
            Section::Meta => self.read_meta(trimmed, begin.line),
            Section::Nodes => {
                self.has_node = true;
                let indent = line.len() - line.trim_start().len();
                Ok(Some(Item::Node(Node {
                    text: trimmed,
                    offset: begin.offset + indent,
                    line: begin.line,
                })))
            }
            Section::Edges => Ok(Some(Item::Edge(trimmed))),
            Section::Parents => Ok(Some(Item::Parent(trimmed))),
            Section::Agents => Ok(Some(Item::Agent(trimmed))),
            // A stray line between the lines of a text is skipped and the text continues; SCUD would
            // lose the text before it.
            Section::Details | Section::Text => Ok(first_two_fields(trimmed).map(|(id, field)| {
                self.section = Section::Text;
                Item::Heading { id, field }
            })),
        }
    }

    /// Reads a line of `@meta`.
    fn read_meta(&self, trimmed: &'a str, line: usize) -> Result<Option<Item<'a>>, SyntaxError> {
        let Some((key, value)) = trimmed.split_once(char::is_whitespace) else {
            return Ok(None);
        };
        match (key, value.trim()) {
            // SCUD never writes this, and reading it as SCUD does would rename tasks that were already read.
            ("name", _) if self.has_node => Err(SyntaxError {
                line,
                message: "the name of a phase must come before its nodes".to_owned(),
            }),
            ("name", name) => Ok(Some(Item::Name(checked_tag(name, line)?))),
            ("mode", "pipeline") => Ok(Some(Item::Pipeline)),
            _ => Ok(None),
        }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, SyntaxError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some((line, begin)) = self.next_line() {
            let item = match self.expected {
                Expected::Header => self.read_header(line, begin.line).map(|()| None),
                Expected::Tag => self.read_tag(line, begin.line).map(Some),
                Expected::Body => self.read_body(line, begin),
            };
            if item.is_err() {
                self.next.offset = self.text.len();
                self.expected = Expected::Header;
            }
            if let Some(item) = item.transpose() {
                return Some(item);
            }
        }
        if self.expected == Expected::Tag {
            self.expected = Expected::Header;
            let line = self.next.line;
            let message = "expected `# Phase: <tag>`, found the end of the file".to_owned();
            return Some(Err(SyntaxError { line, message }));
        }
        None
    }
}

/// Returns the tag of a phase if it is short: every task of the phase stores it.
fn checked_tag(tag: &str, line: usize) -> Result<&str, SyntaxError> {
    const MAX_BYTES: usize = 256;
    if tag.len() <= MAX_BYTES {
        return Ok(tag);
    }
    let message = format!("the tag {} is longer than {MAX_BYTES} bytes", quote(tag));
    Err(SyntaxError { line, message })
}

/// The section that a line with `@` begins.
fn section_of(header: &str) -> Section {
    match header {
        "@meta" | "@meta {" => Section::Meta,
        "@nodes" => Section::Nodes,
        "@edges" => Section::Edges,
        "@parents" => Section::Parents,
        "@agents" => Section::Agents,
        "@details" => Section::Details,
        // SCUD reads the lines of an unknown section as lines of the section before it. If a newer SCUD added a section
        // after `@nodes`, its lines would become tasks.
        _ => Section::Skipped,
    }
}

/// The dependent and the dependency in a line of `@edges`; `None` if the line has no `->`.
pub(super) fn parse_edge(line: &str) -> Option<(&str, &str)> {
    let (dependent, dependency) = line.split_once("->")?;
    Some((dependent.trim(), dependency.trim()))
}

/// The parent and its subtasks in a line of `@parents`; `None` if the line has no colon.
pub(super) fn parse_parent(line: &str) -> Option<(&str, impl Iterator<Item = &str>)> {
    // In a graph that SCUD wrote, ids have no colon. In a migrated graph every id has the prefix of its phase (`a:8`),
    // but only the colon after the parent is followed by a space.
    let (parent, subtasks) = line.split_once(": ").or_else(|| line.split_once(':'))?;
    let subtasks = subtasks.split(',').map(str::trim);
    Some((parent.trim(), subtasks.filter(|id| !id.is_empty())))
}

/// Quotes a text in a message: short, and without control characters.
pub(super) fn quote(text: &str) -> String {
    /// A line of a graph can be megabytes.
    const MAX_CHARS: usize = 40;
    let mut quoted: String = text
        .chars()
        .take(MAX_CHARS)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        quoted.push('…');
    }
    format!("`{quoted}`")
}

#[cfg(test)]
mod tests;
