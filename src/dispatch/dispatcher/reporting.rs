//! The contents of a report about a running dispatch.

use super::fields::Dispatcher;
use crate::dispatch::report::{Contents, End};
use crate::dispatch::standing::{Standing, standings};

impl Dispatcher<'_> {
    /// The contents of a report now. `standings` has the standings of all tasks.
    pub fn contents_with<'a>(&'a self, standings: &'a [Standing], end: &'a End) -> Contents<'a> {
        Contents {
            state: &self.journaled.state,
            graph: &self.graph,
            standings,
            tip: &self.tip,
            project: &self.shared_settings.project_id,
            runs: self.engine.runs_dir(),
            redactor: self.show.screen.redactor(),
            end,
        }
    }

    /// The current standings of all tasks.
    pub fn standings(&self) -> Vec<Standing> {
        standings(&self.journaled.state, &self.graph, &self.policy)
    }
}
