//! For operators: every setting can be given as a flag, as a variable, and with each of its names.

mod completions;

use std::os::unix::process::CommandExt;

use crate::support::{Project, Receiver, Reply, Worker};

#[test]
fn the_flag_takes_precedence_over_the_short_name_and_the_short_name_over_the_prefixed_one() {
    let project = Project::new();
    let claimed_task_id = |change: fn(Worker) -> Worker| {
        let receiver = Receiver::start();
        receiver.set_default_reply("started", Reply::status(409));
        change(Worker::new(&receiver, &project))
            .run()
            .assert_code(4);
        let event = receiver.only_event("started");
        event["task_id"].as_str().expect("an id").to_owned()
    };
    let all = |worker: Worker| {
        worker
            .env("TASK_ID", "bare")
            .env("DESCARTES_TASK_ID", "prefixed")
            .arg("--task")
            .arg("flag")
    };
    assert_eq!(claimed_task_id(all), "flag");
    assert_eq!(
        claimed_task_id(|worker| worker.env("DESCARTES_TASK_ID", "prefixed")),
        "8"
    );
    assert_eq!(
        claimed_task_id(|worker| worker
            .remove_env("TASK_ID")
            .env("DESCARTES_TASK_ID", "prefixed")),
        "prefixed"
    );
    // An empty value counts as unset, for the flag too.
    let empty = |worker: Worker| {
        worker
            .env("TASK_ID", "")
            .env("DESCARTES_TASK_ID", "prefixed")
            .arg("--task=")
    };
    assert_eq!(claimed_task_id(empty), "prefixed");
}

#[test]
fn the_four_short_names_work_with_and_without_prefix() {
    let project = Project::new();
    for prefix in ["", "DESCARTES_"] {
        let receiver = Receiver::start();
        Worker::without_settings()
            .env(&format!("{prefix}TASK_ID"), "8")
            .env(&format!("{prefix}PROJECT_ID"), "proj-456")
            .env(&format!("{prefix}CALLBACK_URL"), receiver.url())
            .env(&format!("{prefix}ANTHROPIC_API_KEY"), "sk-ant-123")
            .env("DESCARTES_WORKSPACE", project.dir())
            .env("DESCARTES_FORCE", "1")
            .env("DESCARTES_MODEL_GATEWAY", "off")
            .agent("printf %s \"$ANTHROPIC_API_KEY\" > key")
            .run()
            .assert_completed(&receiver);
        assert_eq!(receiver.only_event("started")["task_id"], "8");
        assert_eq!(receiver.only_event("started")["project_id"], "proj-456");
        assert_eq!(project.read("key"), "sk-ant-123");
    }
}

#[test]
fn the_key_without_prefix_takes_precedence_over_the_prefixed_one() {
    let (receiver, project) = (Receiver::start(), Project::new());
    Worker::new(&receiver, &project)
        .env("ANTHROPIC_API_KEY", "sk-ant-bare")
        .env("DESCARTES_ANTHROPIC_API_KEY", "sk-ant-prefixed")
        .env("DESCARTES_MODEL_GATEWAY", "off")
        .agent("printf %s \"$ANTHROPIC_API_KEY\" > key")
        .run()
        .assert_completed(&receiver);
    assert_eq!(project.read("key"), "sk-ant-bare");
}

#[test]
fn every_setting_that_is_not_secret_can_be_given_as_a_flag() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let mut worker = Worker::without_settings();
    for (flag, value) in [
        ("--task", "webapp:8"),
        ("--project-id", "proj-456"),
        ("--callback-url", &receiver.url()),
        ("--run-id", "run-7"),
        ("--workspace", project.dir().to_str().unwrap()),
        ("--tag", "webapp"),
        ("--agent", "command"),
        ("--agent-command", "echo \"$DESCARTES_MODEL\""),
        ("--agent-env", "HOME"),
        ("--model", "opus"),
        ("--task-timeout", "1h30m"),
        ("--idle-timeout", "0"),
        ("--stop-window", "250ms"),
        ("--checks", "true"),
        ("--repairs", "0"),
        ("--callback-timeout", "90s"),
        ("--claim-deadline", "15m"),
        ("--finish-deadline", "720h"),
        ("--heartbeat", "0"),
        ("--log", "debug,hyper=warn"),
        ("--log-format", "pretty"),
    ] {
        worker = worker.arg(flag).arg(value);
    }
    let event = worker.arg("--force").run().assert_completed(&receiver);
    assert_eq!(event["run_id"], "run-7");
    assert_eq!(event["result"]["agent"]["model"], "opus");
    assert_eq!(event["result"]["output"]["tail"], "opus\n");
    assert_eq!(event["result"]["checks"][0]["command"], "true");
}

#[test]
fn the_path_of_this_program_as_first_argument_is_ignored() {
    let project = Project::new();
    for program in [
        "/app/worker",
        "/app/descartes-worker",
        env!("CARGO_BIN_EXE_descartes-worker"),
    ] {
        let receiver = Receiver::start();
        Worker::new(&receiver, &project)
            .remove_env("TASK_ID")
            .env("DESCARTES_FORCE", "yes")
            .arg(program)
            .args(["--task", "8"])
            .agent("true")
            .run()
            .assert_completed(&receiver);
    }
    // This also works if the platform starts the program under another name.
    let receiver = Receiver::start();
    Worker::new(&receiver, &project)
        .env("DESCARTES_FORCE", "on")
        .change_command(|command| {
            command.arg0("my-worker").arg("my-worker");
        })
        .agent("true")
        .run()
        .assert_completed(&receiver);
}

#[test]
fn an_unknown_setting_only_produces_a_warning() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .env("DESCARTES_HARTBEAT", "5s")
        .env("DESCARTES_TAKS_ID", "9")
        .env("DESCARTES_FOO", "1")
        .agent("true")
        .run();
    ended.assert_completed(&receiver);
    for warning in [
        "\"WARN\",\"message\":\"DESCARTES_HARTBEAT is not a known setting; did you mean DESCARTES_HEARTBEAT?\"",
        "\"WARN\",\"message\":\"DESCARTES_TAKS_ID is not a known setting; did you mean DESCARTES_TASK_ID?\"",
        "\"WARN\",\"message\":\"DESCARTES_FOO is not a known setting\"",
    ] {
        assert!(ended.stderr.contains(warning), "{warning} in {ended:#?}");
    }
}

/// The words of a command's standard output, joined by spaces: line breaks depend on the width of the terminal.
#[track_caller]
fn words_of(args: &[&str]) -> String {
    let ended = Worker::without_settings().args(args).run();
    ended.assert_code(0);
    assert_eq!(ended.stderr, "");
    let words: Vec<&str> = ended.stdout.split_whitespace().collect();
    words.join(" ")
}

#[test]
fn the_long_help_has_all_flags_below_headings_with_their_variables_and_defaults() {
    for args in [&["--help"][..], &["help"]] {
        let help = words_of(args);
        for part in [
            "Usage: descartes-worker [OPTIONS]",
            "[DESCARTES_TASK_TIMEOUT; default: 1h]",
            "[TASK_ID]",
            "Limits and checks: --max-turns",
            "Callbacks: --callback-url",
            "Output: --log ",
            "From the environment only:",
            "ANTHROPIC_API_KEY",
        ] {
            assert!(help.contains(part), "{part} in {help}");
        }
    }
}

#[test]
fn the_short_help_has_the_common_flags_with_their_defaults_and_names_the_long_one() {
    let help = words_of(&["-h"]);
    for part in [
        "--task-timeout <DURATION> How long the agent and the checks may take together [default: 1h]",
        "-v, --verbose... Log more",
        "--help shows all options",
    ] {
        assert!(help.contains(part), "{part} in {help}");
    }
    assert!(!help.contains("--claim-deadline"), "{help}");
    assert!(help.len() * 2 < words_of(&["--help"]).len(), "{help}");
}

#[test]
fn help_prints_the_help_of_a_command_and_suggests_one_for_a_wrong_name() {
    for command in ["local", "dispatch", "completions", "check"] {
        assert_eq!(words_of(&["help", command]), words_of(&[command, "--help"]));
    }
    let ended = Worker::without_settings().args(["help", "dispach"]).run();
    ended.assert_code(2);
    assert!(ended.stderr.contains("'dispatch'"), "{ended:#?}");
}

#[test]
fn version_prints_one_line() {
    for flag in ["--version", "-V"] {
        let ended = Worker::without_settings().arg(flag).run();
        ended.assert_code(0);
        let version = concat!("descartes-worker ", env!("CARGO_PKG_VERSION"));
        assert!(ended.stdout.starts_with(version), "{ended:#?}");
        assert_eq!(ended.stdout.lines().count(), 1, "{ended:#?}");
    }
}

#[test]
fn verbose_and_quiet_change_the_log_of_the_worker_and_take_precedence_over_the_variable() {
    let log = |args: &[&str]| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let worker = Worker::new(&receiver, &project).env("RUST_LOG", "info");
        let ended = worker.args(args).agent("echo ready").run();
        ended.assert_completed(&receiver);
        ended.stderr
    };
    let has = |log: &str, level: &str| log.contains(&format!("\"level\":\"{level}\""));
    let quiet = log(&["-q"]);
    assert!(!has(&quiet, "INFO"), "{quiet}");
    let verbose = log(&["-vvv"]);
    assert!(has(&verbose, "INFO") && has(&verbose, "TRACE"), "{verbose}");
    let project = Project::new();
    let local = |args: &[&str]| {
        let worker = Worker::without_settings().args(["local", "--task", "8", "--force"]);
        let ended = worker.args(args).dir(project.dir()).agent("true").run();
        ended.assert_code(0);
        ended.stderr
    };
    assert!(local(&[]).contains("│ INFO "));
    let quiet = local(&["-q"]);
    assert!(!quiet.contains("INFO"), "{quiet}");
    let both = Worker::without_settings()
        .args(["-v", "--log", "info"])
        .run();
    both.assert_code(2);
    assert!(both.stderr.contains("cannot be used with"), "{both:#?}");
}

#[test]
fn colors_follow_the_flag_and_the_usual_variables() {
    let escape = "\u{1b}[";
    let help = |args: &[&str], variable: &str| {
        let worker = Worker::without_settings().arg("--help").args(args);
        worker.env(variable, "1").run().stdout.contains(escape)
    };
    assert!(!help(&[], "UNRELATED"));
    assert!(help(&["--color", "always"], "UNRELATED"));
    assert!(help(&["--color=always"], "NO_COLOR"));
    assert!(help(&[], "CLICOLOR_FORCE"));
    assert!(!help(&["--color=never"], "CLICOLOR_FORCE"));
    let log = |args: &[&str], variable: &str| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let worker = Worker::new(&receiver, &project).args(args).agent("true");
        let worker = worker.env("DESCARTES_LOG_FORMAT", "pretty");
        worker.env(variable, "1").run().stderr.contains(escape)
    };
    assert!(!log(&[], "UNRELATED"));
    assert!(log(&["--color", "always"], "NO_COLOR"));
    assert!(log(&[], "CLICOLOR_FORCE"));
    assert!(!log(&["--color", "never"], "CLICOLOR_FORCE"));
}

#[cfg(not(feature = "otel"))]
#[test]
fn a_build_without_opentelemetry_says_so_once_if_a_collector_is_named() {
    const WARNING: &str = "this build has no OpenTelemetry";
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = || {
        let worker = Worker::new(&receiver, &project).agent("true");
        worker.env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://collector.invalid:4318",
        )
    };
    let ended = worker().run();
    ended.assert_completed(&receiver);
    assert_eq!(ended.stderr.matches(WARNING).count(), 1, "{}", ended.stderr);
    let ended = worker().env("OTEL_SDK_DISABLED", "true").arg("check").run();
    assert!(!ended.stderr.contains(WARNING), "{}", ended.stderr);
}
