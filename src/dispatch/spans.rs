//! The trace of a dispatch: a span for each attempt, each check of merged work and each merge.
//!
//! A worker gets the span of its run as its parent, so that all workers are in the trace of their dispatch. Runs that
//! an earlier dispatcher has started belong to the trace of that dispatcher.

#![cfg_attr(
    not(feature = "otel"),
    allow(
        clippy::zero_sized_map_values,
        reason = "a span is empty if nothing is exported"
    )
)]

use std::collections::HashMap;

use super::integration::FinishedRun;
use super::merging::MergeOutcome;
use super::result::DispatchResult;
use super::state::{Run, State};
use crate::redact::Redactor;
use crate::telemetry::{self, Span, Telemetry};

/// The spans that have not ended.
#[derive(Debug)]
pub struct Spans {
    telemetry: Telemetry,
    /// The span of this dispatcher.
    root: Span,
    /// The spans of runs, by the id of the run.
    runs: HashMap<String, Span>,
    /// The span of the running merge.
    merge: Option<Span>,
}

impl Spans {
    /// Begins the trace, and starts to export it.
    pub fn begin(
        settings: &telemetry::Settings,
        state: &State,
        project: &str,
        redactor: &Redactor,
    ) -> Self {
        let telemetry = Telemetry::new(settings, &state.dispatch, redactor);
        let mut root = telemetry.root_span("dispatch");
        root.set_text("cicd.pipeline.name", project);
        root.set_text("cicd.pipeline.run.id", &state.dispatch);
        root.set_text("vcs.ref.head.name", &state.branch);
        telemetry.start();
        Self {
            telemetry,
            root,
            runs: HashMap::new(),
            merge: None,
        }
    }

    /// Begins the span of a run, unless an earlier start of the run has begun it. Returns the `traceparent` for the
    /// worker; `None` if no traces are exported.
    pub fn begin_run(&mut self, run: &Run) -> Option<String> {
        let span = self.runs.entry(run.id.clone()).or_insert_with(|| {
            let (name, parent) = match &run.task {
                Some(_) => ("attempt", &self.root),
                None => ("verify", self.merge.as_ref().unwrap_or(&self.root)),
            };
            let mut span = parent.context().child(name);
            span.set_text("descartes.run.id", &run.id);
            span.set_number("descartes.attempt", run.attempt.into());
            match &run.task {
                Some(task) => span.set_text("descartes.task.id", task),
                None => span.set_text("vcs.ref.head.revision", &run.base),
            }
            span
        });
        span.context().traceparent()
    }

    /// Ends the spans of runs that have ended.
    pub fn end_runs(&mut self, state: &State) {
        self.runs.retain(|id, span| {
            let Some(run) = state.run(id) else {
                return false;
            };
            if run.is_live() {
                return true;
            }
            match &run.report {
                Some(report) if report.is_completed() => {}
                Some(report) => span.fail(&report.reason),
                None => span.fail("lost"),
            }
            false
        });
    }

    /// Begins the span of a merge.
    pub fn begin_merge(&mut self, runs: &[FinishedRun]) {
        let mut span = self.root.context().child("merge");
        let ids: Vec<&str> = runs.iter().map(|run| run.run_id.as_str()).collect();
        span.set_text("descartes.run.ids", &ids.join(","));
        self.merge = Some(span);
    }

    /// Marks the span of the merge as failed, if a run was rejected.
    pub fn note_merge_outcome(&mut self, outcome: &MergeOutcome) {
        let reason = match outcome {
            MergeOutcome::Moved { .. } => return,
            MergeOutcome::Conflict { .. } => "conflict",
            MergeOutcome::ChecksFailed { .. } => "checks_failed",
            MergeOutcome::Unusable { .. } => "unusable_files",
        };
        if let Some(span) = &mut self.merge {
            span.fail(reason);
        }
    }

    /// Ends the span of the merge.
    pub fn end_merge(&mut self, merged: &eyre::Result<()>) {
        if let Some(mut span) = self.merge.take() {
            if merged.is_err() {
                span.fail("merge_failed");
            }
            span.end();
        }
    }

    /// Ends the trace, and exports the spans that were not exported yet.
    pub async fn finish(&mut self, result: DispatchResult, state: &State) {
        self.end_runs(state);
        // These runs go on without this dispatcher, so their spans end now.
        self.runs.clear();
        self.merge = None;
        let mut root = std::mem::replace(&mut self.root, Span::none());
        let pipeline_result = match result {
            DispatchResult::AllDone => "success",
            DispatchResult::Blocked => "failure",
            DispatchResult::Stopped | DispatchResult::StoppedWithRuns => "cancellation",
        };
        root.set_text("cicd.pipeline.result", pipeline_result);
        if result != DispatchResult::AllDone {
            root.fail(result.word());
        }
        root.end();
        self.telemetry.finish_without_stop().await;
    }
}
