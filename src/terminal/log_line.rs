//! Parses a line of a worker's readable log: `   0.021s  INFO found: Build the house`.

/// The level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// Every level, its label in a log line, and its word in JSON.
    const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::Error, "ERROR", "error"),
        (Self::Warn, "WARN", "warn"),
        (Self::Info, "INFO", "info"),
        (Self::Debug, "DEBUG", "debug"),
        (Self::Trace, "TRACE", "trace"),
    ];

    /// The label in a log line.
    pub fn label(self) -> &'static str {
        let (_, label, _) = self.row();
        label
    }

    /// The word in JSON.
    pub fn word(self) -> &'static str {
        let (_, _, word) = self.row();
        word
    }

    fn row(self) -> &'static (Self, &'static str, &'static str) {
        Self::ALL
            .iter()
            .find(|(level, ..)| *level == self)
            .expect("ALL lists every level")
    }
}

/// The level and the text of a line. A line without a time and a level (an error before the log begins, for example)
/// has only a text.
pub fn parse(line: &str) -> (Option<Level>, &str) {
    let parsed = || {
        let (time, rest) = line.trim_start().split_once("s ")?;
        let is_time = !time.is_empty() && time.chars().all(|c| c.is_ascii_digit() || c == '.');
        let (label, text) = rest.trim_start().split_once(' ')?;
        let mut rows = Level::ALL.iter();
        let (level, ..) = rows.find(|(_, known, _)| *known == label)?;
        is_time.then_some((Some(*level), text))
    };
    parsed().unwrap_or((None, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_has_a_level_and_a_text() {
        assert_eq!(
            parse("   0.021s  INFO found:  a house task=\"2\""),
            (Some(Level::Info), "found:  a house task=\"2\"")
        );
        assert_eq!(
            parse("12345.678s ERROR failed"),
            (Some(Level::Error), "failed")
        );
    }

    #[test]
    fn a_line_without_time_or_level_has_only_a_text() {
        for line in [
            "",
            "1 setting is invalid",
            "  DESCARTES_REPAIRS: \"many\" is not a number",
            "0.1s SHOUT text",
            "s INFO text",
            "agents INFO text",
        ] {
            assert_eq!(parse(line), (None, line));
        }
    }
}
