//! The main loop: hears workers, the engine, merges, people and the clock; decides; acts.

mod checks;
mod fields;
mod merges;
mod people;

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::claims::{note_event, reply};
use super::control::Waiting;
use super::decide::{Action, Decision, decide};
use super::engine::{Event, StartFailure};
use super::event_listener::{MAX_WAITING, Request};
use super::harvest::Harvest;
use super::integration::RunBranch;
use super::journal::{Entry, Handle};
use super::journaled_state::now;
use super::merging::Ports;
use super::names::run_id;
use super::run_output::{find_report, lost};
use super::start::spec;
use super::state::{End, Run, Seen};
use crate::receiver::lease_of_claim;
use crate::task::Status;
pub use fields::Dispatcher;
use fields::TICK;
use merges::{Merging, finished};

/// How often the engine is asked while runs live.
const LOOK: Duration = Duration::from_millis(500);

/// Why the loop has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// Nothing is left that could run.
    Over { halted: Option<String> },
    /// A third Ctrl-C, or another signal: what runs goes on without a dispatcher.
    Left,
}

/// What the loop hears.
pub struct Inbox {
    pub requests: mpsc::Receiver<Request>,
    pub questions: mpsc::Receiver<Waiting>,
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    child: Signal,
}

impl Dispatcher<'_> {
    pub async fn run(&mut self, mut inbox: Inbox) -> eyre::Result<Finish> {
        let mut signals = Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            child: signal(SignalKind::child())?,
        };
        let (outcomes, mut heard_outcomes) = mpsc::channel(16);
        let (checks, mut heard_checks) = mpsc::channel(1);
        let ports = Ports { outcomes, checks };
        let mut merging: Option<Merging> = None;
        loop {
            self.look();
            let decision = decide(&self.journaled.state, &self.graph, &self.terms, now());
            let acted = self.act(&decision, &mut merging, &ports).await?;
            if acted {
                continue;
            }
            self.show
                .draw(&self.journaled.state, &self.graph, &decision);
            if decision.is_over && merging.is_none() {
                if self.check_at_end().await? {
                    continue;
                }
                let halted = decision.halted;
                return Ok(Finish::Over { halted });
            }
            let wake = self.next_look(&decision);
            let mut requests = Vec::new();
            tokio::select! {
                biased;
                _ = signals.interrupt.recv() => {
                    if self.interrupt() {
                        return Ok(Finish::Left);
                    }
                }
                _ = signals.terminate.recv() => return Ok(Finish::Left),
                _ = signals.hangup.recv() => return Ok(Finish::Left),
                Some(outcome) = heard_outcomes.recv() => self.hear_outcome(outcome).await?,
                count = inbox.requests.recv_many(&mut requests, MAX_WAITING), if !inbox.requests.is_closed() => {
                    if count > 0 {
                        self.hear(requests).await?;
                    }
                }
                Some(request) = heard_checks.recv() => self.start_check(request, 1).await?,
                ended = finished(&mut merging) => {
                    merging = None;
                    while let Ok(outcome) = heard_outcomes.try_recv() {
                        self.hear_outcome(outcome).await?;
                    }
                    self.end_merging(ended)?;
                }
                Some(waiting) = inbox.questions.recv() => self.answer(waiting, &decision).await?,
                Some(()) = self.harvests.next() => {}
                Some(event) = self.engine.next_event() => self.hear_engine(event).await?,
                _ = signals.child.recv() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// When to look at everything again, if nothing happens.
    fn next_look(&self, decision: &Decision) -> Instant {
        let is_live = self.journaled.state.runs.iter().any(Run::is_live);
        let mut pause = if is_live { LOOK } else { TICK };
        if let Some(wake_at) = decision.wake_at {
            let until = u64::try_from(wake_at - now()).unwrap_or_default();
            pause = pause.min(Duration::from_millis(until + 1));
        }
        let wake = Instant::now() + pause;
        let further = [
            self.next_merge,
            self.show.next_drawing().map(Instant::from_std),
        ];
        further.into_iter().flatten().fold(wake, Instant::min)
    }

    /// Asks the engine about all runs that live.
    fn look(&mut self) {
        for run in self.journaled.state.live_runs_mut() {
            if let Some(handle) = &run.handle {
                run.seen = self.engine.look(&run.id, handle);
            }
        }
        self.engine.ask_again();
    }

    /// Does what was decided; says whether anything has changed.
    async fn act(
        &mut self,
        decision: &Decision,
        merging: &mut Option<Merging>,
        ports: &Ports,
    ) -> eyre::Result<bool> {
        let mut acted = false;
        let (mut to_merge, mut to_start) = (Vec::new(), Vec::new());
        for action in &decision.actions {
            match action {
                Action::Start { task, next } => to_start.push(Entry::Intent {
                    run: run_id(&self.journaled.state.dispatch, task, next.number),
                    task: Some(task.clone()),
                    attempt: next.number,
                    base: self.tip.commit.clone(),
                    note: next.note.clone(),
                    memory: next.memory,
                }),
                // Its start has no result yet.
                Action::StartAgain { run } | Action::Fence { run, .. }
                    if self.engine.is_starting(run) => {}
                Action::StartAgain { run } => acted |= self.start_again(run).await?,
                Action::Stop { run, why } => self.stop(run, why),
                Action::ReadReport { run } => acted |= self.read_report(run).await?,
                Action::Fence { run, why } => {
                    acted = true;
                    self.fence(run, why, End::default()).await?;
                }
                Action::Merge { run } => to_merge.extend(self.finished_run(run)),
            }
        }
        if !to_start.is_empty() {
            acted = true;
            self.intend(to_start).await?;
        }
        let may_merge = self.next_merge.is_none_or(|next| next <= Instant::now());
        if !to_merge.is_empty()
            && may_merge
            && merging.is_none()
            && let Some(integration) = self.integration.take()
        {
            *merging = Some(self.spawn_merging(integration, to_merge, ports));
        }
        Ok(acted)
    }

    async fn intend(&mut self, intents: Vec<Entry>) -> eyre::Result<()> {
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

    /// Starts runs whose intents are on disk.
    async fn start(&mut self, runs: Vec<String>) -> eyre::Result<()> {
        let mut records = Vec::new();
        for id in runs {
            let Some(run) = self.journaled.state.run(&id) else {
                continue;
            };
            let spec = spec(
                &self.common,
                &self.settings.worker,
                run,
                self.secret.of_run(&id),
            );
            // The others are heard later.
            if let Some(started) = self.engine.start(&id, spec) {
                let started = started.map_err(|error| StartFailure::Failed(format!("{error:#}")));
                let entry = start_entry(id.clone(), started);
                records.push(self.journaled.apply(entry));
            }
            if let Some(run) = self.journaled.state.run(&id) {
                self.show.started(run, &self.graph);
            }
        }
        self.journaled.write(records).await
    }

    /// What an engine says later.
    async fn hear_engine(&mut self, event: Event) -> eyre::Result<()> {
        match event {
            Event::Said(text) => self.show.say(&text),
            Event::Looked { engine, answer } => {
                if let Some(text) = self.engine.hear_look(engine, answer) {
                    self.show.say(&text);
                }
            }
            Event::Started { run, started } => {
                self.engine.hear_start(&run, started.is_ok());
                if let Err(failure) = &started {
                    self.show
                        .say(&format!("{run}: not started: {}", failure.why()));
                }
                self.journaled
                    .note(start_entry(run.clone(), started))
                    .await?;
                // It may have reported already.
                if self
                    .journaled
                    .state
                    .run(&run)
                    .is_some_and(|run| !run.is_live())
                {
                    self.release(&run);
                }
            }
        }
        Ok(())
    }

    /// A run has ended, or has no say any more: its engine need not keep it.
    fn release(&mut self, id: &str) {
        let grace = self.grace();
        let run = self.journaled.state.run(id);
        if let Some(handle) = run.and_then(|run| run.handle.as_ref()) {
            self.engine.release(id, handle, grace);
        }
    }

    /// How long a worker may take to end after its stop signal.
    pub fn grace(&self) -> Duration {
        self.settings.worker.stop_window + Duration::from_secs(5)
    }

    fn stop(&mut self, run: &str, why: &str) {
        let grace = self.grace();
        let Some(run) = self.journaled.state.run_mut(run) else {
            return;
        };
        run.stop_asked_at = Some(now());
        run.stop_reason = Some(why.to_owned());
        if let Some(handle) = &run.handle {
            self.engine.stop(handle, grace);
        }
        self.show
            .say(&format!("{}: stopping, because {why}", run.id));
    }

    /// A run has ended without a report: its output may have the report, or its branch the work. Says whether
    /// anything has changed.
    async fn read_report(&mut self, id: &str) -> eyre::Result<bool> {
        match self.harvest(id).await? {
            Harvest::Pending => Ok(false),
            Harvest::Report | Harvest::Branch(_) => Ok(true),
            Harvest::Nothing => {
                let Some(run) = self.journaled.state.run(id) else {
                    return Ok(false);
                };
                let end = match run.seen {
                    Seen::Ended(end) => end,
                    _ => End::default(),
                };
                let why = run.stop_reason.clone();
                let why = why.unwrap_or_else(|| lost(end.code, &self.engine.log(id)));
                self.fence(id, &why, end).await?;
                Ok(true)
            }
        }
    }

    /// A run whose start an earlier dispatcher has announced, and that the engine does not have: it never began,
    /// or it is over. Says whether anything has changed.
    async fn start_again(&mut self, id: &str) -> eyre::Result<bool> {
        match self.harvest(id).await? {
            Harvest::Pending => Ok(false),
            Harvest::Report | Harvest::Branch(_) => Ok(true),
            Harvest::Nothing => {
                self.start(vec![id.to_owned()]).await?;
                Ok(true)
            }
        }
    }

    /// Notes what a run has left behind: the report that its worker has printed, or the branch.
    async fn harvest(&mut self, id: &str) -> eyre::Result<Harvest> {
        let run = id.to_owned();
        if let Some(event) = find_report(&self.engine.output(id), id) {
            self.journaled.note(Entry::Reported { run, event }).await?;
            self.after_report(id).await?;
            return Ok(Harvest::Report);
        }
        let is_check = self
            .journaled
            .state
            .run(id)
            .is_some_and(|run| run.task.is_none());
        if is_check {
            return Ok(Harvest::Nothing);
        }
        let harvest = self.harvests.of_run(id);
        if let Harvest::Branch(RunBranch { name, commit, .. }) = &harvest {
            self.show.say(&format!(
                "{id}: its worker is gone, but it has pushed finished work; the checks run on it again"
            ));
            let (branch, commit) = (name.clone(), commit.clone());
            let entry = Entry::Harvested {
                run,
                branch,
                commit,
            };
            self.journaled.note(entry).await?;
            self.release(id);
        }
        Ok(harvest)
    }

    async fn fence(&mut self, id: &str, why: &str, end: End) -> eyre::Result<()> {
        self.show.say(&format!("{id}: lost: {why}"));
        self.journaled
            .note(Entry::Fenced {
                run: id.to_owned(),
                why: why.to_owned(),
                exit_code: end.code,
                is_out_of_memory: end.is_out_of_memory,
            })
            .await?;
        self.release(id);
        self.repeat_check(id, why).await
    }

    /// Answers events: what they change is on disk before any answer is sent.
    async fn hear(&mut self, requests: Vec<Request>) -> eyre::Result<()> {
        let (mut records, mut answers, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        for Request {
            route,
            event,
            answer,
        } in requests
        {
            note_event(&mut self.journaled.state, route, &event, now());
            let lease = u64::try_from(lease_of_claim(&event).as_millis()).unwrap_or(u64::MAX);
            let reply = reply(&self.journaled.state, route, &event, lease);
            if let Some(entry) = reply.entry {
                if let Entry::Reported { run, .. } = &entry {
                    ended.push(run.clone());
                }
                records.push(self.journaled.apply(entry));
            }
            self.show.event(route, &event, &reply.answer, &self.graph);
            answers.push((answer, reply.answer));
        }
        self.journaled.write(records).await?;
        for (answer, reply) in answers {
            let _ = answer.send(reply);
        }
        for run in ended {
            self.after_report(&run).await?;
        }
        Ok(())
    }

    /// How many tasks there are, without those that are nothing but their subtasks, and without those that a
    /// person has cancelled or deferred.
    pub fn count_tasks(&self) -> usize {
        let tasks = self
            .terms
            .scope
            .iter()
            .map(|task| self.graph.tasks[*task].status);
        let is_counted = |status: &Status| {
            !matches!(
                status,
                Status::Expanded | Status::Cancelled | Status::Deferred
            )
        };
        tasks.filter(is_counted).count()
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
