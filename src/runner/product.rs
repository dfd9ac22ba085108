//! What an agent made: one head commit on top of the base, its numbers, its patch.
//!
//! Three kinds of repository, each the worker's own and made after everything of the agent's is
//! dead. The bench looks at the workspace, where git may be brought to run what the agent left
//! (a submodule's filters); so nothing of it is used again but objects. The vault is made when
//! nothing will look at the workspace any more, and pushes. Where the agent has damaged its
//! objects, a rescue fetches the base again. Pushes nothing itself; `push` does.

mod baggage;
mod patch;
mod pipes;
mod records;
mod repository;

use std::fmt::Write;

use super::workspace::Clone;
use crate::git::{Call, Git, GitError};
use crate::process;
use crate::task::{Failure, Reason, Work};
use records::Records;
pub use repository::Repository;

/// What the commit says of itself.
#[derive(Debug, Clone)]
pub struct Message {
    pub subject: String,
    /// `Task-Id` and the like, with their values.
    pub trailers: Vec<(&'static str, String)>,
}

/// The work, in a repository from which it can be pushed.
#[derive(Debug)]
pub struct Product {
    pub vault: Repository,
    pub work: Work,
    /// Why it must not leave, where it must not.
    pub held_back: Option<String>,
    /// What could not be read, in git's words.
    pub missing: Option<String>,
    /// The one changed path, where there is but one.
    pub only: Option<String>,
    /// Repositories that the agent made inside the project, which are no part of its commits.
    pub nested: Vec<String>,
    /// What the vault reads objects from.
    _stores: Vec<Repository>,
}

/// What is in the workspace.
struct Found {
    /// The agent's last commit, or the base.
    tip: String,
    tree: String,
    missing: Option<String>,
    nested: Vec<String>,
}

/// Collects what was made in a clone.
pub async fn collect(git: &Git<'_>, clone: &Clone, message: &Message) -> Result<Product, Failure> {
    if !process::kill_leftovers().await {
        let message = "processes of the agent survived SIGKILL, so nothing is collected or pushed";
        return Err(Failure::new(Reason::PushFailed, message));
    }
    clone.still_there()?;
    pipes::clear(&clone.dir);
    let first = match repository::agents_objects(&clone.dir) {
        Some(_) => attempt(git, clone, message, None).await,
        None => Err(Failure::new(
            Reason::PushFailed,
            "the agent's repository is not one any more",
        )),
    };
    match first {
        Ok(product) => Ok(product),
        Err(failure) if git.stop.why().is_some() => Err(failure),
        Err(failure) => {
            tracing::warn!(
                "{}; the base is fetched again, and all that differs becomes one commit",
                failure.sentence()
            );
            let rescue = rescue(git, clone).await?;
            attempt(git, clone, message, Some(rescue)).await
        }
    }
}

/// Fetches the base again.
async fn rescue(git: &Git<'_>, clone: &Clone) -> Result<Repository, Failure> {
    let rescue = Repository::fresh(git, &clone.base, &[]).await?;
    let fetch = ["fetch", "--progress", "--no-tags", "--depth=1", "--"];
    let fetch = rescue.call(fetch).arg(&clone.url).arg(&clone.base);
    run(git, fetch.transfer()).await?;
    Ok(rescue)
}

async fn attempt(
    git: &Git<'_>,
    clone: &Clone,
    message: &Message,
    rescue: Option<Repository>,
) -> Result<Product, Failure> {
    let rescued = rescue.is_some();
    // The rescue's objects come first: what the agent damaged is not looked at.
    let mut stores: Vec<Repository> = rescue.into_iter().collect();
    let mut objects: Vec<_> = stores.iter().map(Repository::objects).collect();
    if !rescued {
        objects.extend(repository::agents_objects(&clone.dir));
    }
    let bench = Repository::fresh(git, &clone.base, &objects).await?;
    let found = look(git, clone, &bench).await?;

    objects.push(bench.objects());
    stores.push(bench);
    let vault = Repository::fresh(git, &clone.base, &objects).await?;
    vault
        .begin_with(&clone.base)
        .map_err(|error| unmade(&error))?;
    let tips_tree = vault.call(["rev-parse", "--verify"]);
    let tips_tree = run(git, tips_tree.arg(format!("{}^{{tree}}", found.tip))).await?;
    let head = if found.tree == tips_tree {
        found.tip
    } else {
        commit(git, clone, &vault, &found, message).await?
    };
    let mut work = Work::new(&clone.base, &head);
    let count = patch::count(git, &vault, &clone.base, &head).await?;
    (work.files_changed, work.insertions, work.deletions) =
        (count.files, count.insertions, count.deletions);
    work.patch = patch::patch(git, &vault, &clone.base, &head).await?;
    let held_back = baggage::held_back(git, &vault, &clone.base, &head).await?;
    Ok(Product {
        vault,
        work,
        held_back,
        missing: found.missing,
        only: count.only,
        nested: found.nested,
        _stores: stores,
    })
}

/// Looks at the workspace and the agent's commits.
async fn look(git: &Git<'_>, clone: &Clone, bench: &Repository) -> Result<Found, Failure> {
    let begun = bench
        .begin_with(&clone.base)
        .and_then(|()| clone.write_index(&bench.dir().join("index")));
    begun.map_err(|error| unmade(&error))?;
    let there = bench.call(["cat-file", "-e"]);
    run(git, there.arg(format!("{}^{{tree}}", clone.base))).await?;
    let tip = agents_tip(git, clone, bench).await;
    if tip != clone.base {
        // Stat information stays where nothing changed, so that not every file is read again.
        let read = ["read-tree", "-i", "-m", &clone.base, &tip];
        run(git, bench.call_in(&clone.dir, read)).await?;
    }
    let add = ["add", "--all", "--ignore-errors", "--", "."];
    let missing = match git.run(bench.call_in(&clone.dir, add)).await {
        Ok(_) => None,
        // All else was added.
        Err(error) if error.code == Some(1) => Some(error.words),
        Err(error) => return Err(failed(&error)),
    };
    let nested = leave_out_nested(git, clone, bench, &tip).await?;
    let tree = run(git, bench.call(["write-tree"])).await?;
    Ok(Found {
        tip,
        tree,
        missing,
        nested,
    })
}

/// The agent's own last commit, if it stands on the base; else the base.
async fn agents_tip(git: &Git<'_>, clone: &Clone, bench: &Repository) -> String {
    let base = &clone.base;
    let Some(head) = repository::agents_head(&clone.dir, base.len()) else {
        return base.clone();
    };
    let descends = ["merge-base", "--is-ancestor", base, &head];
    if head != *base && git.run(bench.call(descends)).await.is_err() {
        tracing::warn!(
            head,
            "the agent's commits don't stand on the base, so their content becomes one commit"
        );
        return base.clone();
    }
    head
}

/// Takes repositories that nobody committed out of the index: a commit would hold their names and
/// nothing of their content, and would break whoever fetches submodules.
async fn leave_out_nested(
    git: &Git<'_>,
    clone: &Clone,
    bench: &Repository,
    tip: &str,
) -> Result<Vec<String>, Failure> {
    let mut records = Records::new(0);
    let (mut nested, mut list, mut is_new) = (Vec::new(), Vec::new(), false);
    let diff = ["diff-index", "--cached", "--raw", "-z", "--no-renames", tip];
    run_stream(git, bench.call(diff), &mut |bytes| {
        records.push(bytes, |record| {
            if record.starts_with(b":") {
                // `:<old mode> <new mode> …`, then the path.
                let modes = record.get(1..14).unwrap_or_default();
                is_new = modes.ends_with(b" 160000") && !modes.starts_with(b"160000");
            } else if std::mem::take(&mut is_new) {
                nested.push(String::from_utf8_lossy(record).escape_debug().to_string());
                list.extend_from_slice(record);
                list.push(0);
            }
        });
    })
    .await?;
    if !nested.is_empty() {
        let remove = ["update-index", "--force-remove", "-z", "--stdin"];
        let remove = bench.call_in(&clone.dir, remove);
        run(git, remove.input(&list).map_err(|error| unmade(&error))?).await?;
    }
    Ok(nested)
}

async fn commit(
    git: &Git<'_>,
    clone: &Clone,
    vault: &Repository,
    found: &Found,
    message: &Message,
) -> Result<String, Failure> {
    let mut text = format!("{}\n\n", message.subject);
    for (name, value) in &message.trailers {
        let _ = writeln!(text, "{name}: {value}");
    }
    let call = vault
        .call(["commit-tree", &found.tree, "-p", &found.tip, "-F", "-"])
        .variables(&clone.identity)
        .input(text.as_bytes());
    run(git, call.map_err(|error| unmade(&error))?).await
}

async fn run(git: &Git<'_>, call: Call<'_>) -> Result<String, Failure> {
    git.run(call).await.map_err(|error| failed(&error))
}

async fn run_stream(
    git: &Git<'_>,
    call: Call<'_>,
    hear: &mut dyn FnMut(&[u8]),
) -> Result<(), Failure> {
    git.stream(call, hear).await.map_err(|error| failed(&error))
}

fn failed(error: &GitError) -> Failure {
    let message = format!("the work could not be committed: {error}");
    Failure {
        causes: vec![error.words.clone()],
        ..Failure::new(Reason::PushFailed, message)
    }
}

fn unmade(error: &std::io::Error) -> Failure {
    let message = "a repository to push from could not be made";
    Failure {
        causes: vec![error.to_string()],
        ..Failure::new(Reason::PushFailed, message)
    }
}
