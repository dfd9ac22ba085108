//! What a report says about a dispatch that runs.

use super::fields::Dispatcher;
use crate::dispatch::report::{Contents, End};
use crate::dispatch::standing::{Standing, standings};

impl Dispatcher<'_> {
    /// What a report says now, with standings that are known already.
    pub fn contents_with<'a>(&'a self, standings: &'a [Standing], end: &'a End) -> Contents<'a> {
        Contents {
            state: &self.journaled.state,
            graph: &self.graph,
            standings,
            tip: &self.tip,
            project: &self.shared_settings.project_id,
            runs: self.engine.dir(),
            redactor: self.show.screen.redactor(),
            end,
        }
    }

    /// The present standings of all tasks.
    pub fn standings(&self) -> Vec<Standing> {
        standings(&self.journaled.state, &self.graph, &self.policy)
    }
}
