//! The result of a run that has ended.

use serde_json::{Value, json};

use crate::amounts::possible_cost;
use crate::clock::Millis;

/// The result of a run that has ended. It has the fields of the terminal event that decisions need. Decisions look at
/// every run again and again, and a dispatch can have thousands of runs.
#[derive(Debug, Clone)]
pub struct Report {
    /// When the dispatcher recorded the report.
    pub at: Millis,
    pub origin: Origin,
    /// The id of the terminal event. This text and the following ones are empty if the event does not have them.
    pub event_id: String,
    pub status: String,
    pub message: String,
    /// The word of the failure reason.
    pub reason: String,
    /// The commit that the worker has pushed.
    pub head_commit: String,
    /// When the worker sent the event.
    pub sent_at: String,
    /// The branch that the work was pushed to.
    branch: Option<String>,
    pub is_retryable: bool,
    /// Whether the worker has run checks.
    pub has_checks: bool,
    /// The cost in US dollars; 0 if the agent reported none.
    pub cost_usd: f64,
    /// The terminal event as JSON. A [`Value`] needs several times as much memory.
    event: Box<str>,
}

/// Where a report comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The worker has sent or printed the report.
    Worker,
    /// The worker was lost, and finished work was found on its branch. The event contains only a message, the branch
    /// and the commit.
    Branch,
}

impl Report {
    /// The report with a terminal event.
    pub fn new(at: Millis, origin: Origin, event: &Value) -> Self {
        let text = |pointer| event.pointer(pointer).and_then(Value::as_str);
        let text_or_empty = |pointer| text(pointer).unwrap_or_default().to_owned();
        let checks = event.pointer("/result/checks").and_then(Value::as_array);
        let cost = event.pointer("/result/agent/cost_usd");
        let cost = cost.and_then(Value::as_f64).and_then(possible_cost);
        Self {
            at,
            origin,
            event_id: text_or_empty("/event_id"),
            status: text_or_empty("/status"),
            message: text_or_empty("/message"),
            reason: text_or_empty("/failure/reason"),
            head_commit: text_or_empty("/result/work/head_commit"),
            sent_at: text_or_empty("/timestamp"),
            branch: text("/result/work/branch").map(str::to_owned),
            is_retryable: event.pointer("/failure/retryable") == Some(&Value::Bool(true)),
            has_checks: checks.is_some_and(|checks| !checks.is_empty()),
            cost_usd: cost.unwrap_or_default(),
            event: event.to_string().into(),
        }
    }

    /// The report that follows from a branch with finished work.
    pub fn of_branch(at: Millis, branch: &str, commit: &str) -> Self {
        let event = json!({
            "status": "completed",
            "message": "the work was found on its branch",
            "result": { "work": { "branch": branch, "head_commit": commit } },
        });
        Self::new(at, Origin::Branch, &event)
    }

    /// The whole terminal event.
    pub fn event(&self) -> Value {
        // The text was written from a value, so it is JSON.
        serde_json::from_str(&self.event).unwrap_or_default()
    }

    /// Whether the run has reported success.
    pub fn is_completed(&self) -> bool {
        self.status == "completed"
    }

    /// The branch that the work was pushed to.
    pub fn branch(&self) -> Option<&str> {
        self.branch.as_deref()
    }
}
