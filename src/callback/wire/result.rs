//! The fields `result` and `failure` of a terminal event.

use serde::Serialize;

use super::text::{cut, milliseconds, one_line};
use super::usage::Usage;
use crate::excerpt::visible;
use crate::redact::Redactor;
use crate::task;

/// The maximum length of the summary and of the causes of a failure, in characters.
const MAX_TEXT_CHARS: usize = 8 * 1024;
/// The maximum number of checks that one report lists.
pub const MAX_CHECKS: usize = 100;
/// The maximum length of a check's command in a body that is too large, in characters: enough to
/// recognize it.
const MAX_SHORT_COMMAND_CHARS: usize = 80;

/// The field `result` of a terminal event.
#[derive(Debug, Clone, Serialize)]
pub struct TaskResult {
    summary: Option<String>,
    prompts: Vec<String>,
    duration_ms: u64,
    phases: Vec<Phase>,
    agent: Option<Agent>,
    work: Option<Work>,
    pub checks: Vec<Check>,
    output: Output,
}

#[derive(Debug, Clone, Serialize)]
struct Phase {
    phase: &'static str,
    start_ms: u64,
}

#[derive(Debug, Clone, Serialize)]
struct Agent {
    kind: &'static str,
    model: Option<String>,
    session_id: Option<String>,
    exit_code: Option<i32>,
    turns: Option<u64>,
    tool_calls: Option<u64>,
    cost_usd: Option<f64>,
    usage: Option<Usage>,
}

#[derive(Debug, Clone, Serialize)]
struct Work {
    base_commit: String,
    head_commit: String,
    branch: Option<String>,
    pushed: bool,
    files_changed: u64,
    insertions: u64,
    deletions: u64,
    patch: Option<String>,
    patch_truncated: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct Check {
    command: String,
    pub exit_code: Option<i32>,
    duration_ms: u64,
    pub output_tail: String,
}

#[derive(Debug, Clone, Serialize)]
struct Output {
    head: String,
    tail: String,
    total_bytes: u64,
    dropped_bytes: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    reason: &'static str,
    message: String,
    detail: String,
    retryable: bool,
}

impl TaskResult {
    pub fn new(report: &task::RunReport, redactor: &Redactor) -> Self {
        Self {
            summary: report
                .summary
                .as_deref()
                .map(|summary| cut(&redactor.mask(summary), MAX_TEXT_CHARS)),
            prompts: report
                .prompts
                .iter()
                .map(|prompt| visible(prompt))
                .collect(),
            duration_ms: milliseconds(report.duration),
            phases: report
                .phases
                .iter()
                .map(|start| Phase {
                    phase: start.phase,
                    start_ms: milliseconds(start.since_claim),
                })
                .collect(),
            agent: report.agent.as_ref().map(|agent| Agent {
                kind: agent.kind,
                // The agent chooses this text, so it may contain a secret.
                model: agent
                    .model
                    .as_deref()
                    .map(|model| one_line(&redactor.mask(model))),
                session_id: agent
                    .session_id
                    .as_deref()
                    .map(|id| one_line(&redactor.mask(id))),
                exit_code: agent.exit_code,
                turns: agent.spent.turns,
                tool_calls: agent.spent.tool_calls,
                cost_usd: agent.spent.cost_usd,
                usage: agent.spent.usage.map(Usage::new),
            }),
            work: report.work.as_ref().map(Work::new),
            checks: report
                .checks
                .iter()
                .take(MAX_CHECKS)
                .map(|check| Check {
                    command: one_line(&redactor.mask(&check.command)),
                    exit_code: check.exit_code,
                    duration_ms: milliseconds(check.duration),
                    output_tail: check.output_tail.clone(),
                })
                .collect(),
            output: Output {
                head: report.output.head.clone(),
                tail: report.output.tail.clone(),
                total_bytes: report.output.total_bytes,
                dropped_bytes: report.output.dropped_bytes,
            },
        }
    }

    /// Whether there is a patch, a prompt or any output that could be dropped.
    pub fn has_patch_prompts_or_output(&self) -> bool {
        let tails = self.checks.iter().map(|check| &check.output_tail);
        let mut outputs = tails.chain([&self.output.head, &self.output.tail]);
        let patch = self.work.as_ref().is_some_and(|work| work.patch.is_some());
        patch || !self.prompts.is_empty() || outputs.any(|text| !text.is_empty())
    }

    /// Drops the output of passed checks, which is the least important part.
    pub fn drop_output_of_passed_checks(&mut self) {
        for check in &mut self.checks {
            if check.exit_code == Some(0) {
                check.output_tail.clear();
            }
        }
    }

    /// Drops the prompts: the orchestrator has the texts that they are made of.
    pub fn drop_prompts(&mut self) {
        self.prompts.clear();
    }

    /// Drops the summary and shortens the checks' commands.
    pub fn drop_summary_and_shorten_commands(&mut self) {
        self.summary = None;
        for check in &mut self.checks {
            check.command = cut(&check.command, MAX_SHORT_COMMAND_CHARS);
        }
    }

    /// Drops the whole patch, because a part of a patch cannot be applied.
    pub fn drop_patch(&mut self) {
        if let Some(work) = &mut self.work {
            work.patch_truncated |= work.patch.take().is_some();
        }
    }

    /// Drops the patch, the prompts and all output.
    pub fn drop_patch_prompts_and_output(&mut self) {
        self.drop_patch();
        self.drop_prompts();
        for check in &mut self.checks {
            check.output_tail.clear();
        }
        self.output.dropped_bytes = self.output.total_bytes;
        self.output.head.clear();
        self.output.tail.clear();
    }
}

impl Failure {
    pub fn new(failure: &task::Failure, redactor: &Redactor) -> Self {
        Self {
            reason: failure.reason.word(),
            message: one_line(&redactor.mask(&failure.message)),
            detail: cut(&redactor.mask(&failure.causes.join("\n")), MAX_TEXT_CHARS),
            retryable: failure.retryable,
        }
    }
}

impl Work {
    fn new(work: &task::Work) -> Self {
        Self {
            base_commit: work.base_commit.clone(),
            head_commit: work.head_commit.clone(),
            branch: work.branch.clone(),
            pushed: work.branch.is_some(),
            files_changed: work.files_changed,
            insertions: work.insertions,
            deletions: work.deletions,
            patch: work.patch.as_ref().map(|patch| patch.text.clone()),
            patch_truncated: work.patch.as_ref().is_some_and(|patch| patch.truncated),
        }
    }
}
