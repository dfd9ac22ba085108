//! Sets the status of the task in the graph of a tree.
//!
//! The worker marks a task as done in the working tree. That is not enough if the working tree has no graph, for example
//! after `git sparse-checkout`, and it is wrong if the commit turns out not to be the whole work.

use std::fs;

use super::errors::{io_failure, run};
use super::left_behind::LeftBehind;
use super::repository::PrivateRepository;
use crate::git::Git;
use crate::scud::GRAPH_PATH;
use crate::scud::Project;
use crate::task::{Failure, Status, Task};

/// Returns the tree with the changed graph, or the same tree if the graph cannot be changed.
pub async fn set_status_in_tree(
    git: &Git<'_>,
    repository: &PrivateRepository,
    tree: String,
    task: &Task,
    status: Status,
    left_behind: &mut LeftBehind,
) -> Result<String, Failure> {
    let dir = tempfile::tempdir().map_err(|error| io_failure(&error))?;
    let file = dir.path().join(GRAPH_PATH);
    let mut graph = Vec::new();
    let show = repository
        .call(["cat-file", "blob"])
        .arg(format!("{tree}:{GRAPH_PATH}"));
    let shown = git
        .stream(show, &mut |bytes| graph.extend_from_slice(bytes))
        .await;
    if shown.is_err() {
        left_behind.add_sentence(format!(
            "the graph could not be marked, because {GRAPH_PATH} was deleted"
        ));
        return Ok(tree);
    }
    let written =
        fs::create_dir_all(file.with_file_name("")).and_then(|()| fs::write(&file, graph));
    written.map_err(|error| io_failure(&error))?;
    let project = Project::at(dir.path().to_owned());
    if let Err(error) = project.set_status(task, status).await {
        left_behind.add_sentence(format!("the graph could not be marked: {error}"));
        return Ok(tree);
    }
    let blob = run(
        git,
        repository
            .call(["hash-object", "-w", "--no-filters"])
            .arg(&file),
    )
    .await?;
    run(git, repository.call(["read-tree"]).arg(&tree)).await?;
    let update = repository.call(["update-index", "--cacheinfo"]);
    run(git, update.arg(format!("100644,{blob},{GRAPH_PATH}"))).await?;
    run(git, repository.call(["write-tree"])).await
}
