//! Merges without a work tree: `merge-tree` makes the tree, `commit-tree` the commit, with dates that are
//! always the same.

use std::fmt::Write;

use super::branch::Integration;
use super::error::IntegrationError;
use super::repository::{Blob, identity, with_input};
use super::types::{Candidate, Commit, Conflict, FinishedRun, Merged, Other, WorkChecks};
use crate::git::Git;
use crate::scud::set_status_in_bytes;
use crate::task::Status;

/// The path of the graph in a project.
pub const GRAPH: &str = ".scud/tasks/tasks.scg";

/// A merged tree, or the paths that conflict.
pub(super) enum Tree {
    Clean(String),
    Conflicts(Vec<String>),
}

impl Integration {
    /// Merges the commit of a finished run into `onto`: the tip, or another candidate. Moves nothing. The same
    /// merge gives the same commit again.
    pub async fn merge(
        &self,
        onto: &Commit,
        run: &FinishedRun,
    ) -> Result<Merged, IntegrationError> {
        let git = self.place.git()?;
        let (work, is_in) = self.commit_of(&git, run, onto).await?;
        if is_in {
            return Ok(Merged::AlreadyIn);
        }
        let merged = match self.merge_trees(&git, &onto.id, &work.id).await? {
            Tree::Clean(tree) => tree,
            Tree::Conflicts(files) => {
                let others = self.who_changed(&git, &onto.id, &work.id, &files).await?;
                return Ok(Merged::Conflict(Conflict { files, others }));
            }
        };
        let needs_verification = merged != work.tree || run.checks == WorkChecks::Unknown;
        let tree = self.mark_done(&git, onto, merged, run).await?;
        let parents = [onto.id.as_str(), work.id.as_str()];
        let seconds = run.time.as_second();
        let message = self.message(run);
        let commit = self
            .commit(&git, &tree, &parents, &message, seconds)
            .await?;
        Ok(Merged::Merged(Candidate {
            commit: Commit { id: commit, tree },
            run_id: run.run_id.clone(),
            needs_verification,
        }))
    }

    /// The commit of a run, fetched from the remote if it is not here yet, and whether `onto` has it already.
    async fn commit_of(
        &self,
        git: &Git<'_>,
        run: &FinishedRun,
        onto: &Commit,
    ) -> Result<(Commit, bool), IntegrationError> {
        let repository = &self.place.repository;
        if let Some(found) = repository.resolve_for(git, &run.commit, &onto.id).await? {
            return Ok(found);
        }
        self.place.fetch_run_branches(git, &run.run_id).await?;
        let found = repository.resolve_for(git, &run.commit, &onto.id).await?;
        found.ok_or_else(|| IntegrationError::NoCommit {
            commit: run.commit.clone(),
            branch: run.branch.clone(),
            run_id: run.run_id.clone(),
        })
    }

    pub(super) async fn merge_trees(
        &self,
        git: &Git<'_>,
        ours: &str,
        theirs: &str,
    ) -> Result<Tree, IntegrationError> {
        let call = self.place.repository.call([
            "merge-tree",
            "--write-tree",
            "-z",
            "--name-only",
            "--no-messages",
            ours,
            theirs,
        ]);
        let what = format!("{theirs} cannot be merged");
        let finished = self.place.repository.ask(git, &what, call).await?;
        let text = String::from_utf8_lossy(&finished.output).into_owned();
        // The tree, then the paths that conflict, each of them with a zero byte at its end.
        let mut parts = text.split('\0').filter(|part| !part.is_empty());
        let Some(tree) = parts.next() else {
            return Err(IntegrationError::Unexpected {
                command: "merge-tree".to_owned(),
                output: text,
            });
        };
        Ok(match finished.code {
            0 => Tree::Clean(tree.to_owned()),
            _ => Tree::Conflicts(parts.map(str::to_owned).collect()),
        })
    }

    /// The commits on the branch that changed these files since the run began.
    async fn who_changed(
        &self,
        git: &Git<'_>,
        onto: &str,
        work: &str,
        files: &[String],
    ) -> Result<Vec<Other>, IntegrationError> {
        let format = "--format=%(trailers:key=Task-Id,valueonly,separator=%x2C)%x09%s";
        let range = format!("{work}..{onto}");
        let call = self.place.repository.call([
            "--literal-pathspecs",
            "log",
            "--first-parent",
            format,
            &range,
            "--",
        ]);
        let call = call.args(files.iter().map(Into::into));
        let what = "the history of the integration branch cannot be read";
        let text = self.place.repository.run(git, what, call).await?;
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        Ok(lines
            .map(|(task_id, subject)| Other {
                task_id: (!task_id.is_empty()).then(|| task_id.to_owned()),
                subject: subject.to_owned(),
            })
            .collect())
    }

    /// The same tree with the task marked as done: the worker has done that already, unless the agent undid it.
    /// A graph that the agent has deleted or broken is replaced by the graph of `onto`, because without a graph
    /// no further task could run.
    async fn mark_done(
        &self,
        git: &Git<'_>,
        onto: &Commit,
        merged: String,
        run: &FinishedRun,
    ) -> Result<String, IntegrationError> {
        let repository = &self.place.repository;
        let set_done =
            |graph: &mut [u8]| set_status_in_bytes(graph, &run.phase, &run.task, Status::Done);
        let content = repository.read_content(git, &merged, GRAPH).await?;
        if let Some(mut content) = content
            && let Ok(changed) = set_done(&mut content)
        {
            if !changed {
                return Ok(merged);
            }
            if let Some(graph) = repository.read_file(git, &merged, GRAPH).await? {
                let graph = Blob { content, ..graph };
                return repository.replace_file(git, &merged, GRAPH, &graph).await;
            }
        }
        let Some(mut graph) = repository.read_file(git, &onto.tree, GRAPH).await? else {
            return Ok(merged);
        };
        tracing::warn!(
            run = run.run_id,
            "the run has deleted or broken the task graph; the graph of the branch stays"
        );
        set_done(&mut graph.content)?;
        repository.replace_file(git, &merged, GRAPH, &graph).await
    }

    pub(super) async fn commit(
        &self,
        git: &Git<'_>,
        tree: &str,
        parents: &[&str],
        message: &str,
        seconds: i64,
    ) -> Result<String, IntegrationError> {
        let call = self
            .place
            .repository
            .call(["commit-tree", "--no-gpg-sign", tree]);
        let parents = parents.iter().flat_map(|parent| ["-p", parent]);
        let call = call
            .args(parents.map(Into::into))
            .variables(&identity(&self.place.settings, seconds));
        let call = with_input(call, message.as_bytes())?;
        let what = "the merge cannot be committed";
        self.place.repository.run(git, what, call).await
    }

    fn message(&self, run: &FinishedRun) -> String {
        let title = run.title.lines().next().unwrap_or_default();
        let mut message = format!("Merge task {}: {title}\n\n", run.task_id);
        let trailers = [
            ("Task-Id", &run.task_id),
            ("Run-Id", &run.run_id),
            ("Dispatch-Id", &self.place.settings.dispatch_id),
        ];
        for (name, value) in trailers {
            // Writing to a string does not fail.
            let _ = writeln!(message, "{name}: {value}");
        }
        self.place.settings.redactor.text(&message)
    }
}
