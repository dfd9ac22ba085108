//! Finds problems before a dispatch starts that would make it fail later.
//!
//! Changes nothing: the user's index is not refreshed, and the push is a dry run.

#[cfg(test)]
mod tests;

use super::integration::{Integration, IntegrationError};
use super::project_files::{ProjectRules, at_commit};
use crate::scud::GRAPH_PATH;

/// The maximum number of changed files that a warning names.
const MAX_NAMED_FILES: usize = 5;

/// The problems that the preflight has found, as messages for the user.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Problems that prevent the dispatch.
    pub obstacles: Vec<String>,
    pub warnings: Vec<String>,
}

/// Checks the files, the repository and the branch that the runs will need.
pub async fn preflight(
    integration: &Integration,
    rules: &ProjectRules,
) -> Result<Findings, IntegrationError> {
    let mut findings = Findings::default();
    let tip = integration.tip();
    let mistakes = rules.find_mistakes(integration, tip).await?;
    let mistakes = mistakes.iter().map(|mistake| at_commit(mistake, tip));
    findings.obstacles.extend(mistakes);
    check_graph(integration, &mut findings).await?;
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

/// Adds an obstacle if the commit that the workers clone has no graph.
async fn check_graph(
    integration: &Integration,
    findings: &mut Findings,
) -> Result<(), IntegrationError> {
    if integration
        .read_file(integration.tip(), GRAPH_PATH)
        .await?
        .is_some()
    {
        return Ok(());
    }
    let commit = &integration.tip().id;
    let in_work_tree = integration
        .work_tree()
        .is_some_and(|dir| dir.join(GRAPH_PATH).exists());
    findings.obstacles.push(if !in_work_tree {
        format!("there is no task graph {GRAPH_PATH} in the commit {commit}; make one with scud, and commit it")
    } else if integration.ignores(GRAPH_PATH).await? {
        format!(
            "git ignores the task graph {GRAPH_PATH}, so no worker would have it: remove the rule from .gitignore, and commit \
             the graph"
        )
    } else {
        format!(
            "the task graph {GRAPH_PATH} is not in the commit {commit}, so no worker would have it: git add .scud, and commit it"
        )
    });
    Ok(())
}

/// Adds a warning about uncommitted changes of the work tree: workers clone commits, so they do not see these changes.
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
