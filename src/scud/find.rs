//! Which task is meant: by phase and id, by the given tag, by an id that is unique, by the active tag.
//!
//! Every refusal says what would have worked. It does not judge dependencies: whether a task may run before them
//! is the caller's decision.

use std::fmt;
use std::path::PathBuf;

use super::graph::{Candidate, Reference, Spelling, Survey, local};
use super::lexer::Flaw;
use super::{FileError, GRAPH, Malformed, Project, TextError, files, graph_text};
use crate::task::{Status, Task};

const ACTIVE_TAG: &[&str] = &[".scud", "active-tag"];
/// A tag is a word.
const ACTIVE_TAG_LIMIT: u64 = 4 << 10;

/// A task as it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// `8` or `phase:8`.
    pub reference: &'a str,
    /// The phase to look in, where the reference names none.
    pub tag: Option<&'a str>,
    pub actionable: Actionable,
}

/// Whether a task that is done, cancelled or expanded may be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actionable {
    Required,
    Forced,
}

/// Why there is no task to run.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    #[error(transparent)]
    File(FileError),
    #[error(transparent)]
    Malformed(Malformed),
    #[error("no phase `{tag}` in {}, which holds {phases}", path.display())]
    PhaseNotFound {
        tag: String,
        path: PathBuf,
        phases: Names,
    },
    #[error("no task `{reference}` in {}, {}", path.display(), hint(closest, phases))]
    NotFound {
        reference: String,
        path: PathBuf,
        /// What the reference may be a slip of, the closest first; with the phase where an id repeats.
        closest: Vec<String>,
        phases: Names,
    },
    #[error("the task `{reference}` of {} is in several phases: {phases}", path.display())]
    Ambiguous {
        reference: String,
        path: PathBuf,
        phases: Names,
    },
    #[error("the task `{id}` of the phase `{phase}` is {status}")]
    NotActionable {
        id: String,
        phase: String,
        status: Status,
    },
}

impl From<TextError> for FindError {
    fn from(error: TextError) -> Self {
        match error {
            TextError::File(error) => Self::File(error),
            TextError::Malformed(error) => Self::Malformed(error),
        }
    }
}

fn hint(closest: &[String], phases: &Names) -> String {
    if closest.is_empty() {
        return format!("which holds {phases}");
    }
    let quoted: Vec<_> = closest.iter().map(|id| format!("`{id}`")).collect();
    format!("the closest: {}", quoted.join(", "))
}

/// The names of phases, as many as a message can bear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    pub shown: Vec<String>,
    pub omitted: usize,
}

impl Names {
    fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        /// A project has a handful of phases; a broken file may have millions.
        const SHOWN: usize = 12;
        let mut this = Self {
            shown: Vec::new(),
            omitted: 0,
        };
        for name in names {
            if this.shown.len() < SHOWN {
                this.shown.push(name.to_owned());
            } else {
                this.omitted += 1;
            }
        }
        this
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shown.is_empty() {
            return f.write_str("no phases");
        }
        write!(f, "`{}`", self.shown.join("`, `"))?;
        match self.omitted {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl Project {
    /// The task that is wanted, with everything the graph says about it.
    pub async fn find(&self, wanted: &Wanted<'_>) -> Result<Task, FindError> {
        let path = self.path(GRAPH);
        let file = files::open_locked(&self.root, GRAPH, files::Access::Read).await;
        let file = file.map_err(FindError::File)?;
        let text = graph_text(&file, &path)?;
        drop(file);
        let malformed = |flaw: Flaw| FindError::Malformed(Malformed::new(&path, flaw));

        let reference = Reference::Spelled(wanted.reference);
        let survey = Survey::of(&text, reference).map_err(malformed)?;
        let phase = self.choose(&survey, wanted)?;
        let candidate = survey.sole(phase).map_err(malformed)?;
        let task = survey.task(candidate).map_err(malformed)?;
        match (task.status, wanted.actionable) {
            (Status::Done | Status::Cancelled | Status::Expanded, Actionable::Required) => {
                Err(FindError::NotActionable {
                    id: task.id,
                    phase: task.phase,
                    status: task.status,
                })
            }
            _ => Ok(task),
        }
    }

    /// The index of the phase whose candidate is meant.
    fn choose(&self, survey: &Survey<'_>, wanted: &Wanted<'_>) -> Result<usize, FindError> {
        let tag_of = |candidate: &Candidate<'_>| survey.phases[candidate.phase].tag;
        let mut meant = survey.candidates.clone();
        if meant.iter().any(|one| one.spelling == Spelling::WithPhase) {
            meant.retain(|one| one.spelling == Spelling::WithPhase);
        } else if let Some(tag) = wanted.tag {
            if survey.phases.iter().all(|phase| phase.tag != tag) {
                return Err(FindError::PhaseNotFound {
                    tag: tag.to_owned(),
                    path: self.path(GRAPH),
                    phases: Names::of(survey.phases.iter().map(|phase| phase.tag)),
                });
            }
            meant.retain(|one| tag_of(one) == tag);
        }
        let Some(first) = meant.first() else {
            return Err(self.not_found(survey, wanted));
        };
        // Equal tags are one phase to a person, and for `Survey::sole` to refuse.
        if meant.iter().all(|one| tag_of(one) == tag_of(first)) {
            return Ok(first.phase);
        }
        if let Some(active) = self.active_tag().map_err(FindError::File)?
            && let Some(chosen) = meant.iter().find(|one| tag_of(one) == active)
        {
            return Ok(chosen.phase);
        }
        let mut tags: Vec<_> = meant.iter().map(tag_of).collect();
        tags.dedup();
        Err(FindError::Ambiguous {
            reference: wanted.reference.to_owned(),
            path: self.path(GRAPH),
            phases: Names::of(tags.into_iter()),
        })
    }

    /// The phase that the user chose with `scud tags`, if any.
    fn active_tag(&self) -> Result<Option<String>, FileError> {
        let path = self.path(ACTIVE_TAG);
        let bytes = match files::open(&self.root, ACTIVE_TAG, files::Access::Read) {
            Ok(file) => files::read(&file, &path, ACTIVE_TAG_LIMIT)?,
            Err(FileError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Whatever is not UTF-8 is no phase's name either.
        let tag = String::from_utf8_lossy(&bytes).trim().to_owned();
        Ok((!tag.is_empty()).then_some(tag))
    }

    fn not_found(&self, survey: &Survey<'_>, wanted: &Wanted<'_>) -> FindError {
        FindError::NotFound {
            reference: wanted.reference.to_owned(),
            path: self.path(GRAPH),
            closest: closest(survey, wanted),
            phases: Names::of(survey.phases.iter().map(|phase| phase.tag)),
        }
    }
}

/// A node that the reference may be a slip of; sorts the closest first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Near<'a> {
    distance: usize,
    /// Among equally close ones the file's order is the reader's.
    line: usize,
    id: &'a str,
    tag: &'a str,
}

/// The ids that the reference may be a slip of.
fn closest(survey: &Survey<'_>, wanted: &Wanted<'_>) -> Vec<String> {
    /// As many as a person reads at a glance.
    const SHOWN: usize = 4;
    /// Enough to see which of the shown ids repeat; a broken graph has millions that are equally close.
    const KEPT: usize = 256;
    let mut near: Vec<Near<'_>> = Vec::new();
    for (phase, node) in survey.nodes() {
        let tag = survey.phases[phase].tag;
        let id = local(tag, node.id());
        let distance = if id == wanted.reference {
            // It is there, only not in the phase that was asked for.
            Some(0)
        } else if wanted.tag.is_some_and(|wanted| wanted != tag) {
            None
        } else {
            distance(wanted.reference, tag, id)
        };
        let line = node.line;
        near.extend(distance.map(|distance| Near {
            distance,
            line,
            id,
            tag,
        }));
        if near.len() >= 2 * KEPT {
            near.sort_unstable();
            near.truncate(KEPT);
        }
    }
    near.sort_unstable();
    let spell = |one: &Near<'_>| {
        let elsewhere = |other: &Near<'_>| other.id == one.id && other.tag != one.tag;
        if one.distance == 0 || wanted.reference.contains(':') || near.iter().any(elsewhere) {
            format!("{}:{}", one.tag, one.id)
        } else {
            one.id.to_owned()
        }
    };
    near.iter().take(SHOWN).map(spell).collect()
}

/// How many slips lead from `reference` to a node, if few enough to be slips.
fn distance(reference: &str, tag: &str, id: &str) -> Option<usize> {
    /// Longer than any id that SCUD accepts, short enough to compare with all.
    const LONGEST: usize = 128;
    let named;
    let id = if reference.contains(':') {
        named = format!("{tag}:{id}");
        &named
    } else {
        id
    };
    if id.is_empty() || reference.len() > LONGEST || id.len() > LONGEST {
        return None;
    }
    // `scud list` shows the first 8 digits of a UUID.
    if reference.len() >= 8 && id.starts_with(reference) {
        return Some(1);
    }
    // One slip in three, and something must be right: `7` is no slip of `9`.
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
