//! The data from which the reports of a dispatch are made.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dispatch::merging::Tip;
use crate::dispatch::result::DispatchResult;
use crate::dispatch::standing::Standing;
use crate::dispatch::state::State;
use crate::redact::Redactor;
use crate::report::{self, Outcome, ReportFile};
use crate::scud::TaskGraph;

/// The format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Html,
    Json,
}

impl Format {
    /// The format that the extension of the file selects.
    pub fn of(file: &ReportFile) -> Self {
        if report::is_html(file.path()) {
            Self::Html
        } else {
            Self::Json
        }
    }

    /// Whether a text has this format, to distinguish it from an error message.
    pub fn is_format_of(self, text: &str) -> bool {
        text.starts_with(match self {
            Self::Html => "<!DOCTYPE html>",
            Self::Json => "{",
        })
    }
}

/// Whether and how the dispatch has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DispatchStatus {
    Running,
    Ended {
        result: DispatchResult,
        /// The summary for the user, in several lines.
        summary: String,
    },
}

impl DispatchStatus {
    pub fn ended(result: DispatchResult, summary: &str) -> Self {
        let summary = summary.to_owned();
        Self::Ended { result, summary }
    }

    /// The status of the last dispatch according to its journal.
    pub fn of_journal(state: &State) -> Self {
        let (result, summary) = match state.result_word.as_deref() {
            Some("done") => (DispatchResult::AllDone, "all tasks are done"),
            Some("blocked") => (DispatchResult::Blocked, "some tasks are blocked"),
            Some(_) => (
                DispatchResult::Stopped,
                "the dispatch was stopped; the same command continues it",
            ),
            None => (
                DispatchResult::Stopped,
                "the dispatcher was killed; the same command continues the dispatch",
            ),
        };
        Self::ended(result, summary)
    }

    /// The word in the JSON report.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Ended { result, .. } => result.word(),
        }
    }

    /// The outcome that the page shows.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Running => Outcome::Running,
            Self::Ended { result, .. } => match result {
                DispatchResult::AllDone => Outcome::Done,
                DispatchResult::Blocked => Outcome::Failed,
                DispatchResult::Stopped | DispatchResult::StoppedWithRuns => Outcome::Stopped,
            },
        }
    }
}

/// The data from which a report is made.
#[derive(Debug)]
pub struct Contents<'a> {
    pub state: &'a State,
    pub graph: &'a TaskGraph,
    /// The standing of every task, by its position in the graph.
    pub standings: &'a [Standing],
    pub tip: &'a Tip,
    /// The name of the project.
    pub project: &'a str,
    /// The directory with the logs of the runs.
    pub runs_dir: &'a Path,
    pub redactor: &'a Redactor,
    pub status: &'a DispatchStatus,
}

/// A copy of the contents, from which another thread makes the report while the dispatch goes on.
#[derive(Debug)]
pub struct ContentsCopy {
    state: State,
    graph: TaskGraph,
    standings: Vec<Standing>,
    tip: Tip,
    project: String,
    runs_dir: PathBuf,
    redactor: Redactor,
    status: DispatchStatus,
}

impl ContentsCopy {
    /// The report, or an error message.
    pub fn text(&self, format: Format) -> String {
        let contents = Contents {
            state: &self.state,
            graph: &self.graph,
            standings: &self.standings,
            tip: &self.tip,
            project: &self.project,
            runs_dir: &self.runs_dir,
            redactor: &self.redactor,
            status: &self.status,
        };
        let text = contents.text(format);
        text.unwrap_or_else(|error| format!("the report cannot be made: {error:#}\n"))
    }
}

impl Contents<'_> {
    pub fn copy(&self) -> ContentsCopy {
        ContentsCopy {
            state: self.state.clone(),
            graph: self.graph.clone(),
            standings: self.standings.to_vec(),
            tip: self.tip.clone(),
            project: self.project.to_owned(),
            runs_dir: self.runs_dir.to_owned(),
            redactor: self.redactor.clone(),
            status: self.status.clone(),
        }
    }

    /// The tasks that the dispatch works on, or that are done already: position in the graph and standing.
    pub fn shown_tasks(&self) -> impl Iterator<Item = (usize, &Standing)> {
        let tasks = self.standings.iter().enumerate();
        tasks.filter(|(_, standing)| **standing != Standing::Outside)
    }
}
