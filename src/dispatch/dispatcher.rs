//! The main loop: hears workers, the engine, merges, people and the clock; decides; acts.

use std::collections::HashMap;
use std::time::Duration;

use hyper::StatusCode;
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::claims::{note_event, reply};
use super::control::{Question, Waiting};
use super::decide::{Action, Decision, decide};
use super::engine::{Engines, Event, StartFailure};
use super::event_listener::{MAX_WAITING, Request, Secret};
use super::integration::{FinishedRun, Integration};
use super::journal::{Asked, Entry, Handle};
use super::journaled_state::{JournaledState, now};
use super::merging::{CheckRequest, CheckResult, Outcome, Ports, Tip, merge_all};
use super::names::run_id;
use super::run_output::{find_report, lost};
use super::settings::Settings;
use super::show::Show;
use super::standing::{Stopping, Terms};
use super::start::{Common, spec};
use super::state::{Run, Seen};
use super::verification::Mode;
use crate::receiver::{Answer, Route, lease_of_claim};
use crate::scud::TaskGraph;
use crate::task::Status;

/// How often everything is looked at if nothing happens.
const TICK: Duration = Duration::from_secs(5);
/// How often the engine is asked while runs live.
const LOOK: Duration = Duration::from_millis(500);
/// How often a merge that failed for another reason than its content is tried again before giving up.
const MERGE_ATTEMPTS: u32 = 5;
/// How often a check that could not run is started again.
const CHECK_ATTEMPTS: u32 = 3;

pub struct Dispatcher<'a> {
    pub settings: &'a Settings,
    pub show: Show<'a>,
    pub journaled: JournaledState,
    pub engine: Engines,
    pub secret: Secret,
    pub common: Common,
    pub graph: TaskGraph,
    pub tip: Tip,
    pub terms: Terms,
    pub integration: Option<Integration>,
    pub checks: HashMap<String, PendingCheck>,
    pub merge_failures: u32,
    pub next_merge: Option<Instant>,
    pub mode: Mode,
    /// The result of the checks at the end, if they run only then.
    pub end_check: Option<EndCheck>,
}

/// The checks of the whole branch, when everything is merged.
pub enum EndCheck {
    Running(oneshot::Receiver<CheckResult>),
    Ended(CheckResult),
}

/// A run that only checks a commit, and what waits for it.
pub struct PendingCheck {
    request: CheckRequest,
    attempt: u32,
}

/// Why the loop has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// Nothing is left that could run.
    Over { halted: Option<String> },
    /// A third Ctrl-C, or another signal: what runs goes on without a dispatcher.
    Left,
}

type Merging = JoinHandle<(Integration, eyre::Result<()>)>;

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
            self.show
                .draw(&self.journaled.state, &self.graph, &decision);
            if acted {
                continue;
            }
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
                Some(event) = self.engine.next_event() => self.hear_engine(event).await?,
                _ = signals.child.recv() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Runs the checks of the whole branch, if they run only at the end; says whether there is something to
    /// wait for.
    async fn check_at_end(&mut self) -> eyre::Result<bool> {
        match self.end_check.take() {
            None if self.mode == Mode::End && self.terms.stopping == Stopping::No => {
                let (answer, answered) = oneshot::channel();
                let commit = self.tip.commit.clone();
                self.end_check = Some(EndCheck::Running(answered));
                self.start_check(CheckRequest { commit, answer }, 1).await?;
                Ok(true)
            }
            Some(EndCheck::Running(mut answered)) => {
                let result = answered.try_recv();
                let result = result.unwrap_or_else(|_| CheckResult::NotRun("no answer".to_owned()));
                self.end_check = Some(EndCheck::Ended(result));
                Ok(false)
            }
            other => {
                self.end_check = other;
                Ok(false)
            }
        }
    }

    /// Why the checks at the end have not passed, if so.
    pub fn end_check_failed(&self) -> Option<&str> {
        match &self.end_check {
            Some(EndCheck::Ended(CheckResult::Failed(why) | CheckResult::NotRun(why))) => Some(why),
            _ => None,
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
        self.next_merge.map_or(wake, |next| next.min(wake))
    }

    /// Asks the engine about all runs that live.
    fn look(&mut self) {
        for run in self
            .journaled
            .state
            .runs
            .iter_mut()
            .filter(|run| run.is_live())
        {
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
                Action::Start {
                    task,
                    attempt,
                    note,
                } => {
                    let run = run_id(&self.journaled.state.dispatch, task, *attempt);
                    to_start.push(Entry::Intent {
                        run,
                        task: Some(task.clone()),
                        attempt: *attempt,
                        base: self.tip.commit.clone(),
                        note: note.clone(),
                    });
                }
                // Its start has no result yet.
                Action::StartAgain { run } | Action::Fence { run, .. }
                    if self.engine.is_starting(run) => {}
                Action::StartAgain { run } => {
                    acted = true;
                    self.start(vec![run.clone()]).await?;
                }
                Action::Stop { run, why } => self.stop(run, why),
                Action::ReadReport { run } => {
                    acted = true;
                    self.read_report(run).await?;
                }
                Action::Fence { run, why } => {
                    acted = true;
                    self.fence(run, why, None).await?;
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

    /// A run has ended without a report: its output may have it.
    async fn read_report(&mut self, id: &str) -> eyre::Result<()> {
        let Some(run) = self.journaled.state.run(id) else {
            return Ok(());
        };
        let exit_code = match run.seen {
            Seen::Ended(code) => code,
            _ => None,
        };
        let stop_reason = run.stop_reason.clone();
        if let Some(event) = find_report(&self.engine.output(id), id) {
            let run = id.to_owned();
            self.journaled.note(Entry::Reported { run, event }).await?;
            self.after_report(id).await?;
            return Ok(());
        }
        let why = stop_reason.unwrap_or_else(|| lost(exit_code, &self.engine.log(id)));
        self.fence(id, &why, exit_code).await
    }

    async fn fence(&mut self, id: &str, why: &str, exit_code: Option<i32>) -> eyre::Result<()> {
        self.show.say(&format!("{id}: lost: {why}"));
        self.journaled
            .note(Entry::Fenced {
                run: id.to_owned(),
                why: why.to_owned(),
                exit_code,
            })
            .await?;
        self.release(id);
        self.repeat_check(id, why).await
    }

    /// A check that could not run is started again a few times.
    async fn repeat_check(&mut self, id: &str, why: &str) -> eyre::Result<()> {
        let Some(check) = self.checks.remove(id) else {
            return Ok(());
        };
        if check.attempt < CHECK_ATTEMPTS {
            return Box::pin(self.start_check(check.request, check.attempt + 1)).await;
        }
        let _ = check
            .request
            .answer
            .send(CheckResult::NotRun(why.to_owned()));
        Ok(())
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

    /// A check that has reported answers those who wait for it.
    async fn after_report(&mut self, id: &str) -> eyre::Result<()> {
        self.release(id);
        if !self.checks.contains_key(id) {
            return Ok(());
        }
        let report = self
            .journaled
            .state
            .run(id)
            .and_then(|run| run.report.clone());
        let Some(report) = report else { return Ok(()) };
        let result = if report.is_completed() {
            CheckResult::Passed
        } else if report.reason() == "checks_failed" {
            CheckResult::Failed(format!(
                "{}\n{}",
                report.text("/message"),
                super::run_output::failed_output(&report.event)
            ))
        } else {
            let why = format!("{}: {}", report.reason(), report.text("/message"));
            return self.repeat_check(id, &why).await;
        };
        if let Some(check) = self.checks.remove(id) {
            let _ = check.request.answer.send(result);
        }
        Ok(())
    }

    async fn start_check(&mut self, request: CheckRequest, attempt: u32) -> eyre::Result<()> {
        let state = &self.journaled.state;
        let earlier = state.runs.iter().filter(|run| run.task.is_none()).count();
        let number = u32::try_from(earlier).unwrap_or(u32::MAX).saturating_add(1);
        let run = format!("{}-checks-{number}", state.dispatch);
        let intent = Entry::Intent {
            run: run.clone(),
            task: None,
            attempt,
            base: request.commit.clone(),
            note: None,
        };
        self.checks.insert(run, PendingCheck { request, attempt });
        self.intend(vec![intent]).await
    }

    /// What the merge needs to know about a completed run.
    fn finished_run(&self, id: &str) -> Option<FinishedRun> {
        let run = self.journaled.state.run(id)?;
        let (report, task) = (run.report.as_ref()?, run.task.as_deref()?);
        let (phase, task_id) = task.split_once(':')?;
        let commit = report.text("/result/work/head_commit");
        let sent = report.text("/timestamp").parse::<Timestamp>();
        let node = self.graph.position(phase, task_id);
        Some(FinishedRun {
            phase: phase.to_owned(),
            task: task_id.to_owned(),
            task_id: node.map_or_else(|| task.to_owned(), |node| self.graph.name(node)),
            run_id: id.to_owned(),
            title: node.map_or_else(String::new, |node| self.graph.tasks[node].title.clone()),
            branch: report.branch().unwrap_or_default().to_owned(),
            // A run that has changed nothing has its base.
            commit: if commit.is_empty() { &run.base } else { commit }.to_owned(),
            time: sent.unwrap_or_else(|_| {
                Timestamp::from_millisecond(report.at).unwrap_or(Timestamp::UNIX_EPOCH)
            }),
        })
    }

    fn spawn_merging(
        &self,
        mut integration: Integration,
        runs: Vec<FinishedRun>,
        ports: &Ports,
    ) -> Merging {
        // Without checks in the project there is nothing to verify.
        let has_checks = runs.iter().any(|run| {
            let run = self.journaled.state.run(&run.run_id);
            let report = run.and_then(|run| run.report.as_ref());
            let checks = report.and_then(|report| report.event.pointer("/result/checks"));
            checks
                .and_then(|checks| checks.as_array())
                .is_some_and(|checks| !checks.is_empty())
        });
        let mode = if has_checks { self.mode } else { Mode::Never };
        let ports = ports.clone();
        tokio::task::spawn_local(async move {
            let merged = merge_all(&mut integration, runs, mode, &ports).await;
            (integration, merged)
        })
    }

    async fn hear_outcome(&mut self, outcome: Outcome) -> eyre::Result<()> {
        match outcome {
            Outcome::Moved {
                runs,
                tip,
                unpublished,
            } => {
                let mut records = Vec::new();
                for run in &runs {
                    let (run, commit) = (run.clone(), tip.commit.clone());
                    records.push(self.journaled.apply(Entry::Merged { run, commit }));
                }
                self.journaled.write(records).await?;
                for run in &runs {
                    self.show.merged(run, &self.journaled.state, &self.graph);
                }
                self.set_tip(tip)?;
                self.show.unpublished(unpublished);
                self.merge_failures = 0;
            }
            Outcome::Conflict { run, note } => {
                self.show.say(&format!("{run}: conflicts with merged work"));
                self.journaled.note(Entry::Conflict { run, note }).await?;
            }
            Outcome::Red { run, note } => {
                self.show
                    .say(&format!("{run}: the checks fail on its merged work"));
                self.journaled.note(Entry::Red { run, note }).await?;
            }
        }
        Ok(())
    }

    fn set_tip(&mut self, tip: Tip) -> eyre::Result<()> {
        let scope: Vec<String> = self.scope_keys();
        self.graph = TaskGraph::parse(&tip.graph)?;
        self.tip = tip;
        let positions = scope.iter().filter_map(|key| {
            let (phase, id) = key.split_once(':')?;
            self.graph.position(phase, id)
        });
        self.terms.scope = positions.collect();
        Ok(())
    }

    /// How many tasks there are, without those that are nothing but their subtasks.
    pub fn count_tasks(&self) -> usize {
        let tasks = self.terms.scope.iter().map(|task| &self.graph.tasks[*task]);
        let whole = tasks.filter(|task| task.status != Status::Expanded);
        whole.count()
    }

    fn scope_keys(&self) -> Vec<String> {
        let scope = self.terms.scope.iter();
        scope
            .map(|task| super::standing::task_key(&self.graph, *task))
            .collect()
    }

    /// The merging has ended: with an error, it is tried again later.
    fn end_merging(
        &mut self,
        ended: Result<(Integration, eyre::Result<()>), tokio::task::JoinError>,
    ) -> eyre::Result<()> {
        let (integration, merged) = ended?;
        self.integration = Some(integration);
        self.next_merge = None;
        if let Err(error) = merged {
            self.merge_failures += 1;
            if self.merge_failures >= MERGE_ATTEMPTS {
                return Err(error.wrap_err("finished work cannot be merged"));
            }
            self.show.say(&format!(
                "finished work could not be merged, trying again: {error:#}"
            ));
            self.next_merge = Some(Instant::now() + TICK);
        }
        Ok(())
    }

    /// Ctrl-C: nothing new starts; what runs is cancelled; the dispatcher leaves. Says whether to leave.
    fn interrupt(&mut self) -> bool {
        let live = self
            .journaled
            .state
            .runs
            .iter()
            .filter(|run| run.is_live())
            .count();
        match self.terms.stopping {
            Stopping::No => {
                self.terms.stopping = Stopping::AfterRunning;
                self.show.say(&format!(
                    "nothing new starts; {live} runs are waited for (Ctrl-C again cancels them)"
                ));
                false
            }
            Stopping::AfterRunning => {
                self.terms.stopping = Stopping::Cancelling;
                for run in &mut self.journaled.state.runs {
                    run.is_cancelled |= run.is_live();
                }
                self.show.say(&format!(
                    "{live} runs are cancelled (Ctrl-C again leaves them running)"
                ));
                false
            }
            Stopping::Cancelling => true,
        }
    }

    async fn answer(&mut self, waiting: Waiting, decision: &Decision) -> eyre::Result<()> {
        let text = match waiting.question {
            Question::Status => {
                super::show::status(&self.journaled.state, &self.graph, &decision.standings)
            }
            Question::Ask { asked, task } => self.ask(asked, task).await?,
        };
        let _ = waiting.answer.send(text);
        Ok(())
    }

    async fn ask(&mut self, what: Asked, task: Option<String>) -> eyre::Result<String> {
        let key = match &task {
            None => None,
            Some(name) => match super::scope::find_task(&self.graph, &self.terms.scope, name) {
                Ok(task) => Some(super::standing::task_key(&self.graph, task)),
                Err(why) => return Ok(format!("{why}\n")),
            },
        };
        if what == Asked::Cancel {
            if key.is_none() {
                self.terms.stopping = Stopping::Cancelling;
            }
            for run in self
                .journaled
                .state
                .runs
                .iter_mut()
                .filter(|run| run.is_live())
            {
                run.is_cancelled |= key.is_none() || run.task == key;
            }
        }
        self.journaled
            .note(Entry::Asked { what, task: key })
            .await?;
        Ok("done\n".to_owned())
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

/// The end of the merging; waits forever if there is none.
async fn finished(
    merging: &mut Option<Merging>,
) -> Result<(Integration, eyre::Result<()>), tokio::task::JoinError> {
    match merging {
        Some(merging) => merging.await,
        None => std::future::pending().await,
    }
}

/// Whether an answer lets a worker begin.
pub fn is_grant(route: Route, answer: &Answer) -> bool {
    route == Route::Started && answer.status == StatusCode::OK
}
