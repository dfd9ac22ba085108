//! Finds problems that would make a dispatch fail later, before it starts.
//!
//! Changes nothing: the user's index is not refreshed, and the push is a dry run.

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
/// The path of the project's settings with the checks.
const CONFIG: &str = ".scud/config.toml";
/// The maximum number of changed files that a warning names.
const MAX_NAMED_FILES: usize = 5;

/// What to check, as far as the settings decide it.
#[derive(Debug)]
pub struct Questions<'a> {
    /// The search path for the programs of checks; `None` if the workers run on other machines.
    pub path: Option<&'a OsStr>,
    /// Check commands that replace the project's.
    pub checks: Option<&'a [String]>,
    /// An error message if the agent cannot run, for example because its program is missing.
    pub missing_agent: Option<String>,
}

/// Messages for the user.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Problems that prevent the dispatch.
    pub obstacles: Vec<String>,
    pub warnings: Vec<String>,
}

/// Checks everything that the runs will need.
pub async fn preflight(
    integration: &Integration,
    questions: &Questions<'_>,
) -> Result<Findings, IntegrationError> {
    let mut findings = Findings::default();
    findings.obstacles.extend(questions.missing_agent.clone());
    check_graph(integration, &mut findings).await?;
    if let Some(path) = questions.path {
        check_programs(integration, path, questions.checks, &mut findings).await?;
    }
    check_changes(integration, &mut findings).await?;
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
async fn check_graph(
    integration: &Integration,
    findings: &mut Findings,
) -> Result<(), IntegrationError> {
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

/// The programs of the checks must exist. A program inside the project is not looked for, because a task may create it.
async fn check_programs(
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

/// Workers clone commits, so they do not see uncommitted changes of the work tree.
async fn check_changes(
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
            "uncommitted changes, which no task will see: {}{further}",
            named.join(", ")
        ));
    }
    Ok(())
}
