//! Tests of the preflight, with real git.

use std::collections::HashSet;
use std::fs;

use super::super::integration::samples::{BRANCH, ProjectLocation, SampleProject, block_on, git};
use super::super::integration::{Integration, WorkerLocation};
use super::super::project_files::CHECKS_FILE;
use super::*;
use crate::runner::project_settings::{ProjectSettings, ProjectSettingsReader};

fn rules() -> ProjectRules {
    ProjectRules {
        project_settings: ProjectSettingsReader {
            read: |_, _| Ok(ProjectSettings::default()),
            already_set: Vec::new(),
        },
        checks: None,
        path: Some("/usr/bin:/bin".into()),
        agent: None,
        scope: HashSet::new(),
    }
}

fn find_problems(sample: &SampleProject, rules: &ProjectRules) -> Findings {
    let opened = block_on(Integration::open(sample.settings())).unwrap();
    block_on(preflight(&opened.integration, rules)).unwrap()
}

#[test]
fn a_correct_project_has_no_findings() {
    for (location, worker_location) in [
        (ProjectLocation::Local, WorkerLocation::OnThisMachine),
        (ProjectLocation::Remote, WorkerLocation::OnThisMachine),
        (ProjectLocation::Remote, WorkerLocation::Elsewhere),
    ] {
        let sample = SampleProject::new(location, worker_location);
        assert_eq!(find_problems(&sample, &rules()), Findings::default());
    }
}

#[test]
fn an_uncommitted_ignored_or_missing_graph_is_an_obstacle() {
    let sample = SampleProject::local();
    let project = sample.project();
    git(&project, &["rm", "--quiet", "--cached", GRAPH_PATH]);
    git(&project, &["commit", "--quiet", "--message=without"]);
    let obstacle = |words: &str| {
        let findings = find_problems(&sample, &rules());
        assert_eq!(findings.obstacles.len(), 1, "{findings:?}");
        assert!(findings.obstacles[0].contains(words), "{findings:?}");
    };
    obstacle("git add .scud, and commit it");
    fs::write(project.join(".git/info/exclude"), ".scud\n").unwrap();
    obstacle("git ignores the task graph .scud/tasks/tasks.scg");
    fs::remove_file(project.join(GRAPH_PATH)).unwrap();
    obstacle("there is no task graph .scud/tasks/tasks.scg in the commit");
}

#[test]
fn uncommitted_changes_are_a_warning_and_the_index_is_not_changed() {
    let sample = SampleProject::local();
    let project = sample.project();
    for number in 1..=6 {
        fs::write(project.join(format!("new-{number}.txt")), "new\n").unwrap();
    }
    fs::write(project.join("stock.txt"), "pear\n").unwrap();
    let index = fs::read(project.join(".git/index")).unwrap();
    let findings = find_problems(&sample, &rules());
    assert_eq!(findings.obstacles, Vec::<String>::new());
    let words = "uncommitted changes, which no task will see: stock.txt, new-1.txt, new-2.txt, new-3.txt, new-4.txt and 2 more";
    assert_eq!(findings.warnings, [words]);
    assert_eq!(fs::read(project.join(".git/index")).unwrap(), index);
}

#[test]
fn a_missing_program_of_a_check_is_an_obstacle() {
    let sample = SampleProject::local();
    let config = "[swarm.backpressure]\ncommands = [\"sh test.sh\", \"no-such-program --all\"]\n";
    sample.person_writes(&[(CHECKS_FILE, config)]);
    let findings = find_problems(&sample, &rules());
    assert_eq!(findings.obstacles.len(), 1, "{findings:?}");
    let words = "the check `no-such-program --all` cannot start: there is no executable program `no-such-program`";
    assert!(findings.obstacles[0].starts_with(words), "{findings:?}");
    // Programs are not looked for if workers run on other machines, or if the settings name other checks.
    let elsewhere = ProjectRules {
        path: None,
        ..rules()
    };
    assert_eq!(find_problems(&sample, &elsewhere), Findings::default());
    let other = ProjectRules {
        checks: Some(vec!["true".to_owned()]),
        ..rules()
    };
    assert_eq!(find_problems(&sample, &other), Findings::default());

    // A mistake in the file is an obstacle for all workers.
    sample.person_writes(&[(
        CHECKS_FILE,
        "[swarm.backpressure]\ncommands = \"sh test.sh\"\n",
    )]);
    let findings = find_problems(&sample, &elsewhere);
    assert!(
        findings.obstacles[0].contains(CHECKS_FILE) && !findings.obstacles[0].contains("/tmp"),
        "{findings:?}"
    );
}

#[test]
fn a_checked_out_integration_branch_is_a_warning() {
    let sample = SampleProject::local();
    let project = sample.project();
    git(&project, &["checkout", "--quiet", "-b", BRANCH]);
    let findings = find_problems(&sample, &rules());
    assert_eq!(findings.obstacles, Vec::<String>::new());
    let words = format!(
        "the branch {BRANCH} is checked out in {}",
        project.display()
    );
    assert!(findings.warnings[0].starts_with(&words), "{findings:?}");
}

#[test]
fn a_remote_that_refuses_pushes_is_an_obstacle_and_the_check_pushes_no_branch() {
    let sample = SampleProject::new(ProjectLocation::Remote, WorkerLocation::Elsewhere);
    let remote = sample.published_repository();
    let opened = block_on(Integration::open(sample.settings())).unwrap();
    let before = git(&remote, &["for-each-ref"]);
    let findings = block_on(preflight(&opened.integration, &rules())).unwrap();
    assert_eq!(findings, Findings::default());
    assert_eq!(git(&remote, &["for-each-ref"]), before);

    fs::rename(&remote, sample.path("gone")).unwrap();
    fs::create_dir(&remote).unwrap();
    let findings = block_on(preflight(&opened.integration, &rules())).unwrap();
    assert_eq!(findings.obstacles.len(), 1, "{findings:?}");
    assert!(
        findings.obstacles[0].contains("refuses a push"),
        "{findings:?}"
    );
}
