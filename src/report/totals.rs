//! Sums over all tasks.

use super::model::{Attempt, Interval, Report, State};
use super::text_limits::{Detail, TextLimits};
use crate::clock::Millis;

/// The sums at the top of the page.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    pub done: usize,
    pub failed: usize,
    /// The tasks that are neither done, failed nor excluded.
    pub open: usize,
    pub excluded: usize,
    pub attempts: usize,
    pub failed_attempts: usize,
    pub tokens: u64,
    pub has_tokens: bool,
    pub cost_usd: f64,
    pub insertions: u64,
    pub deletions: u64,
    /// The time from the first start to the end.
    pub span: Option<Interval>,
    /// The part of the span in which a dispatcher was running.
    pub active: Millis,
    /// The time of all runs together.
    pub run_time: Millis,
}

impl Totals {
    pub fn of(report: &Report) -> Self {
        let mut totals = Self {
            cost_usd: cost_usd(report),
            ..Self::default()
        };
        for task in &report.tasks {
            match task.state {
                // The subtasks of a split task are counted instead.
                _ if task.is_split => {}
                State::Done => totals.done += 1,
                State::Failed => totals.failed += 1,
                State::Active | State::Open => totals.open += 1,
                State::Excluded => totals.excluded += 1,
            }
            totals.attempts += task.attempts.len();
            let failed = task.attempts.iter().filter(|attempt| attempt.is_failed());
            totals.failed_attempts += failed.count();
            let successful = task
                .attempts
                .iter()
                .rev()
                .find(|attempt| !attempt.is_failed());
            if let Some(work) = successful.and_then(|attempt| attempt.work.as_ref()) {
                totals.insertions = totals.insertions.saturating_add(work.insertions);
                totals.deletions = totals.deletions.saturating_add(work.deletions);
            }
        }
        for attempt in attempts(report) {
            totals.run_time += attempt.duration();
            let Some(agent) = &attempt.agent else {
                continue;
            };
            if let Some(usage) = agent.usage {
                totals.tokens = totals.tokens.saturating_add(usage.total());
                totals.has_tokens = true;
            }
        }
        let sessions = report.sessions.iter();
        let from = sessions.clone().map(|session| session.from).min();
        let to = sessions.clone().map(|session| session.to).max();
        totals.span = from.zip(to).map(|(from, to)| Interval { from, to });
        totals.active = sessions.map(|session| session.to - session.from).sum();
        totals
    }

    /// The number of tasks without the excluded ones.
    pub fn tasks(&self) -> usize {
        self.done + self.failed + self.open
    }
}

/// All attempts and all checks of merged work.
pub fn attempts(report: &Report) -> impl Iterator<Item = &Attempt> {
    let tasks = report.tasks.iter().flat_map(|task| &task.attempts);
    tasks.chain(&report.checks)
}

/// The cost of all attempts and of all checks of merged work.
pub fn cost_usd(report: &Report) -> f64 {
    attempts(report).filter_map(Attempt::cost_usd).sum()
}

/// How much detail the page of a report has about each attempt.
pub fn detail(report: &Report) -> Detail {
    TextLimits::of(attempts(report).count(), report.tasks.len()).detail()
}
