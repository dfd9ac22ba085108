//! Tests of merges in the bare repository.

use std::fs;

use super::*;
use crate::dispatch::integration::types::OtherCommit;

#[test]
fn a_repeated_merge_gives_the_same_commit_with_the_same_trailers() {
    let sample = SampleProject::local();
    let integration = sample.open();
    let run = sample.run(&integration, integration.tip(), "1", &[("a.txt", "a\n")]);
    let first = merge_cleanly(&integration, integration.tip(), &run);
    // After a crash, the next dispatcher opens the repository again.
    let again = sample.open();
    assert_eq!(merge_cleanly(&again, again.tip(), &run), first);
    assert!(
        !first.needs_verification,
        "the checks of the run have passed on this tree"
    );

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
fn the_merge_driver_merges_the_status_of_two_tasks_in_neighbouring_lines() {
    let sample = SampleProject::local();
    let mut integration = sample.open();
    let base = integration.tip().clone();
    let one = sample.run(&integration, &base, "1", &[("a.txt", "a\n")]);
    let two = sample.run(&integration, &base, "2", &[("b.txt", "b\n")]);
    let candidate = merge_cleanly(&integration, &base, &one);
    accept(&mut integration, &candidate);
    let candidate = merge_cleanly(&integration, integration.tip(), &two);
    assert!(
        candidate.needs_verification,
        "no checks have run on both changes together"
    );
    accept(&mut integration, &candidate);
    let graph = read(&integration, integration.tip(), ".scud/tasks/tasks.scg");
    let expected = GRAPH.replace("Prices | P", "Prices | D");
    assert_eq!(graph, expected.replace("Stock | P", "Stock | D"));
    assert_eq!(
        merge(&integration, integration.tip(), &one),
        MergeResult::AlreadyMerged
    );
}

#[test]
fn a_conflict_names_the_files_and_the_task_that_changed_them() {
    let sample = SampleProject::local();
    let mut integration = sample.open();
    let base = integration.tip().clone();
    let low_prices = [
        ("prices.txt", "apple 1\nbread 1\ncheese 3\n"),
        ("a b", "1\n"),
    ];
    let high_prices = [
        ("prices.txt", "apple 1\nbread 9\ncheese 3\n"),
        ("a b", "2\n"),
    ];
    let one = sample.run(&integration, &base, "1", &low_prices);
    let two = sample.run(&integration, &base, "2", &high_prices);
    let three = sample.run(&integration, &base, "3", &[("stock.txt", "pear\n")]);
    for run in [&three, &one] {
        let candidate = merge_cleanly(&integration, &integration.tip().clone(), run);
        accept(&mut integration, &candidate);
    }
    let tip = integration.tip().clone();
    let expected = Conflict {
        files: vec!["a b".to_owned(), "prices.txt".to_owned()],
        others: vec![OtherCommit {
            task_id: Some("1".to_owned()),
            subject: "Merge task 1: Prices".to_owned(),
        }],
    };
    assert_eq!(
        merge(&integration, &tip, &two),
        MergeResult::Conflict(expected)
    );
    assert_eq!(integration.tip(), &tip);
}

#[test]
fn a_task_that_the_agent_has_marked_as_pending_again_is_done_in_the_merged_graph() {
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
fn a_graph_that_the_agent_has_deleted_or_broken_is_replaced_by_that_of_the_branch() {
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
        run.id_in_phase = "2".to_owned();
        // The agent breaks or deletes the graph.
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
fn a_missing_commit_of_a_run_is_an_error_that_names_the_run() {
    for (location, worker_location) in [
        (ProjectLocation::Local, WorkerLocation::OnThisMachine),
        (ProjectLocation::Remote, WorkerLocation::Elsewhere),
    ] {
        let sample = SampleProject::new(location, worker_location);
        let integration = sample.open();
        let mut run = sample.run(&integration, integration.tip(), "1", &[]);
        run.commit = "1234567890123456789012345678901234567890".to_owned();
        let error = block_on(integration.merge(integration.tip(), &run)).unwrap_err();
        let words = "the work of run day-1-1 is gone";
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_series_of_merges_moves_the_branch_when_the_last_one_is_accepted() {
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
    assert_eq!(accepted, AcceptResult::Moved { unpublished: None });
    let graph = read(&integration, integration.tip(), ".scud/tasks/tasks.scg");
    assert!(!graph.contains("| P |"), "{graph}");
}
