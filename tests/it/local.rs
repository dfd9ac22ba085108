//! For people at a terminal: `demo`, `local` and `receive` on one machine, with nothing to set up.

mod dry_run;
mod ending;
mod json;
mod project;
mod summary;
mod terminal;

use rustix::process::Signal;

use crate::support::model::{bash_call, text_answer};
use crate::support::{FinishedWorker, Model, Project, Worker, assert_in_order, path_without};

/// Splits standard error into the lines of `local` and the lines of the worker's log. They arrive through different pipes, so
/// only the order within each of them is certain.
fn timeline_and_log(ended: &FinishedWorker) -> (String, String) {
    let lines = ended.stderr.split_inclusive('\n');
    let (log, timeline): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.contains("s │ "));
    (timeline.concat(), log.concat())
}

/// The program with these arguments in the directory of a project, without the variable `HOME`.
fn program(args: &[&str], dir: &Project) -> Worker {
    Worker::without_settings().args(args).dir(dir.dir())
}

#[test]
fn demo_shows_a_worker_from_claim_to_result() {
    let dir = Project::empty();
    let ended = program(&["demo"], &dir)
        .change_command(|command| {
            // A user without a git identity, whose git would open an editor.
            command.env("GIT_EDITOR", "false").env("GIT_PAGER", "false");
        })
        .run();
    ended.assert_code(0);
    assert_eq!(ended.stdout, "");
    let (timeline, log) = timeline_and_log(&ended);
    assert_in_order(
        &log,
        &[
            "found: The last guest is not greeted",
            "agent: FAILED: one guest is greeted: expected 'Hello, Ada!', got ''\n",
            "check: sh test.sh: passed",
        ],
    );
    assert_in_order(
        &timeline,
        &[
            "a sample project with a failing check, in /",
            "no agent is set, so a short script stands in for one: sh .agent.sh\n",
            "orchestrator     listens at http://127.0.0.1:",
            "orchestrator     starts a worker for task greeting:2\n",
            "POST /started    greeting:2: run ",
            "POST /completed  greeting:2: task 2 of phase greeting is done: The last guest is not greeted\n",
            "worker           ended with exit code 0\n",
            "what the worker has changed in the project:\n",
            "-2 | The last guest is not greeted | P | 1 | H\n+2 | The last guest is not greeted | D | 1 | H\n",
            "-while [ $# -gt 1 ]; do\n+while [ $# -gt 0 ]; do\n",
            "completed   task 2 of phase greeting is done: The last guest is not greeted\n",
            "checks      sh test.sh: passed (",
        ],
    );
    assert!(!ended.stderr.contains("protocol  "), "{ended:#?}");
    assert!(
        std::fs::read_dir(dir.dir())
            .expect("a directory")
            .next()
            .is_none()
    );
}

#[test]
fn demo_uses_claude_code_if_it_is_installed_and_there_is_a_key() {
    let dir = Project::empty();
    std::fs::create_dir(dir.path("bin")).expect("a directory");
    crate::support::origin::write_program(
        &dir.path("bin/claude"),
        "echo \"claude $*\"; head -n 1; sed -i 's/-gt 1/-gt 0/' greet.sh
         echo '{\"type\":\"result\",\"subtype\":\"success\",\"result\":\"Fixed.\"}'",
    );
    let mut path = dir.path("bin").into_os_string();
    path.push(":");
    path.push(crate::support::path());
    let ended = program(&["demo"], &dir)
        .env("PATH", path)
        .env("IS_SANDBOX", "1")
        .env("ANTHROPIC_API_KEY", "sk-ant-no-key")
        .run();
    ended.assert_code(0);
    let (timeline, log) = timeline_and_log(&ended);
    assert_in_order(
        &timeline,
        &["there is a key, so the agent is claude-code\n"],
    );
    assert_in_order(
        &log,
        &[
            "agent: claude --print --verbose --output-format stream-json --permission-mode bypassPermissions\n",
            "agent: # Task 2: The last guest is not greeted\n",
            "check: sh test.sh: passed",
        ],
    );
}

#[test]
fn demo_uses_the_built_in_agent_if_there_is_a_key_but_no_claude_code() {
    let model = Model::start([
        bash_call("sed -i 's/-gt 1/-gt 0/' greet.sh && sh test.sh"),
        text_answer("Fixed."),
    ]);
    let bin = tempfile::tempdir().expect("a directory");
    let ended = program(&["demo"], &Project::empty())
        .env("PATH", path_without("claude", bin.path()))
        .env("ANTHROPIC_API_KEY", "sk-ant-no-key")
        .env("ANTHROPIC_BASE_URL", model.url())
        .run();
    ended.assert_code(0);
    let (timeline, log) = timeline_and_log(&ended);
    assert_in_order(&timeline, &["there is a key, so the agent is builtin\n"]);
    let lines = [
        "tool: bash sed -i",
        "agent: Fixed.",
        "check: sh test.sh: passed",
    ];
    assert_in_order(&log, &lines);
    model.request_bodies();
}

#[test]
fn demo_reports_failed_checks_although_the_configured_agent_claims_success() {
    let dir = Project::empty();
    for worker in [
        program(&["demo"], &dir).agent("echo all done, promised"),
        program(
            &["demo", "--agent-command", "echo all done, promised"],
            &dir,
        ),
    ] {
        let ended = worker.env("DESCARTES_REPAIRS", "0").run();
        ended.assert_code(1);
        let (timeline, log) = timeline_and_log(&ended);
        assert_in_order(&log, &["agent: all done, promised\n"]);
        assert_in_order(
            &timeline,
            &[
                "the agent is the one that the settings name\n",
                "POST /failed     greeting:2: the check `sh test.sh` failed with exit code 1 [checks_failed]\n",
                "worker           ended with exit code 1\n",
            ],
        );
        assert!(!ended.stderr.contains("\n+"), "{ended:#?}");
    }
}

#[test]
fn local_runs_a_task_of_the_project_that_a_flag_names() {
    let (project, elsewhere) = (Project::new(), Project::empty());
    let dir = project.dir().to_str().expect("a path in UTF-8");
    let ended = program(&["local", "--task", "8", "--project", dir], &elsewhere)
        .agent("pwd -P; echo \"$PROJECT_ID\" > made")
        .run();
    ended.assert_code(0);
    assert_eq!(ended.stdout, "");
    let (timeline, log) = timeline_and_log(&ended);
    assert_in_order(&log, &[&format!("agent: {dir}\n")]);
    assert_in_order(
        &timeline,
        &[
            "orchestrator     starts a worker for task 8\n",
            "POST /started    8: run ",
            "POST /completed  8: task 8 of phase webapp is done: Build the | house\n",
            "worker           ended with exit code 0\n",
        ],
    );
    assert_eq!(project.read("made"), "local\n");
    assert!(project.graph().contains("house | D |"));
}

#[test]
fn local_works_in_the_current_directory_by_default() {
    let project = Project::new();
    let ended = program(
        &["local", "--task", "8", "--agent-command", "exit 5"],
        &project,
    )
    .run();
    ended.assert_code(1);
    assert_in_order(
        &ended.stderr,
        &["POST /failed     8: the agent's command failed with exit code 5 [agent_failed]\n"],
    );
}

#[test]
fn local_shows_which_settings_its_worker_rejects() {
    let project = Project::new();
    let ended = program(&["local", "--task", "8", "--repairs", "many"], &project).run();
    ended.assert_code(2);
    assert_in_order(
        &ended.stderr,
        &[
            "1 setting is invalid\n",
            "DESCARTES_REPAIRS: \"many\" is not a number from 0 to 100\n",
            "worker           ended with exit code 2\n",
        ],
    );
    assert!(!ended.stderr.contains("POST /"), "{ended:#?}");
}

#[test]
fn local_forwards_ctrl_c_to_the_worker() {
    let project = Project::new();
    let local = program(&["local", "--task", "8"], &project)
        .agent("echo ready; exec sleep 600")
        .start();
    local.wait_for_log("agent: ready");
    local.signal(Signal::INT);
    let ended = local.wait();
    ended.assert_code(1);
    assert_in_order(
        &ended.stderr,
        &[
            "POST /failed     8: the worker was stopped by SIGINT [interrupted]\n",
            "worker           ended with exit code 1\n",
        ],
    );
}

#[test]
fn demo_masks_the_secrets_of_the_agents_file_of_variables_and_shows_terminal_codes_as_characters() {
    const TOKEN: &str = "file-token-6c1f9e77";
    let dir = Project::empty();
    dir.write(
        "variables.json",
        serde_json::json!({ "BUILD_TOKEN": TOKEN }).to_string(),
    );
    let agent = r#"sed -i 's/-gt 1/-gt 0/' greet.sh; printf '# %s \033]0;title\007\n' "$BUILD_TOKEN" >> greet.sh"#;
    let ended = program(&["demo", "--json", "--report", "page.html"], &dir)
        .env("DESCARTES_AGENT_ENV_FILE", dir.path("variables.json"))
        .agent(agent)
        .run();
    ended.assert_code(0);
    assert!(
        ended.stderr.contains("+# *** \u{241b}]0;title\u{2407}\n"),
        "{ended:#?}"
    );
    for text in [&ended.stderr, &ended.stdout, &dir.read("page.html")] {
        assert!(!text.contains(TOKEN), "{text}");
    }
}

#[test]
fn local_and_demo_have_no_flag_for_the_format_of_the_log() {
    let project = Project::new();
    for command in ["local", "demo"] {
        let ended = program(&[command, "--log-format", "json"], &project).run();
        ended.assert_code(2);
        let message = "unexpected argument '--log-format' found";
        assert!(ended.stderr.contains(message), "{ended:#?}");
    }
}
