//! Tests of the branch in the user's repository or on the remote: pushes of people, crashes, and files that must not be
//! changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::dispatch::integration::types::SyncResult;

/// The files of a repository that a dispatch must not change: all except objects and the references of the dispatch.
fn protected_files(project: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut unread) = (BTreeMap::new(), vec![project.to_owned()]);
    while let Some(dir) = unread.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(project).unwrap().to_owned();
            let is_of_dispatch = [
                ".git/objects",
                ".git/refs/heads/descartes",
                ".git/logs/refs/heads/descartes",
                ".git/refs/descartes",
            ]
            .iter()
            .any(|prefix| relative.starts_with(prefix));
            if is_of_dispatch {
                continue;
            }
            if path.is_dir() {
                unread.push(path);
            } else {
                files.insert(relative, fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn the_users_files_index_head_configuration_and_branches_are_not_changed() {
    let sample = SampleProject::local();
    let project = sample.project();
    // A setting that would change the work tree at a push, and a hook that would reject the push.
    git(
        &project,
        &["config", "receive.denyCurrentBranch", "updateInstead"],
    );
    let hook = project.join(".git/hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\ntouch hook-ran\nexit 1\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&hook, mode).unwrap();
    fs::write(
        project.join("stock.txt"),
        "a change that is not committed\n",
    )
    .unwrap();
    fs::write(project.join("new.txt"), "a new file\n").unwrap();
    git(&project, &["add", "new.txt"]);
    let before = protected_files(&project);

    let mut integration = sample.open();
    let base = integration.tip().clone();
    for (task, file) in [("1", "a.txt"), ("2", "b.txt")] {
        let run = sample.run(&integration, &base, task, &[(file, "x\n")]);
        let candidate = merge_cleanly(&integration, &integration.tip().clone(), &run);
        accept(&mut integration, &candidate);
        block_on(integration.copy_unmerged_branches(&run.run_id)).unwrap();
        block_on(integration.delete_run_branches(std::slice::from_ref(&run.run_id))).unwrap();
    }
    assert_eq!(block_on(integration.publish()).unwrap(), None);
    let why_not = block_on(integration.fast_forward("main")).unwrap();
    assert!(
        matches!(&why_not, FastForward::NotPossible(why) if why.contains("git merge --ff-only descartes/shop")),
        "{why_not:?}"
    );

    assert_eq!(protected_files(&project), before);
    let branches = git(&project, &["branch", "--format=%(refname:short)"]);
    assert_eq!(branches, "descartes/shop\nmain");
    assert_eq!(git(&project, &["rev-parse", BRANCH]), integration.tip().id);
    // The user's repository does not depend on the state directory.
    fs::remove_dir_all(sample.path("state")).unwrap();
    git(&project, &["fsck", "--strict", "--no-dangling"]);
}

#[test]
fn after_a_kill_at_any_point_of_a_merge_the_repeated_merge_ends_at_the_same_commit() {
    let sample = SampleProject::local();
    let integration = sample.open();
    let run = sample.run(&integration, integration.tip(), "1", &[("a.txt", "a\n")]);
    let candidate = merge_cleanly(&integration, integration.tip(), &run);
    // Killed before the push.
    let mut integration = {
        drop(integration);
        sample.open()
    };
    assert_eq!(
        merge_cleanly(&integration, integration.tip(), &run),
        candidate
    );
    // Killed after the push to the user's repository, before the journal entry.
    let refspec = format!("{}:refs/heads/{BRANCH}", candidate.commit.id);
    let project = sample.project();
    let args = ["push", "--quiet", project.to_str().unwrap(), &refspec];
    git(integration.dir(), &args);
    drop(integration);
    integration = sample.open();
    assert_eq!(integration.tip(), &candidate.commit);
    assert_eq!(
        merge(&integration, integration.tip(), &run),
        MergeResult::AlreadyMerged
    );
    accept(&mut integration, &candidate);
    assert_eq!(git(&project, &["rev-parse", BRANCH]), candidate.commit.id);
}

#[test]
fn if_a_person_has_pushed_meanwhile_the_merge_is_made_again_on_their_commit() {
    for (location, worker_location) in [
        (ProjectLocation::Local, WorkerLocation::OnThisMachine),
        (ProjectLocation::Remote, WorkerLocation::OnThisMachine),
        (ProjectLocation::Remote, WorkerLocation::Elsewhere),
    ] {
        let sample = SampleProject::new(location, worker_location);
        let mut integration = sample.open();
        let base = integration.tip().clone();
        let one = sample.run(&integration, &base, "1", &[("a.txt", "a\n")]);
        let two = sample.run(&integration, &base, "2", &[("b.txt", "b\n")]);
        let candidate = merge_cleanly(&integration, &base, &one);
        accept(&mut integration, &candidate);
        let stale = merge_cleanly(&integration, &integration.tip().clone(), &two);
        let pushed = sample.person_pushes("stock.txt", "pear\n");

        let accepted = block_on(integration.accept(&stale.commit)).unwrap();
        assert_eq!(accepted, AcceptResult::TipChanged);
        assert_eq!(integration.tip().id, pushed);
        let candidate = merge_cleanly(&integration, &integration.tip().clone(), &two);
        assert_ne!(candidate, stale);
        accept(&mut integration, &candidate);
        assert_eq!(read(&integration, integration.tip(), "stock.txt"), "pear\n");
        let published = git(&sample.published_repository(), &["rev-parse", BRANCH]);
        assert_eq!(published, integration.tip().id);
        assert_eq!(block_on(integration.sync()).unwrap(), SyncResult::Unchanged);
    }
}

#[test]
fn merges_continue_while_the_branch_is_checked_out_and_are_published_later() {
    let sample = SampleProject::local();
    let mut integration = sample.open();
    let base = integration.tip().clone();
    let one = sample.run(&integration, &base, "1", &[("a.txt", "a\n")]);
    let candidate = merge_cleanly(&integration, &base, &one);
    accept(&mut integration, &candidate);
    let project = sample.project();
    git(&project, &["checkout", "--quiet", BRANCH]);
    let two = sample.run(&integration, &base, "2", &[("b.txt", "b\n")]);
    let candidate = merge_cleanly(&integration, &integration.tip().clone(), &two);
    let accepted = block_on(integration.accept(&candidate.commit)).unwrap();
    let AcceptResult::Moved { unpublished } = accepted else {
        panic!("{accepted:?}");
    };
    assert!(
        unpublished
            .unwrap()
            .contains("descartes/shop is checked out")
    );
    assert_eq!(integration.tip(), &candidate.commit);
    // The user commits, and checks out another branch.
    sample.person_writes(&[("stock.txt", "pear\n")]);
    git(&project, &["checkout", "--quiet", "main"]);
    drop(integration);

    let mut integration = sample.open();
    assert_eq!(block_on(integration.publish()).unwrap(), None);
    let tip = integration.tip().clone();
    assert_eq!(read(&integration, &tip, "stock.txt"), "pear\n");
    assert_eq!(read(&integration, &tip, "b.txt"), "b\n");
    assert_eq!(git(&project, &["rev-parse", BRANCH]), tip.id);
    assert_eq!(merge(&integration, &tip, &two), MergeResult::AlreadyMerged);
}
