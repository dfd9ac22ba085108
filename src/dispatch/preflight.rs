//! What would go wrong later in a dispatch, found before anything starts.
//!
//! Reads only: the user's index is not refreshed, and a push is tried without effect.

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::integration::{Integration, IntegrationError};
use crate::programs::{Lookup, look_up};
use crate::scud::Project;

/// The path of the graph in a project.
const GRAPH: &str = ".scud/tasks/tasks.scg";
/// The path of the project's settings, which name the checks.
const CONFIG: &str = ".scud/config.toml";
/// The most changed files that a warning names.
const MAX_NAMED_FILES: usize = 5;

/// What only the caller knows.
#[derive(Debug)]
pub struct Questions<'a> {
    /// The search path for the programs of checks; `None` if the workers run on other machines.
    pub path: Option<&'a OsStr>,
    /// The checks that the settings name instead of the project's.
    pub checks: Option<&'a [String]>,
    /// What the agent needs and does not have.
    pub missing_agent: Option<String>,
}

/// Sentences for a person.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// With these, nothing should start.
    pub obstacles: Vec<String>,
    pub warnings: Vec<String>,
}

/// Looks at everything that the runs will need.
pub async fn preflight(
    integration: &Integration,
    questions: &Questions<'_>,
) -> Result<Findings, IntegrationError> {
    let mut findings = Findings::default();
    findings.obstacles.extend(questions.missing_agent.clone());
    graph(integration, &mut findings).await?;
    if let Some(path) = questions.path {
        checks(integration, path, questions.checks, &mut findings).await?;
    }
    changes(integration, &mut findings).await?;
    let branch = integration.branch();
    if let Some(dir) = integration.checked_out_in().await? {
        findings.warnings.push(format!(
            "the branch {branch} is checked out in {dir}, so it will not move there; check out another branch, and it \
             moves with the next merge"
        ));
    }
    if let Some(why) = integration.push_refusal().await? {
        findings.obstacles.push(format!(
            "{} refuses a push: {why}",
            integration.source_name()
        ));
    }
    Ok(findings)
}

/// The graph must be in the commit that the workers clone.
async fn graph(integration: &Integration, findings: &mut Findings) -> Result<(), IntegrationError> {
    if integration
        .read_file(integration.tip(), GRAPH)
        .await?
        .is_some()
    {
        return Ok(());
    }
    let commit = &integration.tip().id;
    let in_work_tree = integration
        .work_tree()
        .is_some_and(|dir| dir.join(GRAPH).exists());
    findings.obstacles.push(if !in_work_tree {
        format!("there is no task graph {GRAPH} in the commit {commit}; make one with scud, and commit it")
    } else if integration.ignores(GRAPH).await? {
        format!(
            "git ignores the task graph {GRAPH}, so no worker would have it: remove the rule from .gitignore, and commit \
             the graph"
        )
    } else {
        format!(
            "the task graph {GRAPH} is not in the commit {commit}, so no worker would have it: git add .scud, and commit it"
        )
    });
    Ok(())
}

/// The programs of the checks must exist. A program in the project may still be made by a task.
async fn checks(
    integration: &Integration,
    path: &OsStr,
    replaced: Option<&[String]>,
    findings: &mut Findings,
) -> Result<(), IntegrationError> {
    let commands = match replaced {
        Some(commands) => commands.to_vec(),
        None => match integration.read_file(integration.tip(), CONFIG).await? {
            None => return Ok(()),
            Some(config) => match commands_of(&config) {
                Ok(commands) => commands,
                Err(why) => {
                    findings.obstacles.push(why);
                    return Ok(());
                }
            },
        },
    };
    for command in commands {
        if let Lookup::Missing(word) = look_up(&command, path, None) {
            findings.obstacles.push(format!(
                "the check `{command}` cannot start: there is no executable program `{word}`; correct the command, or \
                 install the program"
            ));
        }
    }
    Ok(())
}

/// The checks in the text of the project's settings.
fn commands_of(config: &[u8]) -> Result<Vec<String>, String> {
    let dir = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    let file = dir.path().join(CONFIG);
    let made = fs::create_dir_all(file.parent().unwrap_or(Path::new("/")));
    made.and_then(|()| fs::write(&file, config))
        .map_err(|error| format!("{} cannot be written: {error}", file.display()))?;
    let checks = Project::at(dir.path().to_owned()).checks();
    let prefix = format!("{}/", dir.path().display());
    checks
        .map(|checks| checks.commands)
        .map_err(|error| error.to_string().replace(&prefix, ""))
}

/// Runs see commits only, and not what is merely in the work tree.
async fn changes(
    integration: &Integration,
    findings: &mut Findings,
) -> Result<(), IntegrationError> {
    let files = integration.uncommitted_files().await?;
    let named: Vec<&str> = files
        .iter()
        .take(MAX_NAMED_FILES)
        .map(String::as_str)
        .collect();
    let further = match files.len().saturating_sub(named.len()) {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    if !named.is_empty() {
        findings.warnings.push(format!(
            "no task will see what is not committed: {}{further}",
            named.join(", ")
        ));
    }
    Ok(())
}
