//! The summary at the end of `local`: what happened, why, what it cost and where the work is.

use super::{assert_in_order, program};
use crate::support::model::{bash_call, text_answer};
use crate::support::{Model, Origin, Project};

#[test]
fn the_summary_of_a_completed_task_has_agent_tokens_checks_and_place() {
    let model = Model::start([bash_call("touch house"), text_answer("Built.")]);
    let project = Project::new();
    project.set_checks(&["test -e house"]);
    let ended = program(&["local", "--task", "8"], &project)
        .env("ANTHROPIC_API_KEY", "sk-ant-no-key")
        .env("ANTHROPIC_BASE_URL", model.url())
        .env("DESCARTES_AGENT", "builtin")
        .run();
    ended.assert_code(0);
    let dir = project.dir().display();
    assert_in_order(
        &ended.stderr,
        &[
            "worker           ended with exit code 0\n",
            "completed   task 8 of phase webapp is done: Build the | house\n",
            "time        ",
            "agent       builtin, claude-",
            ", 2 turns, 1 tool call\n",
            "tokens      ",
            " out\n",
            "cost        $0.",
            "checks      test -e house: passed (",
            &format!("changes     in {dir}; nothing is committed\n"),
        ],
    );
    model.request_bodies();
}

#[test]
fn the_summary_of_a_failed_task_has_reason_causes_and_the_failed_check() {
    let project = Project::new();
    project.set_checks(&["true", "echo the roof is missing; exit 4"]);
    let ended = program(&["local", "--task", "8", "--repairs", "0"], &project)
        .agent("true")
        .run();
    ended.assert_code(1);
    assert_in_order(
        &ended.stderr,
        &[
            "failed      the check `echo the roof is missing; exit 4` failed with exit code 4\n",
            "reason      checks_failed; another attempt would fail too, unless something is changed\n",
            "cause       the roof is missing\n",
            "agent       command\n",
            "checks      true: passed (",
            "            echo the roof is missing; exit 4: failed with exit code 4 (",
        ],
    );
}

#[test]
fn the_summary_names_the_branch_or_the_file_with_the_patch() {
    let (origin, dir, state) = (Origin::new(), Project::empty(), Project::empty());
    let url = origin.url();
    let local = |branch: &str| {
        let args = ["local", "--task", "8", "--repo", &url, "--branch", branch];
        let ended = program(&args, &dir)
            .env("XDG_STATE_HOME", state.dir())
            .agent("echo four walls > house")
            .run();
        ended.assert_code(0);
        ended.stderr
    };
    let changes = "changes     2 files, 2 lines added and 1 removed\n";
    let with_branch = local("walls");
    assert_in_order(
        &with_branch,
        &[changes, &format!("branch      walls of {url}\n")],
    );
    assert!(!with_branch.contains("\npatch "), "{with_branch}");
    let with_patch = local("none");
    assert_in_order(
        &with_patch,
        &[changes, "patch       ", "apply it with: git apply "],
    );
    let line = with_patch.lines().find(|line| line.starts_with("patch "));
    let file = line.expect("a path")["patch".len()..].trim();
    let patch = std::fs::read_to_string(file).expect("the patch");
    assert!(patch.contains("+four walls\n"), "{patch}");
}

#[test]
fn the_summary_says_so_if_the_worker_had_no_result() {
    let project = Project::new();
    let ended = program(&["local", "--task", "8", "--repairs", "many"], &project).run();
    ended.assert_code(2);
    assert!(
        ended.stderr.ends_with(
            "\nno result   the worker ended with exit code 2 before it had a result; the lines above say why\n"
        ),
        "{ended:#?}"
    );
}

#[test]
fn the_summary_of_a_task_that_does_not_exist_names_no_checks_and_no_changes() {
    let project = Project::new();
    let ended = program(&["local", "--task", "80"], &project)
        .agent("true")
        .run();
    ended.assert_code(1);
    assert_in_order(
        &ended.stderr,
        &[
            "failed      there is no task `80` in ",
            "reason      task_not_found; ",
        ],
    );
    for label in ["\nchecks ", "\nchanges ", "\nagent "] {
        assert!(!ended.stderr.contains(label), "{ended:#?}");
    }
}

#[test]
fn a_project_that_does_not_exist_and_a_task_without_its_flag_are_errors_that_say_what_to_do() {
    let project = Project::new();
    let error = |args: &[&str]| {
        let ended = program(args, &project).run();
        ended.assert_code(2);
        ended.stderr
    };
    assert_eq!(
        error(&["local", "--task", "8", "--project", "/nowhere"]),
        "cannot use the project's directory /nowhere; name another one with --project: No such file or directory (os error 2)\n"
    );
    let without_flag = error(&["local", "8"]);
    assert!(
        without_flag.ends_with("the task needs its flag: descartes-worker local --task ID\n"),
        "{without_flag}"
    );
}
