//! The report as JSON.

use serde_json::{Value, json};

use super::contents::Contents;
use crate::dispatch::standing::Standing;
use crate::dispatch::state::Report;

/// The report as JSON. Programs of users read it, so its names must not change.
pub fn json_report(contents: &Contents<'_>) -> Value {
    let (graph, state) = (contents.graph, contents.state);
    let tasks = contents.shown_tasks().map(|(task, standing)| {
        let key = &graph.tasks[task].key;
        let attempts = state.runs_of(key).map(|run| {
            let report = run.report.as_ref();
            json!({
                "run": run.id,
                "base": run.base,
                "status": report.map(|report| &report.status),
                "reason": report.map(|report| &report.reason).filter(|reason| !reason.is_empty()),
                "branch": report.and_then(Report::branch),
                "cost_usd": report.map(|report| report.cost_usd),
                "lost": run.fence.as_ref().map(|fence| &fence.why),
                "merged": run.is_merged(),
            })
        });
        json!({
            "task": key,
            "title": graph.tasks[task].title,
            "standing": standing.word(),
            "why": match standing {
                Standing::Blocked(why) => Some(why),
                _ => None,
            },
            "attempts": attempts.collect::<Vec<_>>(),
        })
    });
    json!({
        "dispatch": state.dispatch,
        "branch": state.branch,
        "tip": contents.tip.commit,
        "ended": contents.status.word(),
        "cost_usd": state.cost_usd,
        "tasks": tasks.collect::<Vec<_>>(),
    })
}
