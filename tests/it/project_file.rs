//! For owners of projects: the settings in `.descartes.toml`.

mod sample;

use serde_json::Value;

use crate::dispatch::sample::Graph;
use crate::support::{Origin, Project, Receiver, Worker, path};

/// A project with this `.descartes.toml`.
fn project_with(file: &str) -> Project {
    let project = Project::new();
    project.write(".descartes.toml", file);
    project
}

/// Asserts that a run in a project with an unusable file fails before the agent starts; returns the message.
#[track_caller]
fn assert_unusable(project: &Project) -> String {
    let receiver = Receiver::start();
    let ended = Worker::new(&receiver, project).agent("touch worked").run();
    let event = ended.assert_failed(&receiver, "workspace_failed");
    assert_eq!(event["failure"]["retryable"], false, "{event:#}");
    assert!(!project.path("worked").exists());
    let failure = &event["failure"];
    let text = |field: &str| failure[field].as_str().unwrap_or_default().to_owned();
    format!("{}: {}", text("message"), text("detail"))
}

/// A worker that starts in the project's directory, without `DESCARTES_WORKSPACE`.
fn worker_in(project: &Project, receiver: &Receiver) -> Worker {
    Worker::new(receiver, project)
        .remove_env("DESCARTES_WORKSPACE")
        .dir(project.dir())
}

#[test]
fn a_worker_uses_the_agent_the_checks_and_the_limits_of_the_project_that_it_has_cloned() {
    let receiver = Receiver::start();
    let file = "agent_command = \"echo \\\"$DESCARTES_MODEL\\\"; touch by-the-project\"\nmodel = \"opus\"\n\
        checks = [\"test -e by-the-project\", \"true\"]\nrepairs = 0\ntask_timeout = \"30m\"\n";
    let origin = Origin::with_files(&[(".descartes.toml", file)]);
    let ended = origin.worker(&receiver).run();
    let event = ended.assert_completed(&receiver);
    assert_eq!(event["result"]["output"]["tail"], "opus\n");
    let checks = event["result"]["checks"].as_array().expect("checks");
    let commands: Vec<_> = checks.iter().map(|check| &check["command"]).collect();
    assert_eq!(commands, ["test -e by-the-project", "true"]);
    let words = ".descartes.toml, line 2, sets DESCARTES_MODEL to \\\"opus\\\"";
    assert!(ended.stderr.contains(words), "{ended:#?}");
}

#[test]
fn events_name_the_kind_of_agent_only_if_the_project_cannot_choose_another_kind() {
    // The key makes the built-in agent or Claude Code possible.
    let claimed_agent = |change: fn(Worker) -> Worker| {
        let receiver = Receiver::start();
        let project = project_with("agent_command = \"true\"\n");
        let worker = Worker::new(&receiver, &project).env("ANTHROPIC_API_KEY", "sk-ant-the-key");
        let event = change(worker).run().assert_completed(&receiver);
        assert_eq!(event["result"]["agent"]["kind"], "command", "{event:#}");
        let claim = receiver.only_event("started");
        assert_eq!(claim["worker"]["agent"], event["worker"]["agent"]);
        claim["worker"]["agent"].clone()
    };
    assert_eq!(claimed_agent(|worker| worker), Value::Null);
    assert_eq!(claimed_agent(|worker| worker.agent("true")), "command");
}

#[test]
fn a_time_limit_of_the_project_ends_its_agent() {
    let receiver = Receiver::start();
    let project = project_with("task_timeout = \"300ms\"\n");
    let worker = Worker::new(&receiver, &project).agent("exec sleep 600");
    worker.run().assert_failed(&receiver, "timed_out");
    let receiver = Receiver::start();
    let project = project_with("idle_timeout = \"300ms\"\n");
    let worker = Worker::new(&receiver, &project).agent("exec sleep 600");
    worker.run().assert_failed(&receiver, "idle");
}

#[test]
fn flags_and_variables_take_precedence_over_the_file_of_the_project() {
    let receiver = Receiver::start();
    let project = project_with(
        "agent = \"builtin\"\nagent_command = \"touch by-the-project\"\nmodel = \"opus\"\nchecks = [\"false\"]\n",
    );
    let ended = Worker::new(&receiver, &project)
        .env("DESCARTES_MODEL", "haiku")
        .args(["--checks", "true"])
        .agent("echo \"$DESCARTES_MODEL\"")
        .run();
    let event = ended.assert_completed(&receiver);
    // If the settings name a command, the kind of agent in the file is not used.
    assert_eq!(event["result"]["agent"]["kind"], "command");
    assert_eq!(event["result"]["output"]["tail"], "haiku\n");
    assert_eq!(event["result"]["checks"][0]["command"], "true");
    assert!(!project.path("by-the-project").exists());
}

#[test]
fn the_agent_command_of_a_project_never_gets_a_key() {
    for (name, key) in [
        ("ANTHROPIC_API_KEY", "sk-ant-test-0123456789"),
        ("ANTHROPIC_AUTH_TOKEN", "sk-ant-oat01-0123456789"),
        ("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-0123456789"),
        ("OPENAI_API_KEY", "sk-test-0123456789"),
    ] {
        for gateway in ["off", "auto"] {
            let receiver = Receiver::start();
            let project = project_with("agent_command = \"env > seen\"\n");
            Worker::new(&receiver, &project)
                .env(name, key)
                .env("DESCARTES_MODEL_GATEWAY", gateway)
                .run()
                .assert_completed(&receiver);
            let seen = project.read("seen");
            assert!(!seen.contains(key), "{name}, gateway {gateway}: {seen}");
        }
        // A command in the operator's settings gets the key if the gateway is off.
        let (receiver, project) = (Receiver::start(), project_with("model = \"opus\"\n"));
        Worker::new(&receiver, &project)
            .env(name, key)
            .env("DESCARTES_MODEL_GATEWAY", "off")
            .agent("env > seen")
            .run()
            .assert_completed(&receiver);
        assert!(project.read("seen").contains(key), "{name}");
    }
}

#[test]
fn a_mistake_in_the_file_fails_the_run_and_the_message_names_its_line_and_a_correction() {
    let project = project_with(
        "model = \"opus\"\nagnet_command = \"x\"\ncallback_url = \"http://elsewhere\"\nrepairs = true\n",
    );
    let message = assert_unusable(&project);
    let path = project.path(".descartes.toml");
    for words in [
        &format!("{} cannot be used: ", path.display()),
        "line 2: agnet_command is not a known key; did you mean agent_command?",
        "line 3: callback_url cannot be set here, because a worker needs it before it has the project; set --callback-url or CALLBACK_URL",
        "line 4: repairs must be a number, for example repairs = 1",
    ] {
        assert!(message.contains(words), "{words:?} in {message}");
    }
}

#[test]
fn a_file_that_cannot_be_read_safely_is_an_error_and_never_a_hang() {
    let large = format!("# {}\n", "x".repeat(64 << 10));
    for (make, words) in [
        (
            "ln -s /etc/passwd .descartes.toml",
            "is not a regular file, or its path contains a symbolic link",
        ),
        ("mkfifo .descartes.toml", "is not a regular file"),
        ("mkdir .descartes.toml", "is not a regular file"),
        (
            "printf 'model = \"\\377\"' > .descartes.toml",
            "invalid utf-8",
        ),
        (
            "mv large .descartes.toml",
            "is larger than the limit of 64 KiB",
        ),
    ] {
        let project = Project::new();
        project.write("large", &large);
        let status = std::process::Command::new("sh")
            .args(["-c", make])
            .current_dir(project.dir())
            .env("PATH", path())
            .status();
        assert!(status.expect("a shell").success());
        let message = assert_unusable(&project);
        assert!(message.contains(words), "{make}: {message}");
        assert!(message.contains(".descartes.toml"), "{make}: {message}");
    }
}

/// The setting with this name in the output of `check --json`.
fn setting_of(stdout: &str, name: &str) -> Value {
    let output: Value = serde_json::from_str(stdout).expect("JSON");
    let settings = output["settings"].as_array().expect("settings");
    let found = settings.iter().find(|setting| setting["name"] == name);
    found
        .unwrap_or_else(|| panic!("{name} in {output:#}"))
        .clone()
}

#[test]
fn check_says_where_each_setting_comes_from() {
    let receiver = Receiver::start();
    let project = project_with("model = \"opus\"\nchecks = [\"true\"]\n");
    let check = |args: &[&str]| {
        Worker::new(&receiver, &project)
            .arg("check")
            .args(args)
            .args(["--repairs", "2"])
            .env("ANTHROPIC_API_KEY", "sk-ant-test-0123456789")
            .agent("true")
            .run()
    };
    let ended = check(&[]);
    ended.assert_code(0);
    for line in [
        "set     TASK_ID = \"8\", by TASK_ID",
        "set     DESCARTES_REPAIRS = \"2\", by --repairs",
        "set     DESCARTES_MODEL = \"opus\", by .descartes.toml, line 1",
        "set     DESCARTES_CHECKS = \"true\", by .descartes.toml, line 2",
        "set     ANTHROPIC_API_KEY = (not shown), by ANTHROPIC_API_KEY",
        "ok      checks: true",
    ] {
        assert!(
            ended.stdout.lines().any(|known| known == line),
            "{line}: {ended:#?}"
        );
    }
    let line = "default every other setting; --json lists them";
    assert!(ended.stdout.contains(line), "{ended:#?}");
    let stdout = check(&["--json"]).stdout;
    assert!(!stdout.contains("sk-ant-test"), "{stdout}");
    for (name, value, source, from) in [
        (
            "TASK_ID",
            Value::from("8"),
            "variable",
            Value::from("TASK_ID"),
        ),
        ("DESCARTES_REPAIRS", "2".into(), "flag", "--repairs".into()),
        (
            "DESCARTES_MODEL",
            "opus".into(),
            "file",
            ".descartes.toml, line 1".into(),
        ),
        (
            "DESCARTES_IDLE_TIMEOUT",
            "15m".into(),
            "default",
            Value::Null,
        ),
        (
            "ANTHROPIC_API_KEY",
            Value::Null,
            "variable",
            "ANTHROPIC_API_KEY".into(),
        ),
    ] {
        let found = setting_of(&stdout, name);
        assert_eq!(
            [&found["value"], &found["from"]],
            [&value, &from],
            "{found}"
        );
        assert_eq!(found["source"], source, "{found}");
    }
}

#[test]
fn check_reports_a_mistake_in_the_file_of_the_project() {
    let (receiver, project) = (Receiver::start(), project_with("\ngit_token = \"x\"\n"));
    let ended = Worker::new(&receiver, &project)
        .arg("check")
        .agent("true")
        .run();
    ended.assert_code(2);
    let path = project.path(".descartes.toml");
    let line = format!(
        "MISSING project's settings: {} cannot be used: line 2: git_token is a secret, and everybody who can read the \
         project could read it here; set the variable DESCARTES_GIT_TOKEN",
        path.display()
    );
    assert!(
        ended.stdout.lines().any(|known| known == line),
        "{ended:#?}"
    );
}

#[test]
fn local_runs_a_task_with_the_agent_of_the_project() {
    let project = project_with("agent_command = \"touch by-the-project\"\n");
    let ended = Worker::without_settings()
        .args(["local", "--task", "8"])
        .dir(project.dir())
        .run();
    ended.assert_code(0);
    assert!(project.path("by-the-project").exists());
}

#[test]
fn dispatch_works_with_the_agent_and_the_checks_of_the_commit_and_not_of_the_work_tree() {
    let graph = Graph::new("1 | First | P | 1 | H\n");
    graph.write(
        ".descartes.toml",
        "agent_command = \"echo done > by-the-commit\"\nchecks = [\"test -e by-the-commit\"]\n[[needs]]\ncpus = 2\n",
    );
    graph.commit("Settings");
    graph.write(".descartes.toml", "agent_command = \"false\"\n");
    let ended = graph.command(&[]).run();
    ended.assert_code(0);
    assert_eq!(graph.show("descartes/house", "by-the-commit"), "done\n");
}

#[test]
fn dispatch_reports_a_mistake_or_a_missing_agent_of_the_project_before_anything_starts() {
    for (file, words) in [
        ("branch = \"main\"\n", "at the commit "),
        (
            "branch = \"main\"\n",
            "cannot be used: line 1: branch is not for the project to decide",
        ),
        (
            "checks = [\"no-such-program\"]\nagent_command = \"true\"\n",
            "there is no executable program `no-such-program`",
        ),
        (
            "agent_command = \"no-such-program\"\n",
            "there is no executable program `no-such-program`",
        ),
    ] {
        let graph = Graph::new("1 | First | P | 1 | H\n");
        graph.write(".descartes.toml", file);
        graph.commit("Settings");
        let ended = graph.command(&[]).run();
        ended.assert_code(2);
        assert!(ended.stderr.contains(words), "{file}: {ended:#?}");
        assert_eq!(graph.entries("intent").len(), 0);
    }
}

#[test]
fn dispatch_rejects_a_link_a_directory_or_a_large_file_in_the_place_of_the_file() {
    let large = format!("# {}\n", "x".repeat(64 << 10));
    for (make, words) in [
        (
            "ln -s README .descartes.toml",
            ".descartes.toml is not a regular file, or its path contains a symbolic link",
        ),
        (
            "mkdir .descartes.toml && mv large .descartes.toml",
            ".descartes.toml is not a regular file",
        ),
        (
            "mv large .descartes.toml",
            ".descartes.toml is larger than the limit of 64 KiB",
        ),
    ] {
        let graph = Graph::new("1 | First | P | 1 | H\n");
        graph.write("large", &large);
        let status = std::process::Command::new("sh")
            .args(["-c", make])
            .current_dir(graph.project())
            .env("PATH", path())
            .status();
        assert!(status.expect("a shell").success());
        graph.commit("Settings");
        for args in [&[] as &[&str], &["--plan"]] {
            let ended = graph.dispatch("true").args(args).run();
            ended.assert_code(2);
            assert!(ended.stderr.contains(words), "{make}: {ended:#?}");
            assert!(ended.stderr.contains("at the commit "), "{ended:#?}");
        }
    }
}

#[test]
fn mistakes_of_the_file_cannot_control_a_terminal() {
    for (file, words) in [
        ("\"\\u001b[2J\" = 1\n", "\\u{1b}[2J is not a known key"),
        ("[[needs]]\nmemory = 1 # \u{9b}2J\n", "# \u{fffd}2J"),
    ] {
        let graph = Graph::new("1 | First | P | 1 | H\n");
        graph.write(".descartes.toml", file).commit("Settings");
        let ended = graph.dispatch("true").run();
        ended.assert_code(2);
        assert!(ended.stderr.contains(words), "{file}: {ended:#?}");
    }
    let (receiver, project) = (
        Receiver::start(),
        project_with("sample = \"ex\\u001b[2J\\u009b\"\n"),
    );
    let ended = worker_in(&project, &receiver).arg("check").run();
    ended.assert_code(2);
    assert!(ended.stdout.contains("ex\\u{1b}[2J"), "{ended:#?}");
    assert!(!ended.stdout.contains(['\u{1b}', '\u{9b}']), "{ended:#?}");
}

#[test]
fn check_prints_no_control_characters_of_the_project() {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.set_checks(&["true \u{1b}[2J"]);
    let ended = Worker::new(&receiver, &project)
        .arg("check")
        .agent("true")
        .run();
    ended.assert_code(0);
    let line = "ok      checks: true \u{241b}[2J";
    assert!(ended.stdout.contains(line), "{ended:#?}");
}
