//! Starts runs. The intent of each run is on disk before its start.

use super::fields::Dispatcher;
use crate::dispatch::engine::StartFailure;
use crate::dispatch::journal::{Entry, Handle};
use crate::dispatch::start::worker_spec;

impl Dispatcher<'_> {
    /// Writes the intents to the journal, then starts their runs.
    pub(super) async fn record_and_start(&mut self, intents: Vec<Entry>) -> eyre::Result<()> {
        let mut runs = Vec::new();
        let mut records = Vec::new();
        for entry in intents {
            if let Entry::Intent { run, .. } = &entry {
                runs.push(run.clone());
            }
            records.push(self.journaled.apply(entry));
        }
        self.journaled.write(records).await?;
        self.start(runs).await
    }

    /// Starts runs. Their intents must be on disk.
    pub(super) async fn start(&mut self, runs: Vec<String>) -> eyre::Result<()> {
        let mut results = Vec::new();
        for id in runs {
            let Some(run) = self.journaled.state.run(&id) else {
                continue;
            };
            let needs = run.task.as_ref().and_then(|key| self.policy.needs.get(key));
            let spec = worker_spec(
                &self.shared_settings,
                &self.settings.worker,
                run,
                needs.cloned().unwrap_or_default(),
                self.secret.of_run(&id),
                self.spans.begin_run(run),
            );
            // Engines that answer later send an event.
            let started = self.engine.start(&id, spec);
            self.show.started(run, &self.graph);
            results.extend(started.map(|started| (id, started)));
        }
        self.record_starts(results).await
    }

    /// Writes the results of starts to the journal.
    pub(super) async fn record_starts(
        &mut self,
        results: Vec<(String, Result<Handle, StartFailure>)>,
    ) -> eyre::Result<()> {
        let (mut records, mut failed) = (Vec::new(), Vec::new());
        for (run, started) in results {
            if let Err(failure) = &started {
                failed.push((run.clone(), failure.clone()));
            }
            records.push(self.journaled.apply(start_entry(run, started)));
        }
        self.journaled.write(records).await?;
        for (run, failure) in failed {
            self.show
                .say(&format!("{run}: not started: {}", failure.why()));
            self.after_failed_start(&run, &failure).await?;
        }
        Ok(())
    }

    /// Starts the runs that have waited for room in the engine that their tasks need.
    pub(super) async fn start_waiting(&mut self) -> eyre::Result<()> {
        let results = self.engine.start_waiting();
        self.record_starts(results).await
    }
}

/// The entry for the result of a start.
fn start_entry(run: String, started: Result<Handle, StartFailure>) -> Entry {
    match started {
        Ok(handle) => Entry::Handle { run, handle },
        Err(failure) => Entry::NotStarted {
            run,
            why: format!("it could not be started: {}", failure.why()),
            is_refused: matches!(failure, StartFailure::Refused(_)),
        },
    }
}
