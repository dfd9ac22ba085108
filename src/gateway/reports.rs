//! Writes the gateway's reports to the worker.
//! Requests must not wait until the worker reads the reports. So new totals replace older totals that have not been
//! written, and reports about requests are dropped while too many reports wait.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use super::wire::{Report, Totals};

/// If this many reports wait to be written, new reports about requests are dropped.
const MAX_WAITING_REPORTS: usize = 256;

/// The reports that are not written yet.
#[derive(Debug, Default)]
pub struct Reports {
    /// The JSON texts of the reports, without the totals.
    waiting: RefCell<VecDeque<String>>,
    /// The latest totals, if they are not written yet.
    totals: Cell<Option<Totals>>,
    /// Is notified when a report or totals were added.
    changed: Notify,
}

impl Reports {
    /// Adds a report to those that wait.
    pub fn add(&self, report: &Report) {
        let mut waiting = self.waiting.borrow_mut();
        let is_droppable = matches!(report, Report::Request(_));
        if is_droppable && waiting.len() >= MAX_WAITING_REPORTS {
            return;
        }
        // This never fails: numbers and strings can always be written as JSON.
        waiting.extend(serde_json::to_string(report).ok());
        self.changed.notify_one();
    }

    /// Replaces the totals that wait.
    pub fn set_totals(&self, totals: Totals) {
        self.totals.set(Some(totals));
        self.changed.notify_one();
    }

    /// Writes reports until the worker closes the pipe.
    pub async fn write_to(&self, mut worker: impl AsyncWrite + Unpin) {
        loop {
            self.changed.notified().await;
            if self.flush_to(&mut worker).await.is_err() {
                return;
            }
        }
    }

    /// Writes all waiting reports.
    ///
    /// # Errors
    /// If the worker has closed the pipe.
    pub async fn flush_to(&self, worker: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        loop {
            let totals = self.totals.take().map(Report::Totals);
            let totals = totals.and_then(|totals| serde_json::to_string(&totals).ok());
            let next = totals.or_else(|| self.waiting.borrow_mut().pop_front());
            let Some(mut line) = next else {
                return Ok(());
            };
            line.push('\n');
            worker.write_all(line.as_bytes()).await?;
        }
    }
}
