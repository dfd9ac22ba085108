//! Searches for finished work of lost runs: a worker may push its branch and then be killed before it reports.
//!
//! A search may ask a remote repository, so it runs as a background task.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::integration::{Integration, IntegrationError, RunBranch, RunBranches};

/// How often a search is tried before the run counts as one without finished work.
const SEARCH_ATTEMPTS: u32 = 5;
/// The pause between two attempts of a search.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// The searches for the branches of lost runs.
#[derive(Debug)]
pub struct BranchSearches {
    branches: RunBranches,
    /// The state of each search, by the id of the run.
    searches: HashMap<String, SearchState>,
    /// The background tasks of the running searches. Each returns the id of the run, and its branches.
    tasks: JoinSet<(String, Result<Vec<RunBranch>, IntegrationError>)>,
}

/// The state of the search for one run.
#[derive(Debug)]
enum SearchState {
    Running {
        attempt: u32,
    },
    /// The next attempt starts at the time `next` or later.
    Failed {
        attempt: u32,
        next: Instant,
    },
    /// The branch with the finished work, if there is one.
    Ended(Option<RunBranch>),
}

/// The result of a run that has ended without sending a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LostRunResult {
    /// The search for the branch is not finished.
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
            tasks: JoinSet::new(),
        }
    }

    /// The result of the search for a run. Starts the search at the first call. Must run in a
    /// [`tokio::task::LocalSet`].
    pub fn result_of(&mut self, run: &str) -> LostRunResult {
        let attempt = match self.searches.get(run) {
            Some(SearchState::Ended(None)) => return LostRunResult::NotFound,
            Some(SearchState::Ended(Some(branch))) => return LostRunResult::Branch(branch.clone()),
            Some(SearchState::Running { .. }) => return LostRunResult::Pending,
            Some(SearchState::Failed { next, .. }) if *next > Instant::now() => {
                return LostRunResult::Pending;
            }
            Some(SearchState::Failed { attempt, .. }) => attempt + 1,
            None => 1,
        };
        let (branches, run) = (self.branches.clone(), run.to_owned());
        self.searches
            .insert(run.clone(), SearchState::Running { attempt });
        self.tasks.spawn_local(async move {
            let found = branches.find(&run).await;
            (run, found)
        });
        LostRunResult::Pending
    }

    /// Forgets the result for a run that is started again, because it may push its work later.
    pub fn forget(&mut self, run: &str) {
        self.searches.remove(run);
    }

    /// Waits for the end of a search, and stores its result; `None` if no search runs.
    pub async fn next(&mut self) -> Option<()> {
        let joined = self.tasks.join_next().await?;
        let Ok((run, found)) = joined else {
            // A search panicked. The error does not say which one, so all running searches count as failed.
            self.fail_running();
            return Some(());
        };
        let attempt = match self.searches.get(&run) {
            Some(SearchState::Running { attempt }) => *attempt,
            _ => 1,
        };
        let search = match found {
            Ok(branches) => SearchState::Ended(finished_work(branches, &run)),
            Err(error) => retry_search(&run, attempt, &error),
        };
        self.searches.insert(run, search);
        Some(())
    }

    /// Marks all running searches as failed.
    fn fail_running(&mut self) {
        let next = Instant::now() + RETRY_PAUSE;
        for search in self.searches.values_mut() {
            if let SearchState::Running { attempt } = *search {
                *search = SearchState::Failed { attempt, next };
            }
        }
    }
}

/// Logs a failed search. Returns its new state: it waits for the next attempt, or ends after [`SEARCH_ATTEMPTS`]
/// attempts.
fn retry_search(run: &str, attempt: u32, error: &IntegrationError) -> SearchState {
    tracing::warn!(
        run,
        attempt,
        error = error as &dyn std::error::Error,
        "the search for the branch of a lost run failed"
    );
    if attempt >= SEARCH_ATTEMPTS {
        return SearchState::Ended(None);
    }
    let next = Instant::now() + RETRY_PAUSE;
    SearchState::Failed { attempt, next }
}

/// The branch with the finished work of a run; `None` if there is none. The newest commit of the branch must name the
/// run. Other branches of the run contain unfinished work, or were pushed by the agent.
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
