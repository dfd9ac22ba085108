//! Tests of the branches that runs push.

use super::*;

#[test]
fn branches_of_runs_are_found_copied_to_the_users_repository_and_deleted() {
    for (location, worker_location) in [
        (ProjectLocation::Local, WorkerLocation::OnThisMachine),
        (ProjectLocation::Remote, WorkerLocation::OnThisMachine),
        (ProjectLocation::Remote, WorkerLocation::Elsewhere),
    ] {
        let sample = SampleProject::new(location, worker_location);
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
        let published = block_on(integration.publish_candidate(&candidate)).unwrap();
        let url = integration.clone_url();
        let clone = tempfile::tempdir_in(sample.dir.path()).unwrap();
        git(clone.path(), &["init", "--quiet"]);
        git(
            clone.path(),
            &["fetch", "--quiet", "--depth=1", &url, &published],
        );
        // The run is merged again on another commit, as after a push of a person.
        let onto = merge_cleanly(&integration, integration.tip(), &other).commit;
        let candidate = merge_cleanly(&integration, &onto, &run);
        block_on(integration.publish_candidate(&candidate)).unwrap();

        let names = block_on(integration.copy_unmerged_branches(&run.run_id)).unwrap();
        let repository = sample.published_repository();
        assert_eq!(names.len(), 1);
        assert_eq!(git(&repository, &["rev-parse", &names[0]]), run.commit);
        if location == ProjectLocation::Local {
            assert_eq!(
                git(&repository, &["branch", "--format=%(refname)"]),
                "refs/heads/main"
            );
        }
        block_on(integration.delete_run_branches(std::slice::from_ref(&run.run_id))).unwrap();
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
fn all_branches_of_a_run_are_found_and_copied_even_if_their_names_end_alike() {
    let sample = SampleProject::new(ProjectLocation::Local, WorkerLocation::OnThisMachine);
    let integration = sample.open();
    let run = sample.run(&integration, integration.tip(), "1", &[("a.txt", "a\n")]);
    let bare = sample.dir.path().join("state/integration.git");
    for name in ["a/fix", "b/fix", "my-candidate"] {
        let name = format!("refs/heads/descartes-runs/{}/{name}", run.run_id);
        git(&bare, &["update-ref", &name, &run.commit]);
    }
    let mut names = block_on(integration.copy_unmerged_branches(&run.run_id)).unwrap();
    names.sort();
    let expected = ["a/fix", "b/fix", "my-candidate", "work"];
    let directory = format!("refs/descartes/runs/{}", run.run_id);
    assert_eq!(names, expected.map(|name| format!("{directory}/{name}")));
}
