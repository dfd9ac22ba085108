//! `check`: prints whether everything that a run needs is present.
//!
//! Prints on standard output, which a worker reserves for its result line: `check` starts no worker.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use crate::descartes_toml::FILE_NAME;
use crate::excerpt::visible;
use crate::redact::Redactor;
use crate::runner;
use crate::runner::preflight::{Finding, PreflightReport, preflight};
use crate::runner::project_settings::FileSource;
use crate::shutdown::Stop;
use crate::telemetry::{self, ask_collectors};
use crate::terminal::{Format, print_object};

/// What to check, and how to print it.
#[derive(Debug)]
pub struct Settings {
    pub runner: runner::Settings,
    pub stop_window: Duration,
    pub telemetry: telemetry::Settings,
    pub format: Format,
    /// Where the value of each setting comes from, before the project's `.descartes.toml` is applied.
    pub origins: Vec<SettingOrigin>,
}

/// Where the value of a setting comes from.
#[derive(Debug, Serialize)]
pub struct SettingOrigin {
    /// The name of the variable.
    pub name: &'static str,
    /// `None` if the setting has no value, or is a secret.
    pub value: Option<String>,
    pub source: SettingSource,
    /// The flag, the variable, or the file and the line; `None` for a default.
    pub from: Option<String>,
}

/// The kind of place that a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingSource {
    Flag,
    Variable,
    File,
    Default,
}

/// A finding, which is one line of the output.
#[derive(Debug, Serialize)]
struct Line {
    subject: &'static str,
    ok: bool,
    /// The facts if `ok` is true, otherwise the problem.
    message: String,
}

/// The output of `check`.
#[derive(Debug, Serialize)]
struct Report {
    ready: bool,
    findings: Vec<Line>,
    /// Empty if a setting is invalid.
    settings: Vec<SettingOrigin>,
}

/// Checks everything and prints the findings; returns whether a run could start.
pub async fn run(settings: Settings, redactor: &Redactor) -> io::Result<bool> {
    let stop = Stop::on_signals(settings.stop_window)?;
    let PreflightReport {
        findings,
        project_settings,
    } = preflight(&settings.runner, redactor, &stop).await;
    let mut origins = settings.origins;
    for FileSource {
        variable,
        value,
        line,
    } in project_settings
        .iter()
        .flat_map(|settings| &settings.sources)
    {
        if let Some(origin) = origins.iter_mut().find(|origin| origin.name == *variable) {
            origin.value = Some(value.clone());
            origin.source = SettingSource::File;
            origin.from = Some(format!("{FILE_NAME}, line {line}"));
        }
    }
    let mut lines = vec![Line {
        subject: "settings",
        ok: true,
        message: "valid".to_owned(),
    }];
    lines.extend(findings.into_iter().map(Line::of));
    // A collector that does not answer does not prevent a run, so its line is only printed.
    let collectors = ask_collectors(&settings.telemetry, redactor, &stop).await;
    lines.extend(collectors.into_iter().map(|answer| Line {
        subject: answer.subject,
        ok: true,
        message: answer.sentence,
    }));
    let report = Report::new(lines, origins);
    Ok(report.print(settings.format, redactor))
}

/// Prints as JSON that the settings are invalid, because `check --json` must not leave standard output empty.
pub fn print_invalid_settings(problems: impl Iterator<Item = String>) {
    let lines = problems.map(|message| Line {
        subject: "settings",
        ok: false,
        message,
    });
    // The secrets in the problems are masked already.
    Report::new(lines.collect(), Vec::new()).print(Format::Json, &Redactor::new(&[]));
}

impl Line {
    fn of(finding: Finding) -> Self {
        let (ok, message) = match finding.result {
            Ok(message) => (true, message),
            Err(failure) => (false, failure.message_with_causes()),
        };
        Self {
            subject: finding.subject,
            ok,
            message,
        }
    }
}

impl Report {
    fn new(findings: Vec<Line>, settings: Vec<SettingOrigin>) -> Self {
        Self {
            ready: findings.iter().all(|line| line.ok),
            findings,
            settings,
        }
    }

    /// Prints the report without secrets; returns whether a run could start.
    fn print(self, format: Format, redactor: &Redactor) -> bool {
        let ready = self.ready;
        // If standard output is closed, the exit code still tells the result.
        let _ = match format {
            Format::Lines => {
                let text = self.masked(redactor).text();
                io::stdout().lock().write_all(text.as_bytes())
            }
            Format::Json => print_object("check", self, redactor),
        };
        ready
    }

    /// Masks each value before it is quoted: a quoted secret would look different.
    fn masked(mut self, redactor: &Redactor) -> Self {
        for line in &mut self.findings {
            line.message = redactor.mask(&line.message);
        }
        let values = self.settings.iter_mut();
        for value in values.filter_map(|origin| origin.value.as_mut()) {
            *value = redactor.mask(value);
        }
        self
    }

    /// The report as text: the settings, then the findings, so that the problems come last.
    fn text(&self) -> String {
        let mut text = String::new();
        for SettingOrigin {
            name, value, from, ..
        } in &self.settings
        {
            let Some(from) = from else { continue };
            let value = value
                .as_deref()
                .map_or("(not shown)".to_owned(), |value| format!("{value:?}"));
            let _ = writeln!(text, "set     {name} = {value}, by {from}");
        }
        if !self.settings.is_empty() {
            let _ = writeln!(text, "default every other setting; --json lists them");
        }
        for Line {
            subject,
            ok,
            message,
        } in &self.findings
        {
            // `MISSING` also stands before things that are present but wrong; the message says which.
            let state = if *ok { "ok     " } else { "MISSING" };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{state} {subject}: {}", visible(message));
        }
        text
    }
}
