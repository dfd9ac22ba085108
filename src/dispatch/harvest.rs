//! Searches for finished work of lost runs: a worker may push its branch and then be killed before it reports.
//!
//! A search may ask a remote repository, so it runs as a background task.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::integration::{Integration, IntegrationError, RunBranch, RunBranches};

/// How often a failed search is tried before the run counts as one without finished work.
const ATTEMPTS: u32 = 5;
/// The pause between two attempts of a search.
const PAUSE: Duration = Duration::from_secs(5);

/// The searches for the branches of lost runs.
#[derive(Debug)]
pub struct BranchSearches {
    branches: RunBranches,
    searches: HashMap<String, Search>,
    running: JoinSet<(String, Result<Vec<RunBranch>, IntegrationError>)>,
}

/// The state of the search for one run.
#[derive(Debug)]
enum Search {
    Running { attempt: u32 },
    Failed { attempt: u32, next: Instant },
    Ended(Option<RunBranch>),
}

/// The result of a lost run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Harvest {
    /// The search is not finished.
    Pending,
    /// The worker has printed its report.
    Report,
    /// The branch with the finished work.
    Branch(RunBranch),
    /// Neither a report nor finished work.
    NotFound,
}

impl BranchSearches {
    pub fn new(branches: RunBranches) -> Self {
        Self {
            branches,
            searches: HashMap::new(),
            running: JoinSet::new(),
        }
    }

    /// The result of the search for a run. Starts the search at the first call. Must run in a
    /// [`tokio::task::LocalSet`].
    pub fn result_of(&mut self, run: &str) -> Harvest {
        let attempt = match self.searches.get(run) {
            Some(Search::Ended(None)) => return Harvest::NotFound,
            Some(Search::Ended(Some(branch))) => return Harvest::Branch(branch.clone()),
            Some(Search::Running { .. }) => return Harvest::Pending,
            Some(Search::Failed { next, .. }) if *next > Instant::now() => {
                return Harvest::Pending;
            }
            Some(Search::Failed { attempt, .. }) => attempt + 1,
            None => 1,
        };
        let (branches, run) = (self.branches.clone(), run.to_owned());
        self.searches
            .insert(run.clone(), Search::Running { attempt });
        self.running.spawn_local(async move {
            let found = branches.find(&run).await;
            (run, found)
        });
        Harvest::Pending
    }

    /// Forgets what was found for a run that starts now: it has yet to push its work.
    pub fn forget(&mut self, run: &str) {
        self.searches.remove(run);
    }

    /// Waits for the end of a search, and stores its result; `None` if no search runs.
    pub async fn next(&mut self) -> Option<()> {
        let ended = self.running.join_next().await?;
        let Ok((run, found)) = ended else {
            // A search panicked. The error does not say which one, so all running searches count as failed.
            self.fail_running();
            return Some(());
        };
        let attempt = match self.searches.get(&run) {
            Some(Search::Running { attempt }) => *attempt,
            _ => 1,
        };
        let search = match found {
            Ok(branches) => Search::Ended(finished_work(branches, &run)),
            Err(error) => retry_search(&run, attempt, &error),
        };
        self.searches.insert(run, search);
        Some(())
    }

    /// Marks all running searches as failed.
    fn fail_running(&mut self) {
        let next = Instant::now() + PAUSE;
        for search in self.searches.values_mut() {
            if let Search::Running { attempt } = *search {
                *search = Search::Failed { attempt, next };
            }
        }
    }
}

/// Logs a failed search; it is tried again until [`ATTEMPTS`].
fn retry_search(run: &str, attempt: u32, error: &IntegrationError) -> Search {
    tracing::warn!(
        run,
        attempt,
        error = error as &dyn std::error::Error,
        "the search for the branch of a lost run failed"
    );
    if attempt >= ATTEMPTS {
        return Search::Ended(None);
    }
    let next = Instant::now() + PAUSE;
    Search::Failed { attempt, next }
}

/// The branch with the finished work of a run. Its newest commit must name the run. Other branches of the run hold
/// unfinished work, or were pushed by the agent.
fn finished_work(branches: Vec<RunBranch>, run: &str) -> Option<RunBranch> {
    let name = Integration::run_branch(run);
    let is_finished = |branch: &RunBranch| {
        let mut ids = branch.run_id.split(',');
        branch.name == name && !branch.is_partial && ids.any(|id| id.trim() == run)
    };
    branches.into_iter().find(is_finished)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(name: &str, run_id: &str, is_partial: bool) -> RunBranch {
        RunBranch {
            name: name.to_owned(),
            commit: "c".to_owned(),
            run_id: run_id.to_owned(),
            task_id: "p:1".to_owned(),
            is_partial,
        }
    }

    #[test]
    fn only_the_result_branch_whose_newest_commit_names_the_run_counts_as_finished_work() {
        let result = Integration::run_branch("r-1");
        let others = vec![
            branch(&format!("{result}-wip"), "r-1", true),
            branch(&format!("{result}-mine"), "r-1", false),
            branch(&result, "r-2", false),
            branch(&result, "", false),
        ];
        assert_eq!(finished_work(others.clone(), "r-1"), None);
        let finished = branch(&result, "r-0,r-1", false);
        let all = [others, vec![finished.clone()]].concat();
        assert_eq!(finished_work(all, "r-1"), Some(finished));
    }
}
