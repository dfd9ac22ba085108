//! Merges without a work tree: `git merge-tree` writes the tree and `git commit-tree` the commit. The date of the
//! commit is the date of the run's report, so that the same merge always gives the same commit.

use std::fmt::Write;

use super::bare_repository::files::Blob;
use super::bare_repository::{identity_variables, with_input};
use super::branch::Integration;
use super::error::IntegrationError;
use super::types::{
    Candidate, Commit, Conflict, FinishedRun, MergeResult, OtherCommit, ResolvedCommit, WorkChecks,
};
use crate::git::Git;
use crate::scud::{GRAPH_PATH, TaskGraph, set_status_in_bytes};
use crate::task::Status;

/// A merged tree, or the paths that conflict.
pub(super) enum MergedTree {
    /// The id of the tree.
    Clean(String),
    /// The paths with conflicts.
    Conflicts(Vec<String>),
}

impl Integration {
    /// Merges the commit of a finished run into `onto`: the tip, or another candidate. Moves no branch. The same merge
    /// always gives the same commit.
    ///
    /// The trees are compared before the task is marked as done, because marking changes the tree. A changed letter in
    /// the graph needs no new verification.
    pub async fn merge(
        &self,
        onto: &Commit,
        run: &FinishedRun,
    ) -> Result<MergeResult, IntegrationError> {
        let git = self.repositories.git()?;
        let ResolvedCommit {
            commit: work,
            is_in_history,
        } = self.commit_of(&git, run, onto).await?;
        if is_in_history {
            return Ok(MergeResult::AlreadyMerged);
        }
        let merged_tree = match self.merge_trees(&git, &onto.id, &work.id).await? {
            MergedTree::Clean(tree) => tree,
            MergedTree::Conflicts(files) => {
                let others = self
                    .commits_that_changed(&git, &onto.id, &work.id, &files)
                    .await?;
                return Ok(MergeResult::Conflict(Conflict { files, others }));
            }
        };
        let needs_verification = merged_tree != work.tree || run.checks == WorkChecks::Unknown;
        let tree = self.mark_done(&git, onto, merged_tree, run).await?;
        let parents = [onto.id.as_str(), work.id.as_str()];
        let seconds = run.time.as_second();
        let message = self.message(run);
        let commit = self
            .commit(&git, &tree, &parents, &message, seconds)
            .await?;
        Ok(MergeResult::Clean(Candidate {
            commit: Commit { id: commit, tree },
            run_id: run.run_id.clone(),
            needs_verification,
        }))
    }

    /// The commit of a run, fetched from the remote if necessary, and whether it is in the history of `onto`.
    async fn commit_of(
        &self,
        git: &Git<'_>,
        run: &FinishedRun,
        onto: &Commit,
    ) -> Result<ResolvedCommit, IntegrationError> {
        let repository = &self.repositories.bare;
        if let Some(found) = repository
            .resolve_with_history(git, &run.commit, &onto.id)
            .await?
        {
            return Ok(found);
        }
        self.repositories
            .fetch_run_branches(git, &run.run_id)
            .await?;
        let found = repository
            .resolve_with_history(git, &run.commit, &onto.id)
            .await?;
        found.ok_or_else(|| IntegrationError::NoCommit {
            commit: run.commit.clone(),
            branch: run.branch.clone(),
            run_id: run.run_id.clone(),
        })
    }

    /// Merges the trees of two commits.
    pub(super) async fn merge_trees(
        &self,
        git: &Git<'_>,
        ours: &str,
        theirs: &str,
    ) -> Result<MergedTree, IntegrationError> {
        let call = self.repositories.bare.call([
            "merge-tree",
            "--write-tree",
            "-z",
            "--name-only",
            "--no-messages",
            ours,
            theirs,
        ]);
        let what = format!("{theirs} cannot be merged");
        let finished = self
            .repositories
            .bare
            .run_allowing_exit_code_1(git, &what, call)
            .await?;
        let text = String::from_utf8_lossy(&finished.stdout).into_owned();
        // The output is the id of the tree, then the paths that conflict. A zero byte follows each of them.
        let mut parts = text.split('\0').filter(|part| !part.is_empty());
        let Some(tree) = parts.next() else {
            return Err(IntegrationError::Unexpected {
                command: "merge-tree".to_owned(),
                output: text,
            });
        };
        Ok(match finished.exit_code {
            0 => MergedTree::Clean(tree.to_owned()),
            _ => MergedTree::Conflicts(parts.map(str::to_owned).collect()),
        })
    }

    /// The commits in the history of `onto` that changed these files and that are not in the history of the commit
    /// `work`.
    async fn commits_that_changed(
        &self,
        git: &Git<'_>,
        onto: &str,
        work: &str,
        files: &[String],
    ) -> Result<Vec<OtherCommit>, IntegrationError> {
        let format = "--format=%(trailers:key=Task-Id,valueonly,separator=%x2C)%x09%s";
        let range = format!("{work}..{onto}");
        let call = self.repositories.bare.call([
            "--literal-pathspecs",
            "log",
            "--first-parent",
            format,
            &range,
            "--",
        ]);
        let call = call.args(files.iter().map(Into::into));
        let what = "the history of the integration branch cannot be read";
        let text = self.repositories.bare.run(git, what, call).await?;
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        Ok(lines
            .map(|(task_id, subject)| OtherCommit {
                task_id: (!task_id.is_empty()).then(|| task_id.to_owned()),
                subject: subject.to_owned(),
            })
            .collect())
    }

    /// Marks the task as done in the graph of a merged tree, and returns the new tree. Usually the worker has marked it
    /// already, but the agent may have removed the mark. If the agent has deleted or broken the graph, the graph of
    /// `onto` replaces it, because without a graph no further task could run.
    async fn mark_done(
        &self,
        git: &Git<'_>,
        onto: &Commit,
        merged_tree: String,
        run: &FinishedRun,
    ) -> Result<String, IntegrationError> {
        let repository = &self.repositories.bare;
        let set_done = |graph: &mut [u8]| {
            set_status_in_bytes(graph, &run.phase, &run.id_in_phase, Status::Done)
        };
        let content = repository
            .read_content(git, &merged_tree, GRAPH_PATH)
            .await?;
        if let Some(mut content) = content
            && let Ok(changed) = set_done(&mut content)
            && str::from_utf8(&content).is_ok_and(|text| TaskGraph::parse(text).is_ok())
        {
            if !changed {
                return Ok(merged_tree);
            }
            if let Some(graph) = repository.read_file(git, &merged_tree, GRAPH_PATH).await? {
                let graph = Blob { content, ..graph };
                return repository
                    .replace_file(git, &merged_tree, GRAPH_PATH, &graph)
                    .await;
            }
        }
        let Some(mut graph) = repository.read_file(git, &onto.tree, GRAPH_PATH).await? else {
            return Ok(merged_tree);
        };
        tracing::warn!(
            run = run.run_id,
            "the run has deleted or broken the task graph, so the graph of the integration branch replaces it"
        );
        set_done(&mut graph.content)?;
        repository
            .replace_file(git, &merged_tree, GRAPH_PATH, &graph)
            .await
    }

    /// Writes a commit; returns its id. `seconds` is its date, in seconds since 1970.
    pub(super) async fn commit(
        &self,
        git: &Git<'_>,
        tree: &str,
        parents: &[&str],
        message: &str,
        seconds: i64,
    ) -> Result<String, IntegrationError> {
        let call = self
            .repositories
            .bare
            .call(["commit-tree", "--no-gpg-sign", tree]);
        let parents = parents.iter().flat_map(|parent| ["-p", parent]);
        let call = call
            .args(parents.map(Into::into))
            .variables(&identity_variables(&self.repositories.settings, seconds));
        let call = with_input(call, message.as_bytes())?;
        let what = "the merge cannot be committed";
        self.repositories.bare.run(git, what, call).await
    }

    /// The message of a merge commit.
    fn message(&self, run: &FinishedRun) -> String {
        let title = run.title.lines().next().unwrap_or_default();
        let mut message = format!("Merge task {}: {title}\n\n", run.task_id);
        let trailers = [
            ("Task-Id", &run.task_id),
            ("Run-Id", &run.run_id),
            ("Dispatch-Id", &self.repositories.settings.dispatch_id),
        ];
        for (name, value) in trailers {
            // Writing to a string does not fail.
            let _ = writeln!(message, "{name}: {value}");
        }
        self.repositories.settings.redactor.mask(&message)
    }
}
