//! What an event leaves out where it is too large, for the protocol or for the receiver.

use super::{Event, Outgoing, cut};

/// The most that one body may be, in bytes.
pub(super) const BODY: usize = 256 * 1024;
/// The most of a check's command where a body is too large, in characters: enough to know it by.
const SHORT: usize = 80;

impl Event {
    /// The same event without the patch and the tails; `None` where it had none.
    pub(in super::super) fn without_bulk(&self) -> Option<Self> {
        let mut smaller = self.clone();
        let result = smaller.result.as_mut()?;
        result.has_bulk().then(|| result.shed_bulk())?;
        Some(smaller)
    }

    /// Leaves out what makes the body too large, the least telling first: one byte of output may
    /// be six of JSON.
    pub(super) fn fit(&mut self) {
        for shed in [
            Outgoing::shed_passed_checks,
            Outgoing::shed_patch,
            Outgoing::shed_bulk,
            Outgoing::shed_texts,
        ] {
            if self.body().len() <= BODY {
                return;
            }
            self.result.as_deref_mut().map(shed);
        }
    }
}

impl Outgoing {
    fn has_bulk(&self) -> bool {
        let tails = self.checks.iter().map(|check| &check.output_tail);
        let mut bulk = tails.chain([&self.output.head, &self.output.tail]);
        let patch = self.work.as_ref().is_some_and(|work| work.patch.is_some());
        patch || bulk.any(|text| !text.is_empty())
    }

    /// What a check says that holds is the last thing that anybody will read.
    fn shed_passed_checks(&mut self) {
        for check in &mut self.checks {
            if check.exit_code == Some(0) {
                check.output_tail.clear();
            }
        }
    }

    fn shed_texts(&mut self) {
        self.summary = None;
        for check in &mut self.checks {
            check.command = cut(&check.command, SHORT);
        }
    }

    /// It does not apply once it is cut, and it is the largest part.
    fn shed_patch(&mut self) {
        if let Some(work) = &mut self.work {
            work.patch_truncated |= work.patch.take().is_some();
        }
    }

    fn shed_bulk(&mut self) {
        self.shed_patch();
        for check in &mut self.checks {
            check.output_tail.clear();
        }
        self.output.dropped_bytes = self.output.total_bytes;
        self.output.head.clear();
        self.output.tail.clear();
    }
}
