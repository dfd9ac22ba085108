//! With real git: merges, conflicts, crashes, people who push, and the user's untouched files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::samples::{BRANCH, GRAPH, SampleProject, block_on, git};
use super::*;

fn merge(integration: &Integration, onto: &Commit, run: &FinishedRun) -> Merged {
    block_on(integration.merge(onto, run)).unwrap()
}

#[track_caller]
fn merge_cleanly(integration: &Integration, onto: &Commit, run: &FinishedRun) -> Candidate {
    match merge(integration, onto, run) {
        Merged::Merged(candidate) => candidate,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn accept(integration: &mut Integration, candidate: &Candidate) {
    let accepted = block_on(integration.accept(&candidate.commit)).unwrap();
    assert_eq!(accepted, Accepted::Moved { unpublished: None });
}

fn read(integration: &Integration, commit: &Commit, path: &str) -> String {
    let content = block_on(integration.read_file(commit, path)).unwrap();
    String::from_utf8(content.unwrap()).unwrap()
}

/// Everything of a repository that a dispatch must not change: each file except objects and the one branch.
fn untouched_files(project: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut left) = (BTreeMap::new(), vec![project.to_owned()]);
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(project).unwrap().to_owned();
            let is_ours = [
                ".git/objects",
                ".git/refs/heads/descartes",
                ".git/logs/refs/heads/descartes",
                ".git/refs/descartes",
            ]
            .iter()
            .any(|ours| below.starts_with(ours));
            if is_ours {
                continue;
            }
            if path.is_dir() {
                left.push(path);
            } else {
                files.insert(below, fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn the_same_merge_made_twice_gives_the_same_commit_with_its_trailers() {
    let sample = SampleProject::local();
    let integration = sample.open();
    let run = sample.run(&integration, integration.tip(), "1", &[("a.txt", "a\n")]);
    let first = merge_cleanly(&integration, integration.tip(), &run);
    // Another process, after a crash.
    let again = sample.open();
    assert_eq!(merge_cleanly(&again, again.tip(), &run), first);
    assert!(!first.needs_verification, "the run's checks saw this tree");

    let dir = integration.dir();
    let shown = git(
        dir,
        &[
            "show",
            "--no-patch",
            "--format=%P%n%at %ct%n%B",
            &first.commit.id,
        ],
    );
    let expected = format!(
        "{} {}\n1800000000 1800000000\nMerge task 1: Prices\n\n\
         Task-Id: 1\nRun-Id: day-1-1\nDispatch-Id: day",
        integration.tip().id,
        run.commit
    );
    assert_eq!(shown, expected);
}

#[test]
fn the_letters_of_two_tasks_in_neighbouring_lines_merge_by_the_driver() {
    let sample = SampleProject::local();
    let mut integration = sample.open();
    let base = integration.tip().clone();
    let one = sample.run(&integration, &base, "1", &[("a.txt", "a\n")]);
    let two = sample.run(&integration, &base, "2", &[("b.txt", "b\n")]);
    let candidate = merge_cleanly(&integration, &base, &one);
    accept(&mut integration, &candidate);
    let candidate = merge_cleanly(&integration, integration.tip(), &two);
    assert!(candidate.needs_verification, "no checks saw both changes");
    accept(&mut integration, &candidate);
    let graph = read(&integration, integration.tip(), ".scud/tasks/tasks.scg");
    let expected = GRAPH.replace("Prices | P", "Prices | D");
    assert_eq!(graph, expected.replace("Stock | P", "Stock | D"));
    assert_eq!(
        merge(&integration, integration.tip(), &one),
        Merged::AlreadyIn
    );
    let history = block_on(integration.history()).unwrap();
    assert!(history[0].contains("Merge task 2: Stock"), "{history:?}");
    assert!(
        history.iter().any(|line| line.contains('\\')),
        "{history:?}"
    );
}

#[test]
fn a_conflict_names_the_files_and_the_task_that_changed_them() {
    let sample = SampleProject::local();
    let mut integration = sample.open();
    let base = integration.tip().clone();
    let cheap = [
        ("prices.txt", "apple 1\nbread 1\ncheese 3\n"),
        ("a b", "1\n"),
    ];
    let dear = [
        ("prices.txt", "apple 1\nbread 9\ncheese 3\n"),
        ("a b", "2\n"),
    ];
    let one = sample.run(&integration, &base, "1", &cheap);
    let two = sample.run(&integration, &base, "2", &dear);
    let three = sample.run(&integration, &base, "3", &[("stock.txt", "pear\n")]);
    for run in [&three, &one] {
        let candidate = merge_cleanly(&integration, &integration.tip().clone(), run);
        accept(&mut integration, &candidate);
    }
    let tip = integration.tip().clone();
    let expected = Conflict {
        files: vec!["a b".to_owned(), "prices.txt".to_owned()],
        others: vec![Other {
            task_id: Some("1".to_owned()),
            subject: "Merge task 1: Prices".to_owned(),
        }],
    };
    assert_eq!(merge(&integration, &tip, &two), Merged::Conflict(expected));
    assert_eq!(integration.tip(), &tip);
}

#[test]
fn a_letter_that_the_agent_took_back_is_set_in_the_merged_graph() {
    let sample = SampleProject::local();
    let integration = sample.open();
    let files = [("a.txt", "a\n")];
    let run = sample.run_with_letter(&integration, integration.tip(), "2", &files, "P");
    let candidate = merge_cleanly(&integration, integration.tip(), &run);
    let graph = read(&integration, &candidate.commit, ".scud/tasks/tasks.scg");
    assert_eq!(graph, GRAPH.replace("Stock | P", "Stock | D"));
    assert_eq!(read(&integration, &candidate.commit, "a.txt"), "a\n");
}

#[test]
fn a_graph_that_the_agent_has_deleted_or_broken_stays_as_it_was_on_the_branch() {
    let sample = SampleProject::local();
    let integration = sample.open();
    let tip = integration.tip();
    let graph = ".scud/tasks/tasks.scg";
    let first = sample.run(&integration, tip, "1", &[("a.txt", "a\n")]);
    let without_task = GRAPH.replace("2 | Stock | P | 1 | M\n", "");
    for (number, text) in ["not a graph", without_task.as_str(), ""]
        .into_iter()
        .enumerate()
    {
        let mut run = first.clone();
        run.task = "2".to_owned();
        // What the agent has done to the graph.
        let clone = tempfile::tempdir_in(sample.dir.path()).unwrap();
        let dir = clone.path();
        git(dir, &["init", "--quiet"]);
        let url = integration.clone_url();
        git(dir, &["fetch", "--quiet", &url, &run.commit]);
        git(dir, &["checkout", "--quiet", "--detach", "FETCH_HEAD"]);
        if text.is_empty() {
            fs::remove_file(dir.join(graph)).unwrap();
        } else {
            fs::write(dir.join(graph), text).unwrap();
        }
        git(dir, &["commit", "--quiet", "--all", "--message=broken"]);
        let target = format!("HEAD:refs/heads/descartes-runs/broken-{number}/work");
        git(dir, &["push", "--quiet", &url, &target]);
        run.commit = git(dir, &["rev-parse", "HEAD"]);
        run.run_id = format!("broken-{number}");

        let candidate = merge_cleanly(&integration, tip, &run);
        let expected = GRAPH.replace("Stock | P", "Stock | D");
        assert_eq!(
            read(&integration, &candidate.commit, graph),
            expected,
            "{text}"
        );
        assert_eq!(read(&integration, &candidate.commit, "a.txt"), "a\n");
    }
}

#[test]
fn the_users_files_index_head_configuration_and_branches_stay_byte_for_byte() {
    let sample = SampleProject::local();
    let project = sample.project();
    // Settings and hooks of the user that would change a work tree or stop a push.
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
    let before = untouched_files(&project);

    let mut integration = sample.open();
    let base = integration.tip().clone();
    for (task, file) in [("1", "a.txt"), ("2", "b.txt")] {
        let run = sample.run(&integration, &base, task, &[(file, "x\n")]);
        let candidate = merge_cleanly(&integration, &integration.tip().clone(), &run);
        accept(&mut integration, &candidate);
        block_on(integration.keep_run_branches(&run.run_id)).unwrap();
        block_on(integration.drop_run_branches(std::slice::from_ref(&run.run_id))).unwrap();
    }
    assert_eq!(block_on(integration.publish()).unwrap(), None);
    let why_not = block_on(integration.fast_forward("main")).unwrap();
    assert!(
        matches!(&why_not, FastForward::NotPossible(why) if why.contains("git merge --ff-only descartes/shop")),
        "{why_not:?}"
    );

    assert_eq!(untouched_files(&project), before);
    let branches = git(&project, &["branch", "--format=%(refname:short)"]);
    assert_eq!(branches, "descartes/shop\nmain");
    assert_eq!(git(&project, &["rev-parse", BRANCH]), integration.tip().id);
    // The user's repository needs nothing of the state directory.
    fs::remove_dir_all(sample.path("state")).unwrap();
    git(&project, &["fsck", "--strict", "--no-dangling"]);
}

#[test]
fn a_dispatcher_that_was_killed_at_any_point_of_a_merge_ends_at_the_same_commit() {
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
    // Killed after the push to the user's repository, before anything is noted.
    let refspec = format!("{}:refs/heads/{BRANCH}", candidate.commit.id);
    let project = sample.project();
    let args = ["push", "--quiet", project.to_str().unwrap(), &refspec];
    git(integration.dir(), &args);
    drop(integration);
    integration = sample.open();
    assert_eq!(integration.tip(), &candidate.commit);
    assert_eq!(
        merge(&integration, integration.tip(), &run),
        Merged::AlreadyIn
    );
    accept(&mut integration, &candidate);
    assert_eq!(git(&project, &["rev-parse", BRANCH]), candidate.commit.id);
}

#[test]
fn a_merge_is_made_again_on_the_commit_that_a_person_pushed_meanwhile() {
    for (remote, workers) in [
        (false, Workers::OnThisMachine),
        (true, Workers::OnThisMachine),
        (true, Workers::Elsewhere),
    ] {
        let sample = SampleProject::new(remote, workers);
        let mut integration = sample.open();
        let base = integration.tip().clone();
        let one = sample.run(&integration, &base, "1", &[("a.txt", "a\n")]);
        let two = sample.run(&integration, &base, "2", &[("b.txt", "b\n")]);
        let candidate = merge_cleanly(&integration, &base, &one);
        accept(&mut integration, &candidate);
        let stale = merge_cleanly(&integration, &integration.tip().clone(), &two);
        let persons = sample.person_pushes("stock.txt", "pear\n");

        let accepted = block_on(integration.accept(&stale.commit)).unwrap();
        assert_eq!(accepted, Accepted::TipChanged);
        assert_eq!(integration.tip().id, persons);
        let candidate = merge_cleanly(&integration, &integration.tip().clone(), &two);
        assert_ne!(candidate, stale);
        accept(&mut integration, &candidate);
        assert_eq!(read(&integration, integration.tip(), "stock.txt"), "pear\n");
        let published = git(&sample.published(), &["rev-parse", BRANCH]);
        assert_eq!(published, integration.tip().id);
        assert_eq!(block_on(integration.sync()).unwrap(), Synced::Unchanged);
    }
}

#[test]
fn work_goes_on_while_the_branch_is_checked_out_and_is_published_later() {
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
    let Accepted::Moved { unpublished } = accepted else {
        panic!("{accepted:?}");
    };
    assert!(
        unpublished
            .unwrap()
            .contains("descartes/shop is checked out")
    );
    assert_eq!(integration.tip(), &candidate.commit);
    // The person commits, and leaves the branch.
    sample.person_writes(&[("stock.txt", "pear\n")]);
    git(&project, &["checkout", "--quiet", "main"]);
    drop(integration);

    let mut integration = sample.open();
    assert_eq!(block_on(integration.publish()).unwrap(), None);
    let tip = integration.tip().clone();
    assert_eq!(read(&integration, &tip, "stock.txt"), "pear\n");
    assert_eq!(read(&integration, &tip, "b.txt"), "b\n");
    assert_eq!(git(&project, &["rev-parse", BRANCH]), tip.id);
    assert_eq!(merge(&integration, &tip, &two), Merged::AlreadyIn);
}

#[test]
fn a_branch_that_a_person_moved_back_is_an_error_and_a_deleted_one_begins_again() {
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
        opened.notes[0].contains("was deleted"),
        "{:?}",
        opened.notes
    );
    assert_eq!(opened.integration.tip(), &base);
}

#[test]
fn the_base_is_fast_forwarded_if_it_can_be_and_a_merged_branch_follows_its_base() {
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
    // Its base is now `stable`, which holds everything of the branch.
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
    assert!(opened.notes[0].contains(&diverged), "{:?}", opened.notes);
}

#[test]
fn branches_of_runs_are_found_copied_outside_the_list_of_branches_and_deleted() {
    for (remote, workers) in [
        (false, Workers::OnThisMachine),
        (true, Workers::OnThisMachine),
        (true, Workers::Elsewhere),
    ] {
        let sample = SampleProject::new(remote, workers);
        let integration = sample.open();
        let run = sample.run(&integration, integration.tip(), "1", &[("a.txt", "a\n")]);
        let other = sample.run(&integration, integration.tip(), "2", &[("b.txt", "b\n")]);
        let found = block_on(integration.run_branches().find(&run.run_id)).unwrap();
        let expected = RunBranch {
            name: "descartes-runs/day-1-1/work".to_owned(),
            commit: run.commit.clone(),
            run_id: "day-1-1".to_owned(),
            task_id: "1".to_owned(),
            is_partial: false,
        };
        assert_eq!(found, [expected]);
        let candidate = merge_cleanly(&integration, integration.tip(), &run);
        let offered = block_on(integration.offer(&candidate)).unwrap();
        let url = integration.clone_url();
        let clone = tempfile::tempdir_in(sample.dir.path()).unwrap();
        git(clone.path(), &["init", "--quiet"]);
        git(
            clone.path(),
            &["fetch", "--quiet", "--depth=1", &url, &offered],
        );
        // The same run, merged again on another commit, as after a push of a person.
        let onto = merge_cleanly(&integration, integration.tip(), &other).commit;
        let candidate = merge_cleanly(&integration, &onto, &run);
        block_on(integration.offer(&candidate)).unwrap();

        let names = block_on(integration.keep_run_branches(&run.run_id)).unwrap();
        let repository = sample.published();
        assert_eq!(names.len(), 1);
        assert_eq!(git(&repository, &["rev-parse", &names[0]]), run.commit);
        if !remote {
            assert_eq!(
                git(&repository, &["branch", "--format=%(refname)"]),
                "refs/heads/main"
            );
        }
        block_on(integration.drop_run_branches(std::slice::from_ref(&run.run_id))).unwrap();
        assert_eq!(
            block_on(integration.run_branches().find(&run.run_id)).unwrap(),
            []
        );
        let left = git(&repository, &["for-each-ref", "--format=%(refname)"]);
        assert!(!left.contains("day-1-1"), "{left}");
        assert_eq!(
            block_on(integration.run_branches().find(&other.run_id))
                .unwrap()
                .len(),
            1
        );
    }
}

#[test]
fn a_run_whose_commit_does_not_exist_is_an_error_that_names_the_run() {
    for (remote, workers) in [(false, Workers::OnThisMachine), (true, Workers::Elsewhere)] {
        let sample = SampleProject::new(remote, workers);
        let integration = sample.open();
        let mut run = sample.run(&integration, integration.tip(), "1", &[]);
        run.commit = "1234567890123456789012345678901234567890".to_owned();
        let error = block_on(integration.merge(integration.tip(), &run)).unwrap_err();
        let words = "the work of run day-1-1 is gone";
        assert!(error.to_string().contains(words), "{error}");
        assert!(!error.may_pass());
    }
}

#[test]
fn merges_stand_on_each_other_and_move_the_branch_together() {
    let sample = SampleProject::local();
    let mut integration = sample.open();
    let base = integration.tip().clone();
    let mut onto = base.clone();
    for (task, file) in [("1", "a.txt"), ("2", "b.txt"), ("3", "c.txt")] {
        let run = sample.run(&integration, &base, task, &[(file, "x\n")]);
        onto = merge_cleanly(&integration, &onto, &run).commit;
    }
    assert_eq!(integration.tip(), &base);
    let accepted = block_on(integration.accept(&onto)).unwrap();
    assert_eq!(accepted, Accepted::Moved { unpublished: None });
    let graph = read(&integration, integration.tip(), ".scud/tasks/tasks.scg");
    assert!(!graph.contains("| P |"), "{graph}");
}

#[test]
fn a_base_that_does_not_exist_and_a_directory_without_git_are_named() {
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
        error.to_string().contains("is not in a git repository"),
        "{error}"
    );
}
