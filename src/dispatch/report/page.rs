//! Fills the model of the page from the dispatch's state, the graph and the logs of the workers.

use std::collections::HashMap;

use super::contents::{Contents, DispatchStatus};
use crate::clock::{Millis, now};
use crate::dispatch::engine::EngineKind;
use crate::dispatch::journal::UserCommand;
use crate::dispatch::run_output::tail_of_log;
use crate::dispatch::standing::Standing;
use crate::dispatch::state::{Merge, Origin, Report, Run};
use crate::report::{self, Attempt, Cleaner, MergeEnd, NextStep, RunTimes, TextLimits};
use crate::scud::{TaskTexts, task_texts};
use crate::task::Status;

impl Contents<'_> {
    /// The model of the page.
    pub fn page(&self) -> report::Report {
        let cleaner = Cleaner::new(self.redactor);
        let limits = TextLimits::of(self.state.runs.len(), self.shown_tasks().count());
        let (sentence, notes) = self.summary(&cleaner);
        let mut sessions = self.state.sessions.clone();
        if let (DispatchStatus::Running, Some(last)) = (self.status, sessions.last_mut()) {
            last.to = now();
        }
        let commands = self.state.commands.iter().map(|recorded| {
            let word = match recorded.command {
                UserCommand::Retry => "retry",
                UserCommand::Skip => "skip",
                UserCommand::Cancel => "cancel",
            };
            let task = recorded.task.as_deref().unwrap_or("all tasks");
            (recorded.at, cleaner.line(&format!("{word} {task}")))
        });
        let checks = self.state.runs.iter().filter(|run| run.task.is_none());
        report::Report {
            title: cleaner.line(&format!("Dispatch of {}", self.project)),
            outcome: self.status.outcome(),
            sentence,
            notes,
            facts: vec![
                ("branch", cleaner.line(&self.state.branch)),
                (
                    "tip",
                    cleaner.line(self.tip.commit.get(..10).unwrap_or(&self.tip.commit)),
                ),
                ("dispatch", cleaner.line(&self.state.dispatch)),
            ],
            written_at: now(),
            sessions,
            tasks: self.tasks(&cleaner, limits),
            checks: checks
                .map(|run| self.attempt(run, &cleaner, limits))
                .collect(),
            commands: commands.collect(),
        }
    }

    /// The first sentence of the summary, and its other sentences except those about single tasks.
    fn summary(&self, cleaner: &Cleaner) -> (report::Text, Vec<report::Text>) {
        let DispatchStatus::Ended { summary, .. } = self.status else {
            let text = "The dispatch is still running.";
            return (cleaner.line(text), Vec::new());
        };
        let is_about_task = |line: &&str| line.starts_with("blocked ") || line.starts_with(' ');
        let mut lines = summary
            .lines()
            .filter(|line| !line.is_empty() && !is_about_task(line));
        let first = lines.next().unwrap_or_default();
        (
            cleaner.line(first),
            lines.map(|line| cleaner.line(line)).collect(),
        )
    }

    /// The tasks of the page, with their attempts.
    fn tasks(&self, cleaner: &Cleaner, limits: TextLimits) -> Vec<report::Task> {
        let texts = task_texts(&self.tip.graph);
        let shown: Vec<(usize, &Standing)> = self.shown_tasks().collect();
        let page_positions = shown
            .iter()
            .enumerate()
            .map(|(page_position, (task, _))| (*task, page_position));
        // The position of each shown task on the page, by its position in the graph.
        let page_positions: HashMap<usize, usize> = page_positions.collect();
        let tasks = shown.iter().map(|(task, standing)| {
            let node = &self.graph.tasks[*task];
            let key = (node.phase.clone(), node.id.clone());
            let runs: Vec<&Run> = self.state.runs_of(&node.key).collect();
            let attempts = runs.iter().enumerate().map(|(at, run)| Attempt {
                next_step: next_step(run, runs.get(at + 1).copied(), standing),
                ..self.attempt(run, cleaner, limits)
            });
            report::Task {
                name: cleaner.line(&self.graph.name(*task)),
                title: cleaner.line(&node.title),
                state: state_of(standing),
                word: standing.word(),
                is_split: node.status == Status::Expanded,
                why: match standing {
                    Standing::Blocked(why) => Some(cleaner.block(why, limits.max_message())),
                    _ => None,
                },
                priority: cleaner.line(&node.priority.to_string()),
                request: texts
                    .get(&key)
                    .map(|texts| {
                        let TaskTexts {
                            description,
                            details,
                            test_strategy,
                        } = texts;
                        report::Request::of([description, details, test_strategy], cleaner, limits)
                    })
                    .unwrap_or_default(),
                needs: node
                    .needs
                    .iter()
                    .filter_map(|needed| page_positions.get(needed).copied())
                    .collect(),
                attempts: attempts.collect(),
            }
        });
        tasks.collect()
    }

    /// One run, as an attempt of the page.
    fn attempt(&self, run: &Run, cleaner: &Cleaner, limits: TextLimits) -> Attempt {
        let block = |text: &str| cleaner.block(text, limits.max_message());
        let completed = run.report.as_ref().is_some_and(Report::is_completed);
        let mut attempt = Attempt {
            run: cleaner.line(&run.id),
            number: run.attempt,
            engine: run
                .handle
                .as_ref()
                .map_or("", |handle| EngineKind::of_handle(handle).word()),
            base: cleaner.line(&run.base),
            note: run.note.as_deref().map(block),
            memory: run.memory,
            stages: self.stages(run),
            log: tail_of_log(&self.runs_dir.join(&run.id), limits.max_log())
                .map(|log| cleaner.block(&log, limits.max_log())),
            samples: run.samples.cleaned(cleaner),
            merge: match &run.merge {
                Merge::Open if completed && run.task.is_some() => MergeEnd::Waiting,
                Merge::Open => MergeEnd::None,
                Merge::Merged(commit) => MergeEnd::Merged(cleaner.line(commit)),
                Merge::Conflict(note) => MergeEnd::Conflict(block(note)),
                Merge::ChecksFailed(note) | Merge::Unusable { note, .. } => {
                    MergeEnd::Rejected(block(note))
                }
            },
            ..Attempt::default()
        };
        if let Some(report) = &run.report {
            report::add_terminal_event(&mut attempt, &report.event(), cleaner, limits);
        } else if let Some(fence) = &run.fence {
            attempt.end = report::End::Lost {
                why: block(&fence.why),
                exit_code: fence.end.code,
                is_out_of_memory: fence.end.is_out_of_memory,
            };
        }
        attempt
    }

    /// The stages of a run on the time axis.
    fn stages(&self, run: &Run) -> Vec<report::StageInterval> {
        let reported = run.report.as_ref().map(|report| report.at);
        let is_running = *self.status == DispatchStatus::Running;
        let last = self
            .state
            .sessions
            .last()
            .map_or(run.intended_at, |session| session.to);
        let times = RunTimes {
            requested_at: run.intended_at,
            started_at: run.started_at,
            granted_at: run.grant.as_ref().map(|grant| grant.at),
            ended_at: reported.or(run.fence.as_ref().map(|fence| fence.at)),
            is_merging: run.task.is_some() && run.report.as_ref().is_some_and(Report::is_completed),
            settled_at: run.merge_ended_at,
            now: if is_running { now() } else { last },
        };
        let worker = run
            .report
            .as_ref()
            .filter(|report| report.origin == Origin::Worker);
        let event = worker.map(Report::event);
        report::stages_of(&times, event.as_ref(), &run.samples)
    }
}

/// What follows a run that failed, was rejected or was lost; `None` for other runs. `next` is the next run of the task.
fn next_step(run: &Run, next: Option<&Run>, standing: &Standing) -> Option<NextStep> {
    let failed = run
        .report
        .as_ref()
        .is_some_and(|report| !report.is_completed());
    let rejected = run.merge.rejection_note().is_some();
    let lost = run.report.is_none() && run.fence.is_some();
    if !(failed || rejected || lost) {
        return None;
    }
    if let Some(next) = next {
        let ends = [
            run.merge_ended_at,
            run.report.as_ref().map(|report| report.at),
            run.fence.as_ref().map(|fence| fence.at),
        ];
        let end: Option<Millis> = ends.into_iter().flatten().next();
        return Some(NextStep::Attempt {
            number: next.attempt,
            pause: end.map_or(0, |end| next.intended_at - end),
        });
    }
    match standing {
        Standing::Cooling { .. } | Standing::Ready(_) => Some(NextStep::LaterAttempt),
        _ => Some(NextStep::None),
    }
}

/// The state of a task, which decides its color on the page.
fn state_of(standing: &Standing) -> report::State {
    match standing {
        Standing::Done => report::State::Done,
        Standing::Blocked(_) => report::State::Failed,
        Standing::Launching(_) | Standing::Working(_) | Standing::Merging(_) => {
            report::State::Active
        }
        Standing::Waiting | Standing::Ready(_) | Standing::Cooling { .. } => report::State::Open,
        Standing::Skipped | Standing::Closed | Standing::Split | Standing::Outside => {
            report::State::Excluded
        }
    }
}
