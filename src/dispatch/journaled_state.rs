//! The journal together with the state that follows from it.

use std::path::Path;

use super::journal::{Entry, Journal, Record};
use super::state::State;
use crate::clock::now;
use crate::terminal::JsonLines;

/// The open journal and the state that follows from it.
#[derive(Debug)]
pub struct JournaledState {
    /// `None` only during a write, which a blocking thread does.
    journal: Option<Journal>,
    pub state: State,
    /// With `--json`, prints every record.
    json: JsonLines,
}

impl JournaledState {
    /// Opens the journal in a directory, and computes the state.
    pub fn open(dir: &Path, json: JsonLines) -> eyre::Result<Self> {
        let (journal, records) = Journal::open(dir)?;
        Ok(Self {
            journal: Some(journal),
            state: State::of(&records),
            json,
        })
    }

    /// Applies an entry to the state. The caller must write the record before it acts on the new state.
    pub fn apply(&mut self, entry: Entry) -> Record {
        let record = Record { at: now(), entry };
        self.state.apply(&record);
        record
    }

    /// Writes records; they are on disk when this returns. Then prints them with `--json`.
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
        for record in &records {
            self.json.write("journal", record);
        }
        written
    }

    /// Waits until all records are printed (`--json`).
    pub async fn close(&self) {
        self.json.close().await;
    }

    /// Applies an entry to the state, and writes its record.
    pub async fn record(&mut self, entry: Entry) -> eyre::Result<()> {
        let record = self.apply(entry);
        self.write(vec![record]).await
    }
}
