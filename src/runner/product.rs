//! The work product: one head commit on top of the base, the counts of its changes, and its patch.
//!
//! First, the agent's own git stages what it would commit (`stage`), with the agent's environment. When all these
//! processes are dead, the worker makes the commit in a repository that only the worker writes (the push repository).
//! That repository reads the objects of the agent's repository, and the worker inspects every object that a push would
//! send. If the agent's repository is damaged, the worker fetches the base again and stages the files of the workspace
//! against it. `push` pushes the result.

mod branches;
mod build;
mod differences;
mod entries;
mod errors;
mod files;
mod filters;
mod gitlinks;
mod index;
mod inspect;
mod left_behind;
mod lfs;
mod mark;
mod parts;
mod patch;
mod records;
mod references;
mod repository;
mod stage;
mod staging_repository;
mod unfiltered;
mod worktrees;

use std::path::PathBuf;

use super::workspace::LocalClone;
use crate::environment::Variables;
use crate::git::Git;
use crate::isolation::Launch;
use crate::process;
use crate::task::{Failure, Reason};
pub use branches::Branch;
use build::build_product;
use errors::{check_that_the_agent_is_dead, git_failure, io_failure, run};
use left_behind::LeftBehind;
pub use lfs::Upload;
pub use parts::{CommitMessage, Product};
use parts::{CommitParts, Store};
pub use repository::PrivateRepository;
use stage::StagingResult;
use staging_repository::RepositoryChoice;

/// Makes the work product of a clone.
///
/// Tries three ways, each of which needs less of the agent's repository than the one before: the repository as it is,
/// the files of the workspace, the agent's last commit. All processes of the agent must be dead first, because they
/// could change the files while the worker reads them.
pub async fn collect(
    git: &Git<'_>,
    clone: &LocalClone,
    agents_environment: &Variables,
    launch: Option<Launch>,
    message: &CommitMessage,
) -> Result<Product, Failure> {
    // After a panic, killed processes may not be reaped yet.
    process::kill_leftovers().await;
    check_that_the_agent_is_dead()?;
    clone.check_directory()?;
    let agents_git = git.with_agents_environment(agents_environment, launch);
    let first = match stage::stage(
        &agents_git,
        &clone.dir,
        &clone.base,
        RepositoryChoice::Agents,
    )
    .await
    {
        Ok(staged) => collect_from_agents_repository(git, clone, message, staged).await,
        Err(error) => Err(git_failure(&error)),
    };
    let failure = match first {
        Ok(product) => return Ok(product),
        Err(failure) if git.stop.reason().is_some() => return Err(failure),
        Err(failure) => failure,
    };
    check_that_the_agent_is_dead()?;
    tracing::warn!(
        "{}; the base is fetched again, and all differences become one commit",
        failure.message_with_causes()
    );
    match collect_from_files(git, &agents_git, clone, message).await {
        Err(second) if git.stop.reason().is_none() => {
            tracing::warn!(
                "{}; only the agent's own commits are used",
                second.message_with_causes()
            );
            collect_from_commits(git, &agents_git, clone, message, &failure)
                .await
                .map_err(|_| failure)
        }
        product => product,
    }
}

/// Collects the work in the usual case: the agent's repository is intact.
async fn collect_from_agents_repository(
    git: &Git<'_>,
    clone: &LocalClone,
    message: &CommitMessage,
    staged: StagingResult,
) -> Result<Product, Failure> {
    let mut parts = CommitParts::from_staging(staged, &[&clone.dir.join(".git")]).await?;
    parts.objects.push(agents_objects(clone).await?);
    build_product(git, clone, message, parts).await
}

/// The directory of objects in the agent's repository; an error if it contains anything but objects.
async fn agents_objects(clone: &LocalClone) -> Result<PathBuf, Failure> {
    let found = repository::agents_objects(&clone.dir).await;
    found.ok_or_else(|| {
        Failure::new(
            Reason::PushFailed,
            "the agent's repository contains links, alternates or other files that are not objects",
        )
    })
}

/// Collects the work if the agent's repository is damaged: fetches the base again, and stages the files of the
/// workspace against it.
async fn collect_from_files(
    git: &Git<'_>,
    agents_git: &Git<'_>,
    clone: &LocalClone,
    message: &CommitMessage,
) -> Result<Product, Failure> {
    let fetched = PrivateRepository::create(git, &clone.base, &[])?;
    let fetch = fetched.call(["fetch", "--progress", "--no-tags", "--depth=1"]);
    let fetch = fetch.args(git.file_remote_option(&clone.url, "upload-pack"));
    let fetch = fetch.arg("--").arg(&clone.url).arg(&clone.base);
    run(git, fetch.contacts_remote()).await?;
    let replacement = PrivateRepository::create(git, &clone.base, &[fetched.objects()])?;
    let index = replacement.dir().join("index-of-base");
    let prepared = replacement
        .mark_as_first_commit(&clone.base)
        .and_then(|()| copy_exclude_file(clone, &replacement))
        .and_then(|()| clone.write_index(&index));
    prepared.map_err(|error| io_failure(&error))?;
    run(
        git,
        replacement
            .call(["update-ref", "--no-deref", "HEAD"])
            .arg(&clone.base),
    )
    .await?;
    for repository in [&fetched, &replacement] {
        let result = agents_git.make_agent_owner_of(repository.dir());
        result.map_err(|error| io_failure(&error))?;
    }
    let staging = RepositoryChoice::Replacement {
        git_dir: replacement.dir(),
        index: &index,
    };
    let staged = stage::stage(agents_git, &clone.dir, &clone.base, staging).await;
    let staged = staged.map_err(|error| git_failure(&error))?;
    let git_dirs = [&clone.dir.join(".git"), replacement.dir()];
    let mut parts = CommitParts::from_staging(staged, &git_dirs).await?;
    parts.objects.push(fetched.objects());
    parts.stores.push(Store::Fetched {
        _repository: fetched,
    });
    build_product(git, clone, message, parts).await
}

/// Copies the agent's `.git/info/exclude`, if it can be read.
fn copy_exclude_file(clone: &LocalClone, replacement: &PrivateRepository) -> std::io::Result<()> {
    let target = replacement.dir().join("info");
    std::fs::create_dir_all(&target)?;
    let exclude = clone.dir.join(".git/info/exclude");
    // On an error, only the ignore rules of the project apply.
    let _ = files::copy_regular(&exclude, &target.join("exclude"), 1024 * 1024);
    Ok(())
}

/// Collects only the agent's own commits, because nothing could be staged.
async fn collect_from_commits(
    git: &Git<'_>,
    agents_git: &Git<'_>,
    clone: &LocalClone,
    message: &CommitMessage,
    failure: &Failure,
) -> Result<Product, Failure> {
    let objects = agents_objects(clone).await?;
    let head = stage::publishable_head(agents_git, &clone.dir, &clone.base).await;
    let head = head.map_err(|error| git_failure(&error))?;
    let parts = CommitParts {
        head,
        merge_head: None,
        tree: None,
        differs_from_head: false,
        left_behind: LeftBehind::default(),
        references: Vec::new(),
        has_plain_commits: false,
        incomplete_reason: Some(failure.message_with_causes()),
        has_submodules: true,
        objects: vec![objects],
        lfs_objects: lfs::stores(&[&clone.dir.join(".git")], None),
        stores: Vec::new(),
    };
    build_product(git, clone, message, parts).await
}
