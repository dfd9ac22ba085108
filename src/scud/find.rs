//! Finds the task that a reference such as `8` or `phase:8` means. The phase is, in this order: the phase in the
//! reference, the tag in the query, the only phase with the id, or the active phase. Every error names similar tasks or
//! phases of the graph, or the setting to change. Dependencies are not checked: the caller decides whether a task may
//! run before them.

use std::fmt;
use std::path::PathBuf;

use super::files::{self, FileError};
use super::graph::read_task;
use super::graph_file::{GRAPH_COMPONENTS, Malformed, ReadError, read_graph};
use super::lexer::SyntaxError;
use super::project::Project;
use super::search::{Candidate, Reference, Search, Spelling, id_in_phase};
use crate::task::{Status, Task};

/// The components of the path of the file with the active phase.
const ACTIVE_TAG_COMPONENTS: &[&str] = &[".scud", "active-tag"];
/// The largest file with the active phase, in bytes. It contains one word.
const MAX_ACTIVE_TAG_SIZE: u64 = 4 << 10;

/// The task to find.
#[derive(Debug, Clone, Copy)]
pub struct TaskQuery<'a> {
    /// `8` or `phase:8`.
    pub reference: &'a str,
    /// The phase to look in, if the reference names none.
    pub tag: Option<&'a str>,
    pub finished_tasks: FinishedTasks,
}

/// Whether a task that is done, cancelled or expanded may be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishedTasks {
    Reject,
    Allow,
}

/// Why there is no task to run.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    #[error(transparent)]
    File(FileError),
    #[error(transparent)]
    Malformed(Malformed),
    #[error("there is no phase `{tag}` in {}, which has {phases}", path.display())]
    PhaseNotFound {
        tag: String,
        path: PathBuf,
        phases: PhaseNames,
    },
    #[error("there is no task `{reference}` in {}{}", path.display(), suggestion(similar, phases))]
    NotFound {
        reference: String,
        path: PathBuf,
        /// Ids that are similar to the reference, the most similar first. An id that occurs in several phases has its
        /// phase.
        similar: Vec<String>,
        phases: PhaseNames,
    },
    #[error(
        "task `{reference}` of {} is in several phases ({}): use `{}:{reference}`, or --tag",
        path.display(), phases.list(), phases.first()
    )]
    Ambiguous {
        reference: String,
        path: PathBuf,
        phases: PhaseNames,
    },
    #[error("task `{id}` of phase `{phase}` {}", describe_finished(*status))]
    NotActionable {
        id: String,
        phase: String,
        status: Status,
    },
}

impl From<ReadError> for FindError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::File(error) => Self::File(error),
            ReadError::Malformed(error) => Self::Malformed(error),
        }
    }
}

impl FindError {
    /// Whether the graph or the reference is wrong, so that another attempt would fail in the same way.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::File(error) => error.is_permanent(),
            _ => true,
        }
    }
}

/// The end of the error about a missing task.
fn suggestion(similar: &[String], phases: &PhaseNames) -> String {
    if similar.is_empty() {
        return format!(", which has {phases}");
    }
    let quoted: Vec<_> = similar.iter().map(|id| format!("`{id}`")).collect();
    format!("; did you mean {}?", quoted.join(", "))
}

/// The end of the error about a finished task: its status, and what to do.
fn describe_finished(status: Status) -> String {
    match status {
        Status::Expanded => {
            "has been split into subtasks; run those, or set DESCARTES_FORCE=true".to_owned()
        }
        status => format!("is {status}; set DESCARTES_FORCE=true to run it anyway"),
    }
}

/// The tags of phases for a message, which shows a limited number of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseNames {
    shown_names: Vec<String>,
    omitted_count: usize,
}

impl PhaseNames {
    fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        /// A project has a handful of phases; a broken file may have millions.
        const MAX_SHOWN: usize = 12;
        let mut this = Self {
            shown_names: Vec::new(),
            omitted_count: 0,
        };
        for name in names {
            if this.shown_names.len() < MAX_SHOWN {
                this.shown_names.push(name.to_owned());
            } else {
                this.omitted_count += 1;
            }
        }
        this
    }

    fn list(&self) -> String {
        let shown = format!("`{}`", self.shown_names.join("`, `"));
        match self.omitted_count {
            0 => shown,
            more => format!("{shown} and {more} more"),
        }
    }

    fn first(&self) -> &str {
        self.shown_names.first().map_or("", String::as_str)
    }
}

impl fmt::Display for PhaseNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shown_names.len() {
            0 => return f.write_str("no phases"),
            1 => f.write_str("the phase ")?,
            _ => f.write_str("the phases ")?,
        }
        f.write_str(&self.list())
    }
}

impl Project {
    /// Finds the task, with all its data in the graph.
    pub async fn find(&self, query: &TaskQuery<'_>) -> Result<Task, FindError> {
        let path = self.path(GRAPH_COMPONENTS);
        let file = files::open_locked(&self.root, GRAPH_COMPONENTS, files::Access::Read).await;
        let file = file.map_err(FindError::File)?;
        let text = read_graph(&file, &path)?;
        drop(file);
        let malformed = |error: SyntaxError| FindError::Malformed(Malformed::new(&path, error));

        let reference = Reference::AsWritten(query.reference);
        let search = Search::run(&text, reference).map_err(malformed)?;
        let phase = self.choose_phase(&search, query)?;
        let candidate = search.only_candidate(phase).map_err(malformed)?;
        let task = read_task(&search, candidate).map_err(malformed)?;
        match (task.status, query.finished_tasks) {
            (Status::Done | Status::Cancelled | Status::Expanded, FinishedTasks::Reject) => {
                Err(FindError::NotActionable {
                    id: task.id,
                    phase: task.phase,
                    status: task.status,
                })
            }
            _ => Ok(task),
        }
    }

    /// The index of the phase whose candidate the reference means.
    fn choose_phase(&self, search: &Search<'_>, query: &TaskQuery<'_>) -> Result<usize, FindError> {
        let tag_of = |candidate: &Candidate<'_>| search.phases[candidate.phase].tag;
        let all_phases = || PhaseNames::new(search.phases.iter().map(|phase| phase.tag));
        let mut candidates = search.candidates.clone();
        let names_its_phase = |one: &Candidate<'_>| one.spelling == Spelling::WithPhase;
        if candidates.iter().any(names_its_phase) {
            candidates.retain(names_its_phase);
        } else if let Some(tag) = query.tag {
            if search.phases.iter().all(|phase| phase.tag != tag) {
                return Err(FindError::PhaseNotFound {
                    tag: tag.to_owned(),
                    path: self.path(GRAPH_COMPONENTS),
                    phases: all_phases(),
                });
            }
            candidates.retain(|one| tag_of(one) == tag);
        }
        let Some(first) = candidates.first() else {
            return Err(FindError::NotFound {
                reference: query.reference.to_owned(),
                path: self.path(GRAPH_COMPONENTS),
                similar: similar_ids(search, query),
                phases: all_phases(),
            });
        };
        // If two phases have the same tag, `only_candidate` rejects them.
        if candidates.iter().all(|one| tag_of(one) == tag_of(first)) {
            return Ok(first.phase);
        }
        if let Some(active) = self.active_tag().map_err(FindError::File)?
            && let Some(chosen) = candidates.iter().find(|one| tag_of(one) == active)
        {
            return Ok(chosen.phase);
        }
        let mut tags: Vec<_> = candidates.iter().map(tag_of).collect();
        tags.dedup();
        Err(FindError::Ambiguous {
            reference: query.reference.to_owned(),
            path: self.path(GRAPH_COMPONENTS),
            phases: PhaseNames::new(tags.into_iter()),
        })
    }

    /// The phase that the user has chosen with `scud tags`; `None` if the user has chosen none.
    pub fn active_tag(&self) -> Result<Option<String>, FileError> {
        let path = self.path(ACTIVE_TAG_COMPONENTS);
        let bytes = match files::open(&self.root, ACTIVE_TAG_COMPONENTS, files::Access::Read) {
            Ok(file) => files::read(&file, &path, MAX_ACTIVE_TAG_SIZE)?,
            Err(FileError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        // A tag that is not UTF-8 matches no phase.
        let tag = String::from_utf8_lossy(&bytes).trim().to_owned();
        Ok((!tag.is_empty()).then_some(tag))
    }
}

/// An id that is similar to the reference. The most similar id sorts first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SimilarId<'a> {
    distance: usize,
    /// Equally similar ids are shown in the order of the file.
    line: usize,
    id: &'a str,
    tag: &'a str,
}

/// The ids that are similar to the reference, which may have a typing error.
fn similar_ids(search: &Search<'_>, query: &TaskQuery<'_>) -> Vec<String> {
    /// The maximum number of ids in a message: few enough to read at once.
    const MAX_SHOWN: usize = 4;
    /// The maximum number of ids that are collected: enough to see which of the shown ids occur in several phases. A
    /// broken graph may have millions of equally similar ids.
    const MAX_COLLECTED: usize = 256;
    let mut similar: Vec<SimilarId<'_>> = Vec::new();
    for (phase, node) in search.nodes() {
        let tag = search.phases[phase].tag;
        let id = id_in_phase(tag, node.id());
        let distance = if id == query.reference {
            // The id exists, but not in the requested phase.
            Some(0)
        } else if query.tag.is_some_and(|requested| requested != tag) {
            None
        } else {
            distance(query.reference, tag, id)
        };
        let line = node.line;
        similar.extend(distance.map(|distance| SimilarId {
            distance,
            line,
            id,
            tag,
        }));
        if similar.len() >= 2 * MAX_COLLECTED {
            similar.sort_unstable();
            similar.truncate(MAX_COLLECTED);
        }
    }
    similar.sort_unstable();
    let format_id = |one: &SimilarId<'_>| {
        let in_other_phase = |other: &SimilarId<'_>| other.id == one.id && other.tag != one.tag;
        let needs_phase = one.distance == 0
            || query.reference.contains(':')
            || similar.iter().any(in_other_phase);
        if needs_phase {
            format!("{}:{}", one.tag, one.id)
        } else {
            one.id.to_owned()
        }
    };
    similar.iter().take(MAX_SHOWN).map(format_id).collect()
}

/// The number of typing errors between `reference` and a node's id; `None` if there are too many.
fn distance(reference: &str, tag: &str, id: &str) -> Option<usize> {
    /// The longest reference or id that is compared: longer than any id that SCUD accepts.
    const MAX_LENGTH: usize = 128;
    let with_phase;
    let id = if reference.contains(':') {
        with_phase = format!("{tag}:{id}");
        &with_phase
    } else {
        id
    };
    if id.is_empty() || reference.len() > MAX_LENGTH || id.len() > MAX_LENGTH {
        return None;
    }
    // `scud list` shows the first 8 digits of a UUID.
    if reference.len() >= 8 && id.starts_with(reference) {
        return Some(1);
    }
    // At most one error in three characters; at least one character must be right, so `7` does not suggest `9`.
    let allowed = (reference.len() / 3).max(1);
    if reference.len().abs_diff(id.len()) > allowed {
        return None;
    }
    let distance = strsim::osa_distance(reference, id);
    let length = reference.chars().count().max(id.chars().count());
    (distance <= allowed && distance < length).then_some(distance)
}

#[cfg(test)]
mod tests;
