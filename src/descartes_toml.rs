//! The syntax of `.descartes.toml`, the file with a project's own settings.
//!
//! Knows no settings: `config` decides which keys there are, and `dispatch` reads the tables `[[needs]]`.

use toml::de::{DeString, DeTable, DeValue};

/// The name of the file, which is in the project's root.
pub const FILE_NAME: &str = ".descartes.toml";
/// Larger files are rejected, in bytes. So any command line in the file fits into one argument of a process.
pub const MAX_FILE_SIZE: u64 = 64 << 10;
/// The key of the tables that say which memory, processors, image or engine tasks need.
pub const NEEDS_KEY: &str = "needs";

/// One key at the top level of the file, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    /// The line of the key, counted from 1.
    pub line: usize,
    pub value: Value,
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    /// A number, as the file writes it.
    Number(String),
    Texts(Vec<String>),
    /// A value that no setting can have.
    Other,
}

/// Reads all keys at the top level of the file, in their order, without the tables `[[needs]]`.
///
/// # Errors
/// A sentence about the first syntax error, with its line.
pub fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let table = DeTable::parse(text).map_err(|error| {
        let begin = error.span().map_or(0, |span| span.start);
        let line = LineCounter::new(text).line_of(begin);
        format!("line {line}: {}", error.message())
    })?;
    let mut keys: Vec<_> = table
        .get_ref()
        .iter()
        .filter(|(key, _)| key.get_ref() != NEEDS_KEY)
        .collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    let mut lines = LineCounter::new(text);
    let entry = |(key, value): (&toml::Spanned<DeString<'_>>, &toml::Spanned<DeValue<'_>>)| Entry {
        key: key.get_ref().to_string(),
        line: lines.line_of(key.span().start),
        value: Value::of(value.get_ref()),
    };
    Ok(keys.into_iter().map(entry).collect())
}

impl Value {
    fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(number) => Self::Number(number.to_string()),
            DeValue::Float(number) => Self::Number(number.to_string()),
            DeValue::Array(values) => {
                let texts = values.iter().map(|value| match value.get_ref() {
                    DeValue::String(text) => Some(text.to_string()),
                    _ => None,
                });
                texts
                    .collect::<Option<_>>()
                    .map_or(Self::Other, Self::Texts)
            }
            _ => Self::Other,
        }
    }
}

/// Converts ascending byte positions into line numbers. Counts each byte only once.
struct LineCounter<'a> {
    text: &'a str,
    position: usize,
    line: usize,
}

impl<'a> LineCounter<'a> {
    fn new(text: &'a str) -> Self {
        let (position, line) = (0, 1);
        Self {
            text,
            position,
            line,
        }
    }

    /// The line of a position, counted from 1. The position must not be before that of the previous call.
    fn line_of(&mut self, position: usize) -> usize {
        let passed = self.text.get(self.position..position).unwrap_or_default();
        self.line += passed.matches('\n').count();
        self.position = self.position.max(position);
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_lines_and_values_and_needs_are_left_out() {
        let text = "# a comment\nmodel = \"opus\"\n\nmax_budget_usd = 2.50\nchecks = [\n  \"a\",\n  \"b\",\n]\n\
            repairs = 1_0\nagent = true\nmixed = [1, \"a\"]\n[[needs]]\ncpus = 2\n";
        let entry = |key: &str, line, value| Entry {
            key: key.to_owned(),
            line,
            value,
        };
        let texts = ["a", "b"].map(str::to_owned).to_vec();
        assert_eq!(
            parse(text).unwrap(),
            [
                entry("model", 2, Value::Text("opus".to_owned())),
                entry("max_budget_usd", 4, Value::Number("2.50".to_owned())),
                entry("checks", 5, Value::Texts(texts)),
                entry("repairs", 9, Value::Number("10".to_owned())),
                entry("agent", 10, Value::Other),
                entry("mixed", 11, Value::Other),
            ]
        );
    }

    #[test]
    fn a_syntax_error_has_its_line() {
        for (text, line) in [
            ("model = \"opus\"\nchecks = [\n", "line 2: "),
            ("a = 1\na = 2\n", "line 2: "),
            ("x", "line 1: "),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(line), "{text}: {error}");
        }
    }
}
