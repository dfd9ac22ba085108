//! The fields of one line of a graph, which `|` separates.

/// A field of a line with `|`: trimmed and still escaped, with its offset in the line in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub text: &'a str,
    pub offset: usize,
}

/// The fields of a line: `|` ends a field unless a backslash precedes it.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    rest: Option<&'a str>,
    /// The offset of `rest` in the line, in bytes.
    offset: usize,
}

impl<'a> Fields<'a> {
    /// The fields of `line`.
    pub fn of(line: &'a str) -> Self {
        Self {
            rest: Some(line),
            offset: 0,
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
        let begin = self.offset + field.len() - field.trim_start().len();
        if end < bytes.len() {
            self.rest = Some(&rest[end + 1..]);
            self.offset += end + 1;
        }
        Some(Field {
            text: trim(field),
            offset: begin,
        })
    }
}

/// The text of a field: `\|`, `\\` and `\n` are replaced, any other backslash stays.
pub(super) fn unescape(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let unescaped = match after.as_bytes().first() {
            Some(b'\\') => Some('\\'),
            Some(b'|') => Some('|'),
            Some(b'n') => Some('\n'),
            _ => None,
        };
        text.push(unescaped.unwrap_or('\\'));
        rest = &after[usize::from(unescaped.is_some())..];
    }
    text.push_str(rest);
    text
}

/// The first two fields of a line; `None` if it has only one.
pub(super) fn first_two_fields(line: &str) -> Option<(&str, &str)> {
    let mut fields = Fields::of(line);
    Some((fields.next()?.text, fields.next()?.text))
}

/// `str::trim`, but faster for ASCII text without white space around it, as most lines are.
pub(super) fn trim(text: &str) -> &str {
    match text.as_bytes() {
        [b'!'..=b'~'] | [b'!'..=b'~', .., b'!'..=b'~'] => text,
        _ => text.trim(),
    }
}

#[cfg(test)]
mod tests;
