//! The `.scg` format line by line: what each line is, borrowed from the text.
//!
//! Tolerant where SCUD is: unknown sections, comments, blank lines, the old `# Epic:`. It keeps
//! nothing between lines but the section it is in, and looks inside a field only to find its end;
//! what the lines mean together is `graph`'s business.

/// What is wrong with a line; the caller knows the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    pub line: usize,
    pub what: String,
}

/// One line that says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Phase {
        tag: &'a str,
        line: usize,
        body: Position,
    },
    /// `@meta` renames the phase; SCUD believes it more than the header.
    Name(&'a str),
    /// `@meta` declares a pipeline: the edges of this phase are its flow, not dependencies.
    Pipeline,
    Node(Node<'a>),
    /// A line of `@edges`; [`edge`] takes it apart.
    Edge(&'a str),
    /// A line of `@agents`; [`pair`] takes it apart.
    Agent(&'a str),
    /// The head of a text; the [`Item::Text`] lines that follow are its content.
    Block {
        id: &'a str,
        field: &'a str,
    },
    Text(&'a str),
}

/// A line of `@nodes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node<'a> {
    pub text: &'a str,
    /// The byte of the file at which `text` begins.
    pub at: usize,
    pub line: usize,
}

impl<'a> Node<'a> {
    /// The first field.
    pub fn id(&self) -> &'a str {
        Fields::of(self.text).next().map_or("", |field| field.text)
    }
}

/// Where a line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    at: usize,
    line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Header,
    Tag,
    Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    /// Before the first section, or in one that is none of our business.
    Skipped,
    Meta,
    Nodes,
    Edges,
    Agents,
    Details,
    /// In `@details`, below the head of a text.
    Block,
}

/// The items of a graph; ends after the first flaw.
#[derive(Debug, Clone)]
pub(super) struct Items<'a> {
    text: &'a str,
    /// Where the next line begins.
    next: Position,
    expected: Expected,
    section: Section,
    nodes_seen: bool,
}

impl<'a> Items<'a> {
    pub fn of(text: &'a str) -> Self {
        Self {
            text,
            next: Position { at: 0, line: 1 },
            expected: Expected::Header,
            section: Section::Skipped,
            nodes_seen: false,
        }
    }

    /// The items of one phase's body (and of what follows it: the next [`Item::Phase`] is its end).
    pub fn of_body(text: &'a str, body: Position) -> Self {
        Self {
            next: body,
            expected: Expected::Body,
            ..Self::of(text)
        }
    }

    /// The nodes of one phase, from its first to its last, past everything that follows them.
    pub fn of_nodes(text: &'a str, first: Node<'a>, last: Node<'a>) -> Self {
        // From the line's begin: without its indent a `---` would be another thing.
        let begin = text[..first.at].rfind('\n').map_or(0, |end| end + 1);
        Self {
            next: Position {
                at: begin,
                line: first.line,
            },
            expected: Expected::Body,
            section: Section::Nodes,
            nodes_seen: true,
            ..Self::of(&text[..last.at + last.text.len()])
        }
    }

    /// The next line with where it begins; CRLF counts as one end of line, as in SCUD.
    fn line(&mut self) -> Option<(&'a str, Position)> {
        let begin = self.next;
        let rest = &self.text[begin.at..];
        if rest.is_empty() {
            return None;
        }
        let (line, length) = match rest.find('\n') {
            Some(end) => (&rest[..end], end + 1),
            None => (rest, rest.len()),
        };
        self.next = Position {
            at: begin.at + length,
            line: begin.line + 1,
        };
        Some((line.strip_suffix('\r').unwrap_or(line), begin))
    }

    fn header(&mut self, line: &str, number: usize) -> Result<(), Flaw> {
        // SCUD skips blank space between phases; a second separator there harms nobody.
        if line.trim().is_empty() || line == "---" {
            return Ok(());
        }
        if line.trim_start().starts_with("# SCUD Graph") {
            self.expected = Expected::Tag;
            return Ok(());
        }
        let what = if line.starts_with('\u{feff}') {
            "a byte order mark, which scud does not read".to_owned()
        } else {
            format!("expected `# SCUD Graph v1`, found {}", excerpt(line))
        };
        Err(Flaw { line: number, what })
    }

    fn tag(&mut self, line: &'a str, number: usize) -> Result<Item<'a>, Flaw> {
        let tag = line
            .strip_prefix("# Phase:")
            .or_else(|| line.strip_prefix("# Epic:"));
        let Some(tag) = tag else {
            let what = format!("expected `# Phase: <tag>`, found {}", excerpt(line));
            return Err(Flaw { line: number, what });
        };
        self.expected = Expected::Body;
        self.section = Section::Skipped;
        self.nodes_seen = false;
        Ok(Item::Phase {
            tag: tag.trim(),
            line: number,
            body: self.next,
        })
    }

    fn body(&mut self, line: &'a str, begin: Position) -> Result<Option<Item<'a>>, Flaw> {
        if line == "---" {
            self.expected = Expected::Header;
            return Ok(None);
        }
        // Before anything else: what is indented below a head is text, whatever it looks like. SCUD itself
        // looks for `@` first and loses the rest of such a text; here a task's text can never become a task.
        if self.section == Section::Block
            && let Some(text) = line.strip_prefix("  ")
        {
            return Ok(Some(Item::Text(text)));
        }
        let trimmed = trim(line);
        match trimmed.as_bytes().first() {
            // A paragraph's end; SCUD drops it, we only pass it on.
            None if self.section == Section::Block => return Ok(Some(Item::Text(""))),
            None | Some(b'#') => return Ok(None),
            Some(b'}') if trimmed.len() == 1 => return Ok(None),
            Some(b'@') => {
                self.section = section(trimmed);
                return Ok(None);
            }
            Some(_) => {}
        }
        match self.section {
            Section::Skipped => Ok(None),
            Section::Meta => self.meta(trimmed, begin.line),
            Section::Nodes => {
                self.nodes_seen = true;
                let indent = line.len() - line.trim_start().len();
                Ok(Some(Item::Node(Node {
                    text: trimmed,
                    at: begin.at + indent,
                    line: begin.line,
                })))
            }
            Section::Edges => Ok(Some(Item::Edge(trimmed))),
            Section::Agents => Ok(Some(Item::Agent(trimmed))),
            // A stray line between the lines of a text is skipped and the text goes on; SCUD would
            // lose what came before it.
            Section::Details | Section::Block => Ok(pair(trimmed).map(|(id, field)| {
                self.section = Section::Block;
                Item::Block { id, field }
            })),
        }
    }

    fn meta(&self, trimmed: &'a str, line: usize) -> Result<Option<Item<'a>>, Flaw> {
        let Some((key, value)) = trimmed.split_once(char::is_whitespace) else {
            return Ok(None);
        };
        match (key, value.trim()) {
            // SCUD never writes that, and reading it as SCUD does would rename tasks already read.
            ("name", _) if self.nodes_seen => Err(Flaw {
                line,
                what: "the phase's name comes after its nodes".to_owned(),
            }),
            ("name", name) => Ok(Some(Item::Name(name))),
            ("mode", "pipeline") => Ok(Some(Item::Pipeline)),
            _ => Ok(None),
        }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some((line, begin)) = self.line() {
            let read = match self.expected {
                Expected::Header => self.header(line, begin.line).map(|()| None),
                Expected::Tag => self.tag(line, begin.line).map(Some),
                Expected::Body => self.body(line, begin),
            };
            if read.is_err() {
                self.next.at = self.text.len();
                self.expected = Expected::Header;
            }
            if let Some(item) = read.transpose() {
                return Some(item);
            }
        }
        if self.expected == Expected::Tag {
            self.expected = Expected::Header;
            let line = self.next.line;
            let what = "expected `# Phase: <tag>`, found the end".to_owned();
            return Some(Err(Flaw { line, what }));
        }
        None
    }
}

fn section(header: &str) -> Section {
    match header {
        "@meta" | "@meta {" => Section::Meta,
        "@nodes" => Section::Nodes,
        "@edges" => Section::Edges,
        "@agents" => Section::Agents,
        "@details" => Section::Details,
        // SCUD takes the lines of a section it does not know for the section before; a newer SCUD's
        // rows below `@nodes` would become tasks.
        _ => Section::Skipped,
    }
}

/// `trim`, without decoding characters where there is nothing to trim; most lines are such.
fn trim(text: &str) -> &str {
    match text.as_bytes() {
        [b'!'..=b'~'] | [b'!'..=b'~', .., b'!'..=b'~'] => text,
        _ => text.trim(),
    }
}

/// The dependent and the dependency of a line of `@edges`; none where it relates tasks otherwise.
pub(super) fn edge(line: &str) -> Option<(&str, &str)> {
    let (dependent, dependency) = line.split_once("->")?;
    Some((dependent.trim(), dependency.trim()))
}

/// The first two fields of a line.
pub(super) fn pair(line: &str) -> Option<(&str, &str)> {
    let mut fields = Fields::of(line);
    Some((fields.next()?.text, fields.next()?.text))
}

/// What was found, short enough for a message and without control characters.
pub(super) fn excerpt(text: &str) -> String {
    /// A line of a graph can be megabytes.
    const LIMIT: usize = 40;
    let mut shown: String = text
        .chars()
        .take(LIMIT)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(LIMIT).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// A field of a `|` line, trimmed and still escaped, with its first byte's place in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub text: &'a str,
    pub at: usize,
}

/// The fields of a line: `|` ends one unless a backslash precedes it.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    rest: Option<&'a str>,
    at: usize,
}

impl<'a> Fields<'a> {
    pub fn of(line: &'a str) -> Self {
        Self {
            rest: Some(line),
            at: 0,
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let rest = self.rest.take()?;
        let bytes = rest.as_bytes();
        let mut end = 0;
        while end < bytes.len() && bytes[end] != b'|' {
            let escaped = bytes[end] == b'\\' && matches!(bytes.get(end + 1), Some(b'|' | b'\\'));
            end += if escaped { 2 } else { 1 };
        }
        let field = &rest[..end];
        let begin = self.at + field.len() - field.trim_start().len();
        if end < bytes.len() {
            self.rest = Some(&rest[end + 1..]);
            self.at += end + 1;
        }
        Some(Field {
            text: trim(field),
            at: begin,
        })
    }
}

/// A field as the user wrote it: `\|`, `\\` and `\n` resolved, any other backslash kept.
pub(super) fn unescape(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let meant = match after.as_bytes().first() {
            Some(b'\\') => Some('\\'),
            Some(b'|') => Some('|'),
            Some(b'n') => Some('\n'),
            _ => None,
        };
        text.push(meant.unwrap_or('\\'));
        rest = &after[usize::from(meant.is_some())..];
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests;
