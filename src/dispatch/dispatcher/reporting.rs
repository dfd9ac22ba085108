//! The contents of a report about a running dispatch.

use super::fields::Dispatcher;
use crate::dispatch::report::{Contents, DispatchStatus};
use crate::dispatch::standing::{Standing, standings};

impl Dispatcher<'_> {
    /// The current contents of a report. `standings` has the standings of all tasks.
    pub fn report_contents<'a>(
        &'a self,
        standings: &'a [Standing],
        status: &'a DispatchStatus,
    ) -> Contents<'a> {
        Contents {
            state: &self.journaled.state,
            graph: &self.graph,
            standings,
            tip: &self.tip,
            project: &self.shared_settings.project_id,
            runs_dir: self.engines.runs_dir(),
            redactor: self.show.screen.redactor(),
            status,
        }
    }

    /// The current standings of all tasks.
    pub fn standings(&self) -> Vec<Standing> {
        standings(&self.journaled.state, &self.graph, &self.policy)
    }
}
