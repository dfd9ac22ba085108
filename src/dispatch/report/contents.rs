//! The data from which the reports of a dispatch are made.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dispatch::ended::Ended;
use crate::dispatch::merging::Tip;
use crate::dispatch::standing::Standing;
use crate::dispatch::state::State;
use crate::redact::Redactor;
use crate::report::{self, Outcome, ReportFile};
use crate::scud::TaskGraph;

/// The format of a report; the extension of its file decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Html,
    Json,
}

impl Format {
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
pub enum End {
    Running,
    Ended {
        how: Ended,
        /// The summary, in several lines.
        summary: String,
    },
}

impl End {
    pub fn of(how: Ended, summary: &str) -> Self {
        let summary = summary.to_owned();
        Self::Ended { how, summary }
    }

    /// The end of the last dispatcher according to its journal.
    pub fn of_journal(state: &State) -> Self {
        let (how, summary) = match state.ended.as_deref() {
            Some("done") => (Ended::AllDone, "all tasks are done"),
            Some("blocked") => (Ended::Blocked, "some tasks are blocked"),
            Some(_) => (
                Ended::Stopped,
                "the dispatch was stopped; the same command continues it",
            ),
            None => (
                Ended::Stopped,
                "the dispatcher was killed; the same command continues the dispatch",
            ),
        };
        Self::of(how, summary)
    }

    pub fn word(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Ended { how, .. } => how.word(),
        }
    }

    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Running => Outcome::Running,
            Self::Ended { how, .. } => match how {
                Ended::AllDone => Outcome::Done,
                Ended::Blocked => Outcome::Failed,
                Ended::Stopped | Ended::StoppedWithRuns => Outcome::Stopped,
            },
        }
    }
}

/// The data from which a report is made.
#[derive(Debug)]
pub struct Contents<'a> {
    pub state: &'a State,
    pub graph: &'a TaskGraph,
    pub standings: &'a [Standing],
    pub tip: &'a Tip,
    /// The name of the project.
    pub project: &'a str,
    /// The directory with the logs of the runs.
    pub runs: &'a Path,
    pub redactor: &'a Redactor,
    pub end: &'a End,
}

/// A copy of the contents, from which another thread makes the report while the dispatch goes on.
#[derive(Debug)]
pub struct ContentsCopy {
    state: State,
    graph: TaskGraph,
    standings: Vec<Standing>,
    tip: Tip,
    project: String,
    runs: PathBuf,
    redactor: Redactor,
    end: End,
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
            runs: &self.runs,
            redactor: &self.redactor,
            end: &self.end,
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
            runs: self.runs.to_owned(),
            redactor: self.redactor.clone(),
            end: self.end.clone(),
        }
    }

    /// The tasks that the dispatch works on, or that are done already.
    pub fn shown_tasks(&self) -> impl Iterator<Item = (usize, &Standing)> {
        let tasks = self.standings.iter().enumerate();
        tasks.filter(|(_, standing)| **standing != Standing::Outside)
    }
}
