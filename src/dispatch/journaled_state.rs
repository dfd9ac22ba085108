//! The journal together with the state that follows from it.

use std::io::{self, Write};
use std::path::Path;

use jiff::Timestamp;

use super::journal::{Entry, Journal, Record};
use super::state::{Millis, State};
use crate::terminal::Format;

/// The time now.
pub fn now() -> Millis {
    Timestamp::now().as_millisecond()
}

/// The open journal and the state that follows from it.
#[derive(Debug)]
pub struct JournaledState {
    /// `None` only during a write.
    journal: Option<Journal>,
    pub state: State,
    format: Format,
}

impl JournaledState {
    pub fn open(dir: &Path, format: Format) -> eyre::Result<Self> {
        let (journal, records) = Journal::open(dir)?;
        Ok(Self {
            journal: Some(journal),
            state: State::of(&records),
            format,
        })
    }

    /// Applies an entry to the state. The caller must write the record before it acts on the new state.
    pub fn apply(&mut self, entry: Entry) -> Record {
        let record = Record { at: now(), entry };
        self.state.apply(&record);
        record
    }

    /// Writes records; they are on disk when this returns.
    pub async fn write(&mut self, records: Vec<Record>) -> eyre::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut journal = self.journal.take().expect("one write at a time");
        let written = tokio::task::spawn_blocking(move || {
            let written = journal.append(&records);
            (journal, records, written)
        });
        let (journal, records, written) = written.await?;
        self.journal = Some(journal);
        if self.format == Format::Json {
            let mut stdout = io::stdout().lock();
            for record in &records {
                let _ = writeln!(stdout, "{}", serde_json::to_string(record)?);
            }
        }
        written
    }

    /// Applies and writes one entry.
    pub async fn record(&mut self, entry: Entry) -> eyre::Result<()> {
        let record = self.apply(entry);
        self.write(vec![record]).await
    }
}
