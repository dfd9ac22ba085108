//! Tests of opening the branch: at its base, at the commit that the last dispatch reached, or with an error.

use std::fs;
use std::time::{Duration, SystemTime};

use super::*;

#[test]
fn a_branch_that_was_moved_back_is_an_error_and_a_deleted_one_begins_at_the_base() {
    let sample = SampleProject::local();
    let mut integration = sample.open();
    let base = integration.tip().clone();
    let mut run_and_merge = |task, file| {
        let run = sample.run(&integration, &base, task, &[(file, "x\n")]);
        let candidate = merge_cleanly(&integration, &integration.tip().clone(), &run);
        accept(&mut integration, &candidate);
    };
    run_and_merge("1", "a.txt");
    run_and_merge("2", "b.txt");
    drop(integration);
    let project = sample.project();
    git(
        &project,
        &["branch", "--force", BRANCH, &format!("{BRANCH}^")],
    );
    let error = block_on(Integration::open(sample.settings())).unwrap_err();
    assert!(error.to_string().contains("was moved back from"), "{error}");

    git(&project, &["branch", "--quiet", "-D", BRANCH]);
    let opened = block_on(Integration::open(sample.settings())).unwrap();
    assert!(
        opened.messages[0].contains("was deleted"),
        "{:?}",
        opened.messages
    );
    assert_eq!(opened.integration.tip(), &base);
}

#[test]
fn fast_forward_moves_a_branch_if_possible_and_a_merged_branch_follows_its_base() {
    let sample = SampleProject::local();
    let project = sample.project();
    git(&project, &["branch", "stable"]);
    let mut integration = sample.open();
    let base = integration.tip().clone();
    let one = sample.run(&integration, &base, "1", &[("a.txt", "a\n")]);
    let candidate = merge_cleanly(&integration, &base, &one);
    accept(&mut integration, &candidate);
    let forward = |integration: &Integration| block_on(integration.fast_forward("stable")).unwrap();
    assert_eq!(forward(&integration), FastForward::Done);
    assert_eq!(
        git(&project, &["rev-parse", "stable"]),
        integration.tip().id
    );
    assert_eq!(forward(&integration), FastForward::AlreadyThere);
    git(&project, &["checkout", "--quiet", "stable"]);
    let newer = sample.person_writes(&[("stock.txt", "pear\n")]);
    // The base is now `stable`, which contains the whole integration branch.
    let mut integration = sample.open();
    assert_eq!(integration.tip().id, newer);
    let two = sample.run(&integration, integration.tip(), "2", &[("b.txt", "b\n")]);
    let candidate = merge_cleanly(&integration, &integration.tip().clone(), &two);
    accept(&mut integration, &candidate);

    let diverged = sample.person_writes(&[("stock.txt", "plum\n")]);
    let why_not = forward(&integration);
    assert!(
        matches!(&why_not, FastForward::NotPossible(why) if why.contains("stable has commits that")),
        "{why_not:?}"
    );
    let opened = block_on(Integration::open(sample.settings())).unwrap();
    assert!(
        opened.messages[0].contains(&diverged),
        "{:?}",
        opened.messages
    );
}

#[test]
fn errors_name_a_missing_base_and_a_directory_without_git() {
    let sample = SampleProject::local();
    let mut settings = sample.settings();
    settings.base = Some("nowhere".to_owned());
    let error = block_on(Integration::open(settings)).unwrap_err();
    assert!(error.to_string().contains("no commit `nowhere`"), "{error}");
    let mut settings = sample.settings();
    let plain = tempfile::tempdir().unwrap();
    settings.source = Source::Local(plain.path().to_owned());
    let error = block_on(Integration::open(settings)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is not in a git repository (`git init` makes one; then commit the project)"),
        "{error}"
    );
    git(plain.path(), &["init", "--quiet"]);
    let mut settings = sample.settings();
    settings.source = Source::Local(plain.path().to_owned());
    let error = block_on(Integration::open(settings)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("commit the project if nothing is committed yet"),
        "{error}"
    );
}

#[test]
fn opening_again_does_not_touch_files_that_a_worker_may_be_reading() {
    let sample = SampleProject::local();
    drop(sample.open());
    let bare = sample.dir.path().join("state/integration.git");
    let files = ["objects/info/alternates", "info/attributes"].map(|name| bare.join(name));
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    for file in &files {
        fs::File::options()
            .write(true)
            .open(file)
            .and_then(|file| file.set_modified(long_ago))
            .unwrap();
    }
    drop(sample.open());
    for file in &files {
        assert_eq!(fs::metadata(file).unwrap().modified().unwrap(), long_ago);
    }
    // Another project has other files, which replace these.
    fs::write(&files[0], "/nowhere\n").unwrap();
    drop(sample.open());
    assert_ne!(fs::read(&files[0]).unwrap(), b"/nowhere\n");
}
