//! Finds the project, the phase, the branch and the state directory of a dispatch.

use std::collections::BTreeSet;
use std::path::PathBuf;

use eyre::{WrapErr, bail};

use super::integration::Source;
use super::names::short_hash;
use super::settings::{Phases, Settings};
use crate::scud::{Project, TaskGraph};
use crate::task_list::choose_phases;

/// The project, the branch and the state directory that the settings select.
#[derive(Debug)]
pub struct Target {
    /// The integration branch.
    pub branch: String,
    pub state_dir: PathBuf,
    /// The repository of the project.
    pub source: Source,
    /// The project's name in messages.
    pub name: String,
    /// The phase to work on; `None` for all.
    phase: Option<String>,
}

impl Target {
    /// Finds the target of the settings. Reads the active phase from the project if the settings name no phase.
    pub async fn find(settings: &Settings) -> eyre::Result<Self> {
        let source = match &settings.source {
            Source::Local(dir) => {
                Source::Local(std::fs::canonicalize(dir).wrap_err_with(|| {
                    format!("cannot use the project's directory {}", dir.display())
                })?)
            }
            remote @ Source::Remote(_) => remote.clone(),
        };
        let phase = choose_phase(settings, &source).await?;
        let branch = match (&settings.branch, &phase) {
            (Some(branch), _) => branch.clone(),
            (None, Some(phase)) => format!("descartes/{}", safe_name(phase)),
            (None, None) => {
                bail!("--all-phases needs --branch, the name of the branch for the merged work")
            }
        };
        let address = match &source {
            Source::Local(dir) => dir.to_string_lossy().into_owned(),
            Source::Remote(url) => url.clone(),
        };
        let name = address.trim_end_matches('/').trim_end_matches(".git");
        let name = name.rsplit(['/', ':']).next().unwrap_or_default();
        let state_dir = settings.state_dir.clone().unwrap_or_else(|| {
            let hash = short_hash(&format!("{address}\n{branch}"));
            settings
                .state_root
                .join(format!("{}-{hash}", safe_name(name)))
        });
        Ok(Self {
            name: if name.is_empty() { "project" } else { name }.to_owned(),
            branch,
            state_dir: std::path::absolute(&state_dir)?,
            source,
            phase,
        })
    }

    /// The phases of the graph to work on.
    pub fn phases(&self, graph: &TaskGraph) -> eyre::Result<BTreeSet<String>> {
        match &self.phase {
            Some(phase) => choose_phases(graph, Some(phase), None),
            None => Ok(graph.phases.iter().cloned().collect()),
        }
    }
}

/// The phase to work on; `None` for all.
async fn choose_phase(settings: &Settings, source: &Source) -> eyre::Result<Option<String>> {
    match (&settings.phases, source) {
        (Phases::All, _) => Ok(None),
        (Phases::Tag(tag), _) => Ok(Some(tag.clone())),
        (Phases::Active, Source::Remote(_)) => {
            bail!("with --repo, name the phase with --tag, or use --all-phases")
        }
        (Phases::Active, Source::Local(dir)) => {
            let project = Project::at(dir.clone());
            let graph = project.all_tasks().await?;
            let active = project.active_tag()?;
            let phases = choose_phases(&graph, None, active.as_deref())?;
            Ok(phases.into_iter().next())
        }
    }
}

/// The text as a part of the name of a branch or a directory: characters that git may reject become hyphens.
fn safe_name(text: &str) -> String {
    let replace_unsafe = |c: char| {
        if c.is_alphanumeric() || matches!(c, '_' | '-') {
            c
        } else {
            '-'
        }
    };
    let name: String = text.chars().map(replace_unsafe).take(60).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "project" } else { name }.to_owned()
}
