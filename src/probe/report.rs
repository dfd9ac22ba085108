//! The verdicts, printed as lines or as JSON.

use std::io::{self, Write};

use reqwest::Url;
use serde::Serialize;
use serde_json::json;

use crate::http::errors::without_query;
use crate::redact::Redactor;
use crate::terminal::{Format, print_object};

/// Whether the orchestrator keeps a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleVerdict {
    Kept,
    /// Workers accept the answer, but another one would be better.
    Advice,
    Broken,
    /// The rule could not be tried.
    NotTried,
}

impl RuleVerdict {
    fn word(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Advice => "advice",
            Self::Broken => "BROKEN",
            Self::NotTried => "-",
        }
    }
}

/// A rule, and the verdict about it.
#[derive(Debug, Serialize)]
struct Finding {
    /// A section of docs/protocol.md.
    section: &'static str,
    rule: &'static str,
    verdict: RuleVerdict,
    /// The answer, and the expected answer; empty if the verdict needs no explanation.
    message: String,
}

/// The verdicts about one orchestrator.
#[derive(Debug)]
pub struct Report {
    /// The callback URL without its query, which may contain a token.
    url: Url,
    format: Format,
    redactor: Redactor,
    findings: Vec<Finding>,
    /// The first error of writing to standard output; [`Report::finish`] returns it.
    write_result: io::Result<()>,
}

impl Report {
    /// An empty report about the orchestrator with this callback URL.
    pub fn new(url: &Url, format: Format, redactor: Redactor) -> Self {
        Self {
            url: without_query(url),
            format,
            redactor,
            findings: Vec::new(),
            write_result: Ok(()),
        }
    }

    /// Adds a finding. Without JSON, it is printed at once.
    pub fn add(
        &mut self,
        section: &'static str,
        rule: &'static str,
        verdict: RuleVerdict,
        message: String,
    ) {
        let finding = Finding {
            section,
            rule,
            verdict,
            message,
        };
        if self.format == Format::Lines {
            let word = finding.verdict.word();
            let colon = if finding.message.is_empty() { "" } else { ": " };
            let line = format!("{word:<6}  {section}: {rule}{colon}{}\n", finding.message);
            self.write(&line);
        }
        self.findings.push(finding);
    }

    /// Asks the user at the terminal to do something. With JSON, the request goes to the log.
    pub fn ask(&mut self, request: &str) {
        match self.format {
            Format::Lines => self.write(&format!("?       {request}\n")),
            Format::Json => tracing::info!("{request}"),
        }
    }

    /// Whether a rule is broken.
    pub fn has_broken(&self) -> bool {
        self.count(RuleVerdict::Broken) > 0
    }

    /// Prints the last line of the report or, as JSON, the whole report.
    ///
    /// # Errors
    /// If standard output could not be written, now or before.
    pub fn finish(&mut self) -> io::Result<()> {
        let counts = [
            RuleVerdict::Kept,
            RuleVerdict::Advice,
            RuleVerdict::Broken,
            RuleVerdict::NotTried,
        ]
        .map(|verdict| self.count(verdict));
        match self.format {
            Format::Lines => {
                let [kept, advice, broken, not_tried] = counts;
                let text = format!(
                    "{}: {kept} rules kept, {advice} could be better, {broken} broken, {not_tried} not tried\n",
                    self.url
                );
                self.write(&text);
            }
            Format::Json => {
                let report = json!({ "url": self.url.as_str(), "findings": self.findings });
                self.write_result = print_object("probe", report, &self.redactor);
            }
        }
        match std::mem::replace(&mut self.write_result, Ok(())) {
            // The reader of standard output has ended, for example `head`. The exit code still tells the result.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }

    fn count(&self, verdict: RuleVerdict) -> usize {
        let findings = self.findings.iter();
        findings
            .filter(|finding| finding.verdict == verdict)
            .count()
    }

    /// Prints a text without secrets.
    fn write(&mut self, text: &str) {
        if self.write_result.is_ok() {
            let text = self.redactor.mask(text);
            let mut stdout = io::stdout().lock();
            self.write_result = stdout
                .write_all(text.as_bytes())
                .and_then(|()| stdout.flush());
        }
    }
}
