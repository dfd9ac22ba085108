//! Starts runs. The journal entry `intent` of each run is on disk before its start.

use super::fields::Dispatcher;
use crate::dispatch::engine::{RunSpec, StartFailure};
use crate::dispatch::journal::{Entry, Handle, Record};
use crate::dispatch::worker_environment::worker_spec;

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
        self.write_and_start(records, runs).await
    }

    /// Starts runs. Their intents must be on disk already.
    pub(super) async fn start(&mut self, runs: Vec<String>) -> eyre::Result<()> {
        self.write_and_start(Vec::new(), runs).await
    }

    /// Writes records to the journal, then starts runs.
    async fn write_and_start(
        &mut self,
        records: Vec<Record>,
        runs: Vec<String>,
    ) -> eyre::Result<()> {
        let mut starts = Vec::new();
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
            self.show.print_start(run, &self.graph);
            starts.push((id, spec));
        }
        self.place_and_start(records, starts).await
    }

    /// Starts the runs whose engines have a free slot; the others wait. The engine of each run is on disk before the
    /// run starts, so that a repeated start goes to the same engine, and finds the worker that an earlier start has
    /// started.
    async fn place_and_start(
        &mut self,
        mut records: Vec<Record>,
        starts: Vec<(String, RunSpec)>,
    ) -> eyre::Result<()> {
        let mut placed = Vec::new();
        for (id, spec) in starts {
            let Some(engine) = self.engines.place(&id, &spec) else {
                self.engines.queue(id, spec);
                continue;
            };
            let (run, engine) = (id.clone(), engine.word().to_owned());
            let known_run = self.journaled.state.run(&id);
            if known_run.and_then(|run| run.engine.as_ref()) != Some(&engine) {
                records.push(self.journaled.apply(Entry::Placed { run, engine }));
            }
            placed.push((id, spec));
        }
        self.journaled.write(records).await?;
        let mut results = Vec::new();
        for (id, spec) in placed {
            // `None` if the engine answers later, with an event.
            let started = self.engines.start(&id, spec);
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
                .print_message(&format!("{run}: not started: {}", failure.why()));
            self.engines.clean_up_failed_start(&run, &failure);
            self.handle_failed_start(&run, &failure).await?;
        }
        Ok(())
    }

    /// Handles the runs that have waited for a free slot: starts those that get one
    /// now, and records those that are not needed any more.
    pub(super) async fn start_waiting(&mut self) -> eyre::Result<()> {
        let taken = self.engines.take_waiting();
        let given_up = taken.given_up.into_iter().map(|run| {
            let why = "it was given up while it waited for room".to_owned();
            (run, Err(StartFailure::GivenUp(why)))
        });
        self.record_starts(given_up.collect()).await?;
        self.place_and_start(Vec::new(), taken.to_place).await
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
            is_given_up: matches!(failure, StartFailure::GivenUp(_)),
        },
    }
}
