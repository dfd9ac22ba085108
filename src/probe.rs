//! `probe`: checks whether an orchestrator keeps the rules of docs/protocol.md.
//!
//! Sends events of workers that do not exist: valid events, and invalid ones (a wrong signature, an old timestamp, a
//! smaller sequence number). Prints a verdict about each rule on standard output, which a worker reserves for its
//! result line: `probe` starts no worker.

mod expected;
mod report;
mod rule_tester;
mod rules;
mod sample;
mod sender;
mod settings;
mod waiting_rules;

use std::io;

use crate::callback::SetupError;
use crate::redact::Redactor;
use report::Report;
use sender::Sender;
pub use settings::{Leases, Settings, Tasks};

/// The result, for the exit code of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeResult {
    AllKept,
    SomeBroken,
    /// The first claim had no answer, so no rule was tried.
    Unreachable,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error("the report cannot be written to standard output")]
    Output(#[source] io::Error),
}

/// Tries all rules. Prints each verdict at once as a line, or all verdicts at the end as JSON.
pub async fn run(settings: Settings, redactor: &Redactor) -> Result<ProbeResult, ProbeError> {
    let sender = Sender::new(&settings.callback)?;
    let mut report = Report::new(&settings.callback.url, settings.format, redactor.clone());
    let first_claim = rules::try_all(&settings, &sender, &mut report).await;
    report.finish().map_err(ProbeError::Output)?;
    Ok(match (first_claim, report.has_broken()) {
        (rules::FirstClaim::Unanswered, _) => ProbeResult::Unreachable,
        (rules::FirstClaim::Answered, true) => ProbeResult::SomeBroken,
        (rules::FirstClaim::Answered, false) => ProbeResult::AllKept,
    })
}
