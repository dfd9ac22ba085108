//! The events of a sample run. No worker works on the task: `probe` only sends the events.

use std::cell::Cell;

use crate::callback::{Event, Identity, Kind, Settings};
use crate::progress::{Phase, Progress};
use crate::redact::Redactor;
use crate::task::{Failure, Outcome, Patch, Reason, RunReport, Verdict, Work};

/// The size of a large patch, in bytes. With the other fields, the body is almost as large as the protocol allows.
const PATCH_SIZE: usize = 240 * 1024;

/// A sample run: it numbers its events as a worker does.
pub struct SampleRun<'a> {
    settings: &'a Settings,
    identity: Identity,
    /// The number of the next event.
    sequence: Cell<u64>,
}

impl<'a> SampleRun<'a> {
    pub fn new(settings: &'a Settings, project: &str, task: &str) -> Self {
        let random = getrandom::u64().unwrap_or_default();
        let identity = Identity {
            task_id: task.to_owned(),
            project_id: project.to_owned(),
            run_id: format!("probe-{random:016x}"),
            ..settings.identity.clone()
        };
        Self {
            settings,
            identity,
            sequence: Cell::new(0),
        }
    }

    pub fn run_id(&self) -> &str {
        &self.identity.run_id
    }

    pub fn task(&self) -> &str {
        &self.identity.task_id
    }

    /// The event that claims the task.
    pub fn claim(&self) -> Event {
        let mut event = self.next_event(Kind::Started, "probe: may this run have the task?");
        event.add_limits(self.settings);
        event
    }

    /// A heartbeat with one line of output.
    pub fn heartbeat(&self) -> Event {
        let progress = Progress::new();
        progress.enter(Phase::Agent);
        progress.set_activity("probe: a sample heartbeat");
        progress.add_output(b"a line of output\n");
        let window = progress.take_output_window();
        let mut event = self.next_event(Kind::Progress, "probe: a sample heartbeat");
        event.add_progress(&progress.snapshot(), Some(&window), &Redactor::new(&[]));
        event
    }

    /// The terminal event of a run that completed its task, without any work.
    pub fn completed_event(&self) -> Event {
        let message = "probe: the sample task is done".to_owned();
        self.terminal_event(Verdict::Completed { message }, RunReport::default())
    }

    /// The terminal event of a failed run. Its patch makes the body about as large as a worker's largest one.
    pub fn failed_event_with_large_patch(&self, reason: Reason) -> Event {
        let mut work = Work::new(&"0".repeat(40), &"1".repeat(40));
        let line = "+a line of a large patch, as a worker sends it when it cannot push its work\n";
        work.patch = Some(Patch {
            text: line.repeat(PATCH_SIZE / line.len()),
            truncated: false,
        });
        let report = RunReport {
            work: Some(work),
            ..RunReport::default()
        };
        let failure = Failure::new(reason, "probe: a sample failure");
        self.terminal_event(Verdict::Failed(failure), report)
    }

    /// The terminal event of a failed run without work.
    pub fn failed_event(&self, reason: Reason) -> Event {
        let failure = Failure::new(reason, "probe: a sample failure");
        self.terminal_event(Verdict::Failed(failure), RunReport::default())
    }

    fn terminal_event(&self, verdict: Verdict, report: RunReport) -> Event {
        let kind = match verdict {
            Verdict::Completed { .. } => Kind::Completed,
            Verdict::Failed(_) => Kind::Failed,
        };
        let outcome = Outcome { verdict, report };
        let mut event = self.next_event(kind, outcome.message());
        event.add_outcome(&outcome, &Redactor::new(&[]));
        event
    }

    fn next_event(&self, kind: Kind, message: &str) -> Event {
        let sequence = self.sequence.replace(self.sequence.get() + 1);
        Event::new(kind, &self.identity, sequence, message)
    }
}
