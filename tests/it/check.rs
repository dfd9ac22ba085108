//! For operators before their first run: `check` reports whether everything that a run would need is there.

mod repository;

use std::fs;

use serde_json::Value;

use crate::support::{FinishedWorker, Origin, Project, Receiver, Worker};

/// Asserts which lines a `check` prints, except the lines about the machine and about the origin of each setting.
#[track_caller]
fn assert_lines(ended: &FinishedWorker, code: i32, expected: &[&str]) {
    ended.assert_code(code);
    assert_eq!(ended.stderr, "");
    let mut lines: Vec<&str> = ended.stdout.lines().collect();
    lines.retain(|line| {
        let machine_lines = ["ok      temporary directory: ", "ok      isolation: "];
        let settings_lines = ["set     ", "default "];
        !machine_lines
            .iter()
            .chain(&settings_lines)
            .any(|start| line.starts_with(start))
    });
    assert_eq!(lines, expected);
}

/// Asserts that one of the printed lines is exactly this one.
#[track_caller]
fn assert_line(ended: &FinishedWorker, line: &str) {
    assert!(
        ended.stdout.lines().any(|known| known == line),
        "{line} in {ended:#?}"
    );
}

/// `check` for a worker of this project.
fn check_of_project(receiver: &Receiver, project: &Project) -> Worker {
    Worker::new(receiver, project).arg("check")
}

/// A `check` of a project in a repository.
fn check_of_repository(origin: &Origin, receiver: &Receiver) -> Worker {
    origin.worker(receiver).agent("true").arg("check")
}

#[test]
fn check_reports_what_is_there_and_changes_nothing() {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.set_checks(&["touch checked", "true"]);
    let before = project.graph();
    let ended = check_of_project(&receiver, &project)
        .agent("touch worked")
        .run();
    assert_lines(
        &ended,
        0,
        &[
            "ok      settings: valid",
            &format!("ok      workspace: {}", project.dir().display()),
            "ok      task: 8 of phase webapp: Build the | house",
            "ok      checks: touch checked, true",
            "ok      agent definition: none",
            "ok      agent: command",
        ],
    );
    assert!(receiver.requests().is_empty());
    assert_eq!(project.graph(), before);
    assert!(!project.path("checked").exists() && !project.path("worked").exists());
}

#[test]
fn check_reports_everything_that_is_missing_in_one_run() {
    let (receiver, project) = (Receiver::start(), Project::empty());
    project.write(
        ".scud/config.toml",
        "[swarm.backpressure]\ncommands = true\n",
    );
    let ended = check_of_project(&receiver, &project).run();
    let dir = project.dir().display();
    assert_lines(
        &ended,
        2,
        &[
            "ok      settings: valid",
            &format!("ok      workspace: {dir}"),
            &format!("MISSING task: {dir}/.scud/tasks/tasks.scg does not exist"),
            &format!(
                "MISSING checks: {dir}/.scud/config.toml, line 2: `commands` must be a list of strings, for example \
                 commands = [\"cargo test\"]"
            ),
            "ok      agent definition: none",
            "MISSING agent: there is no agent to run: set DESCARTES_AGENT_COMMAND or --agent-command to the command that starts one, or ANTHROPIC_API_KEY to use Claude Code or the built-in agent",
        ],
    );
    assert!(receiver.requests().is_empty());
}

#[test]
fn check_stops_at_a_missing_workspace() {
    let (receiver, project) = (Receiver::start(), Project::empty());
    let gone = project.path("gone");
    let ended = check_of_project(&receiver, &project)
        .env("DESCARTES_WORKSPACE", &gone)
        .agent("true")
        .run();
    assert_lines(
        &ended,
        2,
        &[
            "ok      settings: valid",
            &format!(
                "MISSING workspace: there is no workspace at {}: No such file or directory (os error 2)",
                gone.display()
            ),
        ],
    );
}

#[test]
fn check_reports_a_done_task_as_not_runnable() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = check_of_project(&receiver, &project)
        .env("TASK_ID", "7")
        .agent("true")
        .run();
    ended.assert_code(2);
    assert_line(
        &ended,
        "MISSING task: task `7` of phase `webapp` is done; set DESCARTES_FORCE=true to run it anyway",
    );
}

#[test]
fn check_reports_a_broken_agent_definition() {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.write(
        ".scud/tasks/tasks.scg",
        project.graph() + "\n@agents\n8 | builder\n",
    );
    project.write(".scud/agents/builder.toml", "[agent]\n");
    let ended = check_of_project(&receiver, &project).agent("true").run();
    ended.assert_code(2);
    let line = ended.stdout.lines().last().expect("a line");
    let path = project.path(".scud/agents/builder.toml");
    assert!(
        line.starts_with(&format!(
            "MISSING agent definition: {}, line 1: ",
            path.display()
        )),
        "{ended:#?}"
    );
}

#[test]
fn check_reports_invalid_settings_as_a_run_does() {
    let ended = Worker::without_settings().arg("check").run();
    ended.assert_code(2);
    assert!(
        ended
            .stderr
            .starts_with("3 settings are invalid\n  TASK_ID: is missing"),
        "{ended:#?}"
    );
}

#[test]
fn check_reports_programs_that_do_not_exist() {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.set_checks(&["true", "no-such-check --all"]);
    let ended = check_of_project(&receiver, &project)
        .agent("A=1 no-such-agent --print")
        .run();
    ended.assert_code(2);
    assert_line(
        &ended,
        "MISSING checks: the check `no-such-check --all` cannot start: there is no executable program \
         `no-such-check`; correct the command, or install the program",
    );
    assert_line(
        &ended,
        "MISSING agent: there is no executable program `no-such-agent`, which DESCARTES_AGENT_COMMAND starts: \
         correct the command, or install the program",
    );
    // The agent may create a program in the project before the check runs.
    project.set_checks(&["./test.sh"]);
    project.write("agent.sh", "");
    for (agent, code) in [
        ("sh ./agent.sh", 0),
        ("cd . && nonsense", 0),
        ("./agent.sh", 2),
    ] {
        check_of_project(&receiver, &project)
            .agent(agent)
            .run()
            .assert_code(code);
    }
}

#[test]
fn check_reports_a_temporary_directory_that_cannot_be_used() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let gone = project.path("gone");
    let ended = check_of_project(&receiver, &project)
        .env("TMPDIR", &gone)
        .agent("true")
        .run();
    ended.assert_code(2);
    let line = format!(
        "MISSING temporary directory: no directory can be made in {}; set TMPDIR to an existing directory that the \
         worker can write: ",
        gone.display()
    );
    assert!(ended.stdout.contains(&line), "{ended:#?}");
    assert_line(
        &ended,
        &format!("ok      workspace: {}", project.dir().display()),
    );
}

#[test]
fn check_reports_certificate_authorities_that_cannot_be_read() {
    let (receiver, project) = (Receiver::start(), Project::new());
    for (name, content, reason) in [
        ("gone.pem", None, "cannot be read: "),
        (
            "empty.pem",
            Some(""),
            "there is no certificate authority in ",
        ),
    ] {
        let file = project.path(name);
        if let Some(content) = content {
            project.write(name, content);
        }
        let ended = check_of_project(&receiver, &project)
            .env("SSL_CERT_FILE", &file)
            .agent("true")
            .run();
        ended.assert_code(2);
        let line = ended
            .stdout
            .lines()
            .find(|line| line.starts_with("MISSING certificate authorities: SSL_CERT_FILE: "));
        let line = line.unwrap_or_else(|| panic!("{ended:#?}"));
        assert!(
            line.contains(reason) && line.contains(&file.display().to_string()),
            "{line}"
        );
    }
}

#[test]
fn check_reports_that_git_is_missing_and_that_the_directory_for_the_clone_is_not_empty() {
    let (origin, receiver) = (Origin::new(), Receiver::start());
    fs::create_dir(origin.workspace()).expect("a directory");
    fs::write(origin.workspace().join("file"), "").expect("a file");
    let ended = check_of_repository(&origin, &receiver)
        .env("PATH", origin.path("bin"))
        .env("DESCARTES_AGENT_COMMAND", "/bin/sh agent.sh")
        .run();
    assert_lines(
        &ended,
        2,
        &[
            "ok      settings: valid",
            "MISSING git: there is no git on the PATH",
            &format!(
                "MISSING workspace: nothing can be cloned into {}: it is not empty",
                origin.workspace().display()
            ),
            "ok      agent: command",
        ],
    );
}

#[test]
fn check_local_needs_no_orchestrator() {
    let project = Project::new();
    let ended = Worker::without_settings()
        .dir(project.dir())
        .args(["check", "--local", "--task", "8", "--agent-command", "true"])
        .run();
    assert_lines(
        &ended,
        0,
        &[
            "ok      settings: valid",
            &format!("ok      workspace: {}", project.dir().display()),
            "ok      task: 8 of phase webapp: Build the | house",
            "ok      checks: none",
            "ok      agent definition: none",
            "ok      agent: command",
        ],
    );
    let ended = Worker::without_settings().args(["check", "--local"]).run();
    ended.assert_code(2);
    assert!(
        ended
            .stderr
            .starts_with("1 setting is invalid\n  TASK_ID: is missing"),
        "{ended:#?}"
    );
}

#[test]
fn check_prints_json_on_request() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let json_of = |worker: Worker, code| -> Value {
        let ended = worker.arg("--json").run();
        ended.assert_code(code);
        assert_eq!(ended.stderr, "");
        crate::support::schema::cli_object(&ended.stdout)
    };
    let ready = json_of(check_of_project(&receiver, &project).agent("true"), 0);
    assert_eq!(ready["ready"], true);
    let findings = ready["findings"].as_array().expect("findings");
    assert!(findings.iter().all(|finding| finding["ok"] == true));
    let task = findings.iter().find(|finding| finding["subject"] == "task");
    assert_eq!(
        task.expect("the task")["message"],
        "8 of phase webapp: Build the | house"
    );

    let missing = json_of(
        check_of_project(&receiver, &project)
            .env("TASK_ID", "7")
            .agent("true"),
        2,
    );
    assert_eq!(missing["ready"], false);
    let findings = missing["findings"].as_array().expect("findings");
    let task = findings.iter().find(|finding| finding["subject"] == "task");
    assert_eq!(task.expect("the task")["ok"], false);

    let invalid = json_of(Worker::without_settings().arg("check"), 2);
    assert_eq!(invalid["ready"], false);
    let findings = invalid["findings"].as_array().expect("findings");
    assert_eq!(findings.len(), 3);
    assert!(
        findings[0]["message"]
            .as_str()
            .is_some_and(|message| message.starts_with("TASK_ID: is missing")),
        "{invalid:#}"
    );
}

#[test]
fn check_masks_secrets_in_what_it_prints() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = check_of_project(&receiver, &project)
        .env("MY_TOKEN", "verborgen-1")
        .agent("verborgen-1 --print")
        .run();
    ended.assert_code(2);
    assert!(!ended.stdout.contains("verborgen"), "{ended:#?}");
    assert!(
        ended
            .stdout
            .contains("MISSING agent: there is no executable program `***`"),
        "{ended:#?}"
    );
}

#[test]
fn check_hides_a_token_in_the_query_of_the_callback_url() {
    const TOKEN: &str = "query-token-6c1f9e77";
    let (receiver, project) = (Receiver::start(), Project::new());
    let url = format!("{}?access_token={TOKEN}", receiver.url());
    let check = || check_of_project(&receiver, &project).agent("true");
    for worker in [
        check().env("CALLBACK_URL", &url),
        check().env("CALLBACK_URL", &url).arg("--json"),
        check()
            .remove_env("CALLBACK_URL")
            .env("DESCARTES_CALLBACK_URL", &url),
        check()
            .remove_env("CALLBACK_URL")
            .args(["--callback-url", &url]),
    ] {
        let ended = worker.run();
        ended.assert_code(0);
        assert!(ended.stdout.contains("?access_token=***"), "{ended:#?}");
        assert!(!ended.stdout.contains(TOKEN), "{ended:#?}");
        assert!(!ended.stderr.contains(TOKEN), "{ended:#?}");
    }
}
