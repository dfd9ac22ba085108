//! Makes the final commit in the push repository, and inspects every object that a push would send.

use std::fmt::Write;
use std::fs;

use super::errors::{check_that_the_agent_is_dead, io_failure, run};
use super::parts::{CommitMessage, CommitParts, Product};
use super::repository::PrivateRepository;
use super::{branches, gitlinks, inspect, lfs, mark, patch};
use crate::git::Git;
use crate::runner::workspace::LocalClone;
use crate::scud::GRAPH_PATH;
use crate::task::{Failure, Reason, Status, Task, Work};

/// Makes the commit in a new repository, and inspects every object that a push would send.
///
/// Submodules and the graph change the tree, so they come before the commit. The inspection comes last, because it must
/// see the objects of the final commit.
pub(super) async fn build_product(
    git: &Git<'_>,
    clone: &LocalClone,
    message: &CommitMessage,
    mut parts: CommitParts,
) -> Result<Product, Failure> {
    check_that_the_agent_is_dead()?;
    let base = &clone.base;
    let repository = PrivateRepository::create(git, base, &parts.objects)?;
    repository
        .mark_as_first_commit(base)
        .map_err(|error| io_failure(&error))?;
    let publishable_head = parts.head.as_deref();
    let publishable_head = publishable_head.filter(|_| !parts.has_plain_commits);
    let tip = agents_tip(git, base, &repository, publishable_head).await;
    let is_partial = message.is_partial || parts.incomplete_reason.is_some();
    let status = message.marked_task.as_ref().and_then(|task| {
        let status = status_to_set(clone, task, is_partial)?;
        Some((task, status))
    });
    // If the staged tree becomes the final tree, and differs from that of HEAD, there is no need to ask for the tip's tree.
    let is_certainly_changed = parts.differs_from_head
        && parts.head.as_ref() == Some(&tip)
        && !parts.has_submodules
        && status.is_none();
    let (mut tree, tip_tree) = match parts.tree {
        Some(tree) if is_certainly_changed => (tree, None),
        tree => {
            let tip_tree = tree_of_tip(git, &repository, base, &tip).await?;
            (tree.unwrap_or_else(|| tip_tree.clone()), Some(tip_tree))
        }
    };
    if parts.has_submodules {
        let trees = gitlinks::Trees {
            base,
            tip: &tip,
            tree,
        };
        let left_behind = &mut parts.left_behind;
        tree = gitlinks::restore_unpublished(git, &repository, clone, &trees, left_behind).await?;
    }
    if let Some((task, status)) = status {
        let left_behind = &mut parts.left_behind;
        tree = mark::set_status_in_tree(git, &repository, tree, task, status, left_behind).await?;
    }
    // An unfinished merge of the agent stays a merge only if its first parent is in the work.
    let second_parent = parts
        .merge_head
        .filter(|_| parts.head.as_ref() == Some(&tip));
    let has_base_as_only_parent = tip == *base && second_parent.is_none();
    let head = if Some(&tree) == tip_tree.as_ref() && second_parent.is_none() {
        tip
    } else {
        let parents = [Some(tip), second_parent];
        commit(git, clone, &repository, &tree, parents, message).await?
    };
    let branches =
        branches::other_commits(git, &repository, base, &head, &parts.references).await?;
    branches.add_sentences(&mut parts.left_behind);
    let mut work = Work::new(base, &head);
    let changes = patch::changes(git, &repository, base, &head).await?;
    let count = &changes.count;
    (work.files_changed, work.insertions, work.deletions) =
        (count.files, count.insertions, count.deletions);
    let tips: Vec<&str> = std::iter::once(head.as_str())
        .chain(branches.to_push.iter().map(|branch| branch.commit.as_str()))
        .collect();
    let objects = inspect::PushedObjects {
        base,
        tips: &tips,
        entries: (has_base_as_only_parent && tips.len() == 1 && changes.has_all_entries)
            .then_some(&changes.entries),
    };
    let found = inspect::inspect(git, &repository, &objects).await?;
    let mut unpushable_files = found.unpushable_files;
    let mut upload = None;
    if unpushable_files.is_none() {
        let input = lfs::UploadInput {
            repository: &repository,
            url: &clone.url,
            base,
            tips: &tips,
            stores: &parts.lfs_objects,
        };
        match lfs::collect(git, &input, found.pointers).await? {
            lfs::UploadPlan::NotNeeded => {}
            lfs::UploadPlan::Ready(ready) => upload = Some(ready),
            lfs::UploadPlan::Forbidden(files) => unpushable_files = Some(files),
        }
    }
    work.patch = patch::patch(git, &repository, base, &head, &changes).await?;
    let mut notes = parts.left_behind.notes();
    notes.extend(found.warning);
    Ok(Product {
        push_repository: repository,
        work,
        branches: branches.to_push,
        unpushable_files,
        incomplete_reason: parts.incomplete_reason,
        notes,
        only_path: changes.count.only_path,
        upload,
        _stores: parts.stores,
    })
}

/// The status that a task must get in the tree of the commit; `None` if the tree has the right one.
fn status_to_set(clone: &LocalClone, task: &Task, is_partial: bool) -> Option<Status> {
    // The commit goes to the `-wip` branch. A person who merges that branch must not get a task that is marked as done.
    if is_partial {
        return Some(task.status);
    }
    // If the working tree has a graph, the worker has marked the task there.
    let has_graph = fs::symlink_metadata(clone.dir.join(GRAPH_PATH)).is_ok();
    (!has_graph).then_some(Status::Done)
}

/// The tree of the commit `tip`. Errors if the commit `base` or `tip` is missing.
async fn tree_of_tip(
    git: &Git<'_>,
    repository: &PrivateRepository,
    base: &str,
    tip: &str,
) -> Result<String, Failure> {
    let question = format!("{base}^{{tree}}\n{tip}^{{tree}}\n");
    let call = repository.call(["cat-file", "--batch-check"]);
    let call = call.input(question.as_bytes());
    let answer = run(git, call.map_err(|error| io_failure(&error))?).await?;
    let trees = answer.lines().filter_map(|line| line.split_once(" tree "));
    let trees: Vec<&str> = trees.map(|(tree, _)| tree).collect();
    match trees.as_slice() {
        [_, tip] => Ok((*tip).to_owned()),
        _ => Err(Failure::new(
            Reason::PushFailed,
            "the commit that the work began with is missing in the agent's repository",
        )),
    }
}

/// The agent's own last commit if it descends from the base; otherwise the base.
async fn agents_tip(
    git: &Git<'_>,
    base: &str,
    repository: &PrivateRepository,
    head: Option<&str>,
) -> String {
    let Some(head) = head.filter(|head| *head != base) else {
        return base.to_owned();
    };
    if !is_hash(head, base.len()) || !descends_from(git, repository, base, head).await {
        tracing::warn!(
            head,
            "the agent's commits do not descend from the base, so their content becomes one commit"
        );
        return base.to_owned();
    }
    head.to_owned()
}

fn is_hash(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

async fn descends_from(
    git: &Git<'_>,
    repository: &PrivateRepository,
    base: &str,
    commit: &str,
) -> bool {
    let call = repository.call(["merge-base", "--is-ancestor", base, commit]);
    git.run(call).await.is_ok()
}

/// Makes a commit; returns its hash.
async fn commit(
    git: &Git<'_>,
    clone: &LocalClone,
    repository: &PrivateRepository,
    tree: &str,
    parents: [Option<String>; 2],
    message: &CommitMessage,
) -> Result<String, Failure> {
    let mut text = format!("{}\n\n", message.subject);
    for (name, value) in &message.trailers {
        let _ = writeln!(text, "{name}: {value}");
    }
    let mut call = repository.call(["commit-tree", tree, "-F", "-"]);
    for parent in parents.into_iter().flatten() {
        call = call.arg("-p").arg(parent);
    }
    let call = call.variables(&clone.identity).input(text.as_bytes());
    let made = run(git, call.map_err(|error| io_failure(&error))?).await;
    if made.is_err() {
        // If the base is missing, this error says so.
        tree_of_tip(git, repository, &clone.base, &clone.base).await?;
    }
    made
}
