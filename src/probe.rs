//! `probe`: checks whether an orchestrator keeps the rules of docs/protocol.md. Sends sample events of workers
//! that do not exist.
//! Sends valid events, and invalid ones (a wrong signature, an old timestamp, a smaller sequence number), and prints a
//! verdict about each rule. Only this command writes to standard output.

mod report;
mod rules;
mod sample;
mod sender;
mod settings;

use std::io;

use crate::callback::SetupError;
use crate::redact::Redactor;
use report::Report;
use sender::Sender;
pub use settings::{Leases, Settings, Tasks};

/// The result, for the exit code of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
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

/// Probes all rules, and prints the verdicts as they come, or at the end as JSON.
pub async fn run(settings: Settings, redactor: &Redactor) -> Result<Probed, ProbeError> {
    let sender = Sender::new(&settings.callback)?;
    let mut report = Report::new(settings.callback.url.clone(), settings.format);
    let reached = rules::probe(&settings, &sender, &mut report).await;
    report.finish(redactor).map_err(ProbeError::Output)?;
    Ok(match (reached, report.has_broken()) {
        (rules::Reached::No, _) => Probed::Unreachable,
        (rules::Reached::Yes, true) => Probed::SomeBroken,
        (rules::Reached::Yes, false) => Probed::AllKept,
    })
}
