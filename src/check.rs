//! `check`: prints whether everything is there that a run would need.
//!
//! Prints on standard output, which a worker reserves for its result line: `check` starts no worker.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use crate::redact::Redactor;
use crate::runner;
use crate::runner::preflight::{Finding, preflight};
use crate::shutdown::Stop;
use crate::terminal::{Format, print_object};

/// What to check, and how to print it.
#[derive(Debug)]
pub struct Settings {
    pub runner: runner::Settings,
    pub stop_window: Duration,
    pub format: Format,
}

/// One finding, as it is printed.
#[derive(Debug, Serialize)]
struct Line {
    subject: &'static str,
    ok: bool,
    /// The facts if all is well, otherwise the problem.
    message: String,
}

#[derive(Debug, Serialize)]
struct Report {
    ready: bool,
    findings: Vec<Line>,
}

/// Checks everything and prints the findings; returns whether a run could start.
pub async fn run(settings: &Settings, redactor: &Redactor) -> io::Result<bool> {
    let stop = Stop::on_signals(settings.stop_window)?;
    let findings = preflight(&settings.runner, redactor, &stop).await;
    let mut lines = vec![Line {
        subject: "settings",
        ok: true,
        message: "valid".to_owned(),
    }];
    lines.extend(findings.into_iter().map(Line::of));
    Ok(print(lines, settings.format, redactor))
}

/// Prints that the settings are invalid, as JSON: `check --json` must not leave standard output empty.
pub fn print_invalid_settings(problems: impl Iterator<Item = String>) {
    let lines = problems.map(|message| Line {
        subject: "settings",
        ok: false,
        message,
    });
    // The problems are redacted already.
    print(lines.collect(), Format::Json, &Redactor::new(&[]));
}

impl Line {
    fn of(finding: Finding) -> Self {
        let (ok, message) = match finding.result {
            Ok(message) => (true, message),
            Err(failure) => (false, failure.sentence()),
        };
        Self {
            subject: finding.subject,
            ok,
            message,
        }
    }
}

fn print(mut lines: Vec<Line>, format: Format, redactor: &Redactor) -> bool {
    for line in &mut lines {
        line.message = redactor.text(&line.message);
    }
    let ready = lines.iter().all(|line| line.ok);
    match format {
        Format::Lines => {
            let mut text = String::new();
            for Line {
                subject,
                ok,
                message,
            } in &lines
            {
                let state = if *ok { "ok     " } else { "MISSING" };
                // Writing to a string does not fail.
                let _ = writeln!(text, "{state} {subject}: {message}");
            }
            // If standard output is closed, the exit code still tells the result.
            let _ = io::stdout().lock().write_all(text.as_bytes());
        }
        Format::Json => {
            let report = Report {
                ready,
                findings: lines,
            };
            // The same.
            let _ = print_object("check", report, redactor);
        }
    }
    ready
}
