//! `local --dry-run` shows what a run would start, and starts nothing.

use std::collections::BTreeMap;
use std::path::Path;

use super::{assert_in_order, program};
use crate::support::{Project, schema};

/// Every file below a directory, with its content.
fn files(dir: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(path).expect("a file"));
        }
    }
    found
}

#[test]
fn dry_run_prints_the_command_line_and_the_prompt_and_changes_nothing() {
    let (project, temporary) = (Project::new(), Project::empty());
    project.set_checks(&["test -e house"]);
    let before = files(project.dir());
    let ended = program(&["local", "--task", "8", "--dry-run"], &project)
        .env("TMPDIR", temporary.dir())
        .env("HOME", temporary.dir())
        .env("DESCARTES_NOTE", "Mind the gap.")
        .agent("touch 'it worked'")
        .run();
    ended.assert_code(0);
    assert_in_order(
        &ended.stdout,
        &[
            "task      8 of phase webapp: Build the | house\n",
            "agent     command\n",
            &format!("directory {}\n", project.dir().display()),
            "command   /bin/sh -c \"touch 'it worked'\"\n",
            "checks    test -e house\n",
            "\nThe prompt, on the standard input of the command:\n\n# Task 8: Build the | house\n",
            "Four walls and a roof.\n",
            "- Don't commit or push",
            "Mind the gap.\n",
        ],
    );
    assert_eq!(ended.stderr, "");
    assert_eq!(files(project.dir()), before);
    assert_eq!(files(temporary.dir()), BTreeMap::new());
}

#[test]
fn the_prompt_of_a_dry_run_is_the_one_that_the_agent_gets() {
    let project = Project::new();
    let dry_run = program(&["local", "--task", "8", "--dry-run", "--json"], &project)
        .agent("cat > prompt")
        .run();
    dry_run.assert_code(0);
    let dry_run = schema::cli_object(&dry_run.stdout);
    let run = program(&["local", "--task", "8"], &project)
        .agent("cat > prompt")
        .run();
    run.assert_code(0);
    assert_eq!(dry_run["prompt"], project.read("prompt"));
    assert_eq!(
        dry_run["command"],
        serde_json::json!(["/bin/sh", "-c", "cat > prompt"])
    );
}

#[test]
fn a_dry_run_needs_no_key_and_says_that_a_run_would() {
    let project = Project::new();
    let ended = program(&["local", "--task", "8", "--dry-run"], &project)
        .env("DESCARTES_AGENT", "builtin")
        .env("DESCARTES_MAX_TURNS", "5")
        .run();
    ended.assert_code(0);
    assert_in_order(
        &ended.stdout,
        &[
            "agent     builtin, claude-",
            " (a run would fail: set ANTHROPIC_API_KEY, or another agent)\n",
            "descartes-worker agent --session RUN_DIRECTORY/conversation.json '--model=claude-",
            " --max-turns 5 ",
        ],
    );
    assert!(!ended.stdout.contains("placeholder"), "{ended:#?}");
}

#[test]
fn a_model_that_begins_with_a_hyphen_is_not_taken_for_a_flag_of_the_built_in_agent() {
    let project = Project::new();
    project.write(".descartes.toml", "agent = \"builtin\"\nmodel = \"-x\"\n");
    let ended = program(&["local", "--task", "8", "--dry-run"], &project).run();
    ended.assert_code(0);
    assert!(ended.stdout.contains(" '--model=-x' "), "{ended:#?}");
}

#[test]
fn a_dry_run_uses_the_settings_of_the_project_and_names_them() {
    let project = Project::new();
    project.set_checks(&["test -e house"]);
    project.write(
        ".descartes.toml",
        "agent_command = \"touch by-the-project\"\nchecks = [\"true\"]\nmodel = \"opus\"\n",
    );
    let dry_run = |args: &[&str]| {
        program(&["local", "--task", "8", "--dry-run"], &project)
            .args(args)
            .args(["--model", "haiku"])
            .run()
    };
    let ended = dry_run(&[]);
    ended.assert_code(0);
    assert_in_order(
        &ended.stdout,
        &[
            "agent     command, haiku\n",
            "command   /bin/sh -c 'touch by-the-project'\n",
            "checks    true\n",
            "settings  DESCARTES_AGENT_COMMAND = \"touch by-the-project\", by .descartes.toml, line 1\n",
            "          DESCARTES_CHECKS = \"true\", by .descartes.toml, line 2\n",
        ],
    );
    assert!(!ended.stdout.contains("DESCARTES_MODEL"), "{ended:#?}");
    let ended = dry_run(&["--json"]);
    let object = schema::cli_object(&ended.stdout);
    assert_eq!(object["checks"], serde_json::json!(["true"]));
    assert_eq!(
        object["settings_of_project"][1],
        serde_json::json!({ "variable": "DESCARTES_CHECKS", "value": "true", "line": 2 })
    );
    project.write(".descartes.toml", "agnet = \"builtin\"\n");
    let ended = dry_run(&[]);
    ended.assert_code(2);
    let words =
        ".descartes.toml cannot be used: line 1: agnet is not a known key; did you mean agent?";
    assert!(ended.stderr.contains(words), "{ended:#?}");
}

#[test]
fn a_dry_run_with_commit_shows_the_prompt_of_an_agent_in_a_clone() {
    let project = Project::new();
    std::fs::create_dir(project.path(".git")).expect("a directory");
    let ended = program(&["local", "--task", "8", "--dry-run", "--commit"], &project)
        .agent("true")
        .run();
    ended.assert_code(0);
    assert_in_order(
        &ended.stdout,
        &[
            "note      this is read from the work tree; a run with --commit reads the last commit\n",
            "- You are in CLONE_DIRECTORY, ",
            "- Commit as you like",
        ],
    );
}

#[test]
fn a_dry_run_reports_what_would_stop_the_run_before_its_agent() {
    let project = Project::new();
    let dry_run = |args: &[&str]| {
        let ended = program(&["local", "--dry-run"], &project)
            .args(args)
            .agent("true")
            .run();
        ended.assert_code(2);
        assert_eq!(ended.stdout, "");
        ended.stderr
    };
    assert!(dry_run(&["--task", "80"]).contains("80"));
    assert_eq!(
        dry_run(&["--task", "8", "--repo", "/nowhere"]),
        "--dry-run cannot read the task in /nowhere without cloning it; clone it, and name its directory with --project\n"
    );
    let both = dry_run(&["--task", "8", "--only-checks=true"]);
    assert!(
        both.contains("--dry-run: and --only-checks are both set"),
        "{both}"
    );
}
