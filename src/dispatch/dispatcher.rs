//! The main loop: waits for an event of a worker, an engine, a merge, the user or the clock, decides the next actions
//! from the new state, and performs them.

mod checks;
mod fields;
mod lost_runs;
mod merges;
mod reporting;
mod signals;
mod starts;
mod user_requests;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::claims::{record_event, reply};
use super::control::PendingQuestion;
use super::decide::{Action, Decision, decide};
use super::engine::Event;
use super::event_listener::{MAX_WAITING_REQUESTS, Request};
use super::journal::Entry;
use super::merging::MergeChannels;
use super::names::run_id;
use super::result::DispatchResult;
use super::state::Run;
use crate::clock::now;
use crate::receiver::lease_of_claim;
use crate::task::Status;
pub use fields::Dispatcher;
use fields::IDLE_PAUSE;
use merges::{MergeTask, wait_for_merge_task};
pub use signals::Signals;

/// How often the engines are asked about live runs.
const ENGINE_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Why the loop has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoopEnd {
    /// No run is live, and no further run starts: no task is left that could run, or, for the reason `halt_reason`, no
    /// new run may start.
    NothingLeft { halt_reason: Option<String> },
    /// After a third Ctrl-C or another signal: the workers go on without a dispatcher.
    RunsLeft,
}

/// The channels from which the main loop gets the events of workers and the questions of users.
pub struct Inbox {
    pub requests: mpsc::Receiver<Request>,
    pub questions: mpsc::Receiver<PendingQuestion>,
}

impl Dispatcher<'_> {
    /// Runs until no work is left, or until a signal ends the dispatcher.
    ///
    /// The loop decides again until performing a decision changes nothing. Only then it draws the table and waits.
    /// Signals and results of merges have priority over requests of workers, which can arrive without pause.
    ///
    /// # Errors
    /// If the journal cannot be written, or if finished work cannot be merged after several attempts.
    pub async fn run(&mut self, mut inbox: Inbox, signals: &mut Signals) -> eyre::Result<LoopEnd> {
        let (outcomes, mut merge_outcomes) = mpsc::channel(16);
        let (checks, mut check_requests) = mpsc::channel(1);
        let channels = MergeChannels { outcomes, checks };
        let mut merge_task: Option<MergeTask> = None;
        loop {
            self.update_engine_status();
            self.spans.end_runs(&self.journaled.state);
            self.start_waiting().await?;
            self.journaled.state.note_iteration(now());
            let decision = decide(&self.journaled.state, &self.graph, &self.policy, now());
            let has_changed = self.perform(&decision, &mut merge_task, &channels).await?;
            if has_changed {
                continue;
            }
            self.show
                .draw(&self.journaled.state, &self.graph, &decision);
            if self.is_over(&decision) && merge_task.is_none() {
                if self.check_at_end().await? {
                    continue;
                }
                let halt_reason = decision.halt_reason;
                return Ok(LoopEnd::NothingLeft { halt_reason });
            }
            let wake = self.next_wake(&decision);
            let mut requests = Vec::new();
            tokio::select! {
                biased;
                _ = signals.interrupt.recv() => {
                    if self.handle_interrupt() {
                        return Ok(LoopEnd::RunsLeft);
                    }
                }
                _ = signals.terminate.recv() => return Ok(LoopEnd::RunsLeft),
                () = signals.hangup.recv() => return Ok(LoopEnd::RunsLeft),
                Some(outcome) = merge_outcomes.recv() => self.handle_merge_outcome(outcome).await?,
                count = inbox.requests.recv_many(&mut requests, MAX_WAITING_REQUESTS), if !inbox.requests.is_closed() => {
                    if count > 0 {
                        self.handle_requests(requests).await?;
                    }
                }
                Some(request) = check_requests.recv() => self.start_check(request, 1).await?,
                joined = wait_for_merge_task(&mut merge_task) => {
                    merge_task = None;
                    while let Ok(outcome) = merge_outcomes.try_recv() {
                        self.handle_merge_outcome(outcome).await?;
                    }
                    self.end_merge_task(joined)?;
                }
                Some(pending) = inbox.questions.recv() => self.answer(pending, &decision).await?,
                Some(()) = self.branch_searches.next() => {}
                Some(event) = self.engines.next_event() => self.handle_engine_event(event).await?,
                _ = signals.child.recv() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Whether nothing is left to do, except for merges that are left to the next dispatcher.
    fn is_over(&self, decision: &Decision) -> bool {
        let only_merges_are_left =
            self.has_given_up_merges && self.journaled.state.live_runs().next().is_none();
        decision.is_over || only_merges_are_left
    }

    /// When the loop must decide again if no event arrives before.
    fn next_wake(&self, decision: &Decision) -> Instant {
        let has_live_runs = self.journaled.state.live_runs().next().is_some();
        let mut pause = if has_live_runs {
            ENGINE_POLL_INTERVAL
        } else {
            IDLE_PAUSE
        };
        if let Some(wake_at) = decision.wake_at {
            let left_ms = u64::try_from(wake_at - now()).unwrap_or_default();
            // One more millisecond, so that the pause is over when the loop decides again.
            pause = pause.min(Duration::from_millis(left_ms + 1));
        }
        let wake = Instant::now() + pause;
        let earlier_wakes = [
            self.next_merge,
            self.show.next_drawing().map(Instant::from_std),
        ];
        earlier_wakes.into_iter().flatten().fold(wake, Instant::min)
    }

    /// Stores what the engines know about each live run, and asks them again.
    fn update_engine_status(&mut self) {
        self.journaled.state.change_live_runs(|run| {
            if let Some(handle) = &run.handle {
                run.worker_state = self.engines.refresh_state(&run.id, handle);
            }
        });
        self.engines.request_states();
    }

    /// Performs the actions of a decision. Returns whether the state has changed; if so, the loop must decide again.
    /// Starts and merges come last, because the actions of each kind are performed together: one write of the journal
    /// for all starts, and one background task for all merges.
    async fn perform(
        &mut self,
        decision: &Decision,
        merge_task: &mut Option<MergeTask>,
        channels: &MergeChannels,
    ) -> eyre::Result<bool> {
        let mut has_changed = false;
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
                // The engine has not answered yet whether it has started this run, so the decision waits for the
                // answer.
                Action::StartAgain { run } | Action::Fence { run, .. }
                    if self.engines.is_starting(run) => {}
                Action::GiveUp { run, .. } if self.engines.is_starting(run) => {
                    self.engines.give_up_start(run);
                }
                Action::StartAgain { run } => has_changed |= self.start_again(run).await?,
                Action::Stop { run, why } => self.stop(run, why),
                Action::FindResult { run } => has_changed |= self.find_result(run).await?,
                Action::Fence { run, why } | Action::GiveUp { run, why } => {
                    has_changed = true;
                    self.give_up(run, why).await?;
                }
                Action::Merge { run } => to_merge.extend(self.finished_run(run)),
            }
        }
        if !to_start.is_empty() {
            has_changed = true;
            self.record_and_start(to_start).await?;
        }
        let may_merge = self.next_merge.is_none_or(|next| next <= Instant::now());
        if may_merge {
            // A time in the past would wake the main loop without pause.
            self.next_merge = None;
        }
        if !to_merge.is_empty()
            && may_merge
            && !self.has_given_up_merges
            && merge_task.is_none()
            && let Some(integration) = self.integration.take()
        {
            self.spans.begin_merge(&to_merge);
            *merge_task = Some(self.spawn_merge_task(integration, to_merge, channels));
        }
        Ok(has_changed)
    }

    /// Handles an event of an engine that answers in the background.
    async fn handle_engine_event(&mut self, event: Event) -> eyre::Result<()> {
        match event {
            Event::Message(text) => self.show.print_message(&text),
            Event::States { engine, answer } => {
                if let Some(text) = self.engines.note_states(engine, answer) {
                    self.show.print_message(&text);
                }
            }
            Event::StartEnded { run, result } => {
                if let Some(text) = self.engines.note_start_result(&run, result.is_ok()) {
                    self.show.print_message(&text);
                }
                if let Err(failure) = &result
                    && self.works_without_handle(&run)
                {
                    self.show.print_message(&format!(
                        "{run} works, but its engine has not confirmed its start: {}",
                        failure.why()
                    ));
                    return self.start(vec![run]).await;
                }
                // A run that has reported was started, whatever its engine says now.
                let is_live = self.journaled.state.run(&run).is_some_and(Run::is_live);
                if let Err(failure) = &result
                    && !is_live
                {
                    self.engines.clean_up_failed_start(&run, failure);
                    return Ok(());
                }
                self.record_starts(vec![(run.clone(), result)]).await?;
                // The run may have reported before the engine answered to its start.
                if !is_live {
                    self.release(&run);
                }
            }
        }
        Ok(())
    }

    /// Whether the worker of a run has claimed its task although the engine has not confirmed the start. Then a second
    /// start with the same name finds the running worker, and gives its handle.
    fn works_without_handle(&self, run: &str) -> bool {
        let run = self.journaled.state.run(run);
        run.is_some_and(|run| run.is_live() && run.grant.is_some())
    }

    /// Tells the engine that it may remove a run that has ended or is fenced.
    fn release(&mut self, id: &str) {
        let grace = self.grace_period();
        let run = self.journaled.state.run(id);
        if let Some(handle) = run.and_then(|run| run.handle.as_ref()) {
            self.engines.release(id, handle, grace);
        } else if !self.engines.is_starting(id) {
            // No engine has confirmed this run, so another run may use its slot. If the run exists after all, the
            // engine removes it at the end of the dispatch.
            self.engines.free_slot(id);
        }
    }

    /// How long a worker may take to end after its stop signal: its stop window, and five seconds for the engine to
    /// deliver the signal.
    pub fn grace_period(&self) -> Duration {
        self.settings.worker.stop_window + Duration::from_secs(5)
    }

    /// Asks the engine to end a run.
    fn stop(&mut self, run: &str, why: &str) {
        let grace = self.grace_period();
        let Some(run) = self.journaled.state.run_mut(run) else {
            return;
        };
        run.stop_requested_at = Some(now());
        run.stop_reason = Some(why.to_owned());
        if let Some(handle) = &run.handle {
            self.engines.stop(handle, grace);
        }
        self.show
            .print_message(&format!("{}: stopping, because {why}", run.id));
    }

    /// Handles events of workers. Their changes are on disk before the answers are sent.
    async fn handle_requests(&mut self, requests: Vec<Request>) -> eyre::Result<()> {
        let (mut records, mut answers, mut reported) = (Vec::new(), Vec::new(), Vec::new());
        for Request {
            route,
            event,
            answer: sender,
        } in requests
        {
            let lease_ms = u64::try_from(lease_of_claim(&event).as_millis()).unwrap_or(u64::MAX);
            let reply = reply(&self.journaled.state, route, &event, lease_ms);
            let state = &mut self.journaled.state;
            record_event(state, route, &event, &reply.answer, now());
            if let Some(entry) = reply.entry {
                if let Entry::Reported { run, .. } = &entry {
                    reported.push(run.clone());
                }
                records.push(self.journaled.apply(entry));
            }
            self.show
                .print_event(route, &event, &reply.answer, &self.graph);
            answers.push((sender, reply.answer));
        }
        self.journaled.write(records).await?;
        for (sender, answer) in answers {
            let _ = sender.send(answer);
        }
        for run in reported {
            self.handle_report(&run).await?;
        }
        Ok(())
    }

    /// Ends the trace of this dispatcher.
    pub async fn end_trace(&mut self, result: DispatchResult) {
        self.spans.finish(result, &self.journaled.state).await;
    }

    /// The number of tasks to work on, without expanded tasks (their subtasks are counted) and without tasks that are
    /// cancelled or deferred in the graph.
    pub fn count_tasks(&self) -> usize {
        let tasks = self
            .policy
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
