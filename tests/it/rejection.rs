//! For operators: the worker reports all invalid settings at once, and then does no work.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::support::{FinishedWorker, Project, Receiver, Worker};

/// Asserts that the worker rejected its settings; returns the lines with the problems.
#[track_caller]
fn assert_rejected(ended: &FinishedWorker) -> Vec<&str> {
    ended.assert_code(2);
    assert_eq!(ended.stdout, "");
    let mut lines = ended.stderr.lines();
    let head = lines.next().expect("a line that counts the problems");
    let problems: Vec<&str> = lines
        .map(|line| line.strip_prefix("  ").expect("an indented line"))
        .collect();
    let count = match problems.len() {
        1 => "1 setting is invalid".to_owned(),
        count => format!("{count} settings are invalid"),
    };
    assert_eq!(head, count);
    problems
}

/// A worker with valid settings.
fn worker_with_valid_settings() -> Worker {
    Worker::without_settings()
        .env("TASK_ID", "8")
        .env("PROJECT_ID", "p")
        .env("CALLBACK_URL", "http://127.0.0.1:9")
}

#[test]
fn an_unknown_argument_is_rejected() {
    let (receiver, project) = (Receiver::start(), Project::new());
    for argument in ["9", "/app/other", "worker", "--taks", "--taks=8"] {
        let ended = Worker::new(&receiver, &project).arg(argument).run();
        ended.assert_code(2);
        assert_eq!(ended.stdout, "");
        assert!(
            ended.stderr.starts_with("error: un") && ended.stderr.contains("--help"),
            "{ended:#?}"
        );
    }
    let ended = Worker::without_settings().args(["--taks", "8"]).run();
    assert!(
        ended.stderr.contains("a similar argument exists: '--task'"),
        "{ended:#?}"
    );
    assert!(receiver.requests().is_empty());
}

#[test]
fn all_missing_settings_are_reported_at_once() {
    assert_eq!(
        assert_rejected(&Worker::without_settings().run()),
        [
            "TASK_ID: is missing; the task in the project's SCUD graph: 8, 8.2 or phase:8",
            "PROJECT_ID: is missing; the orchestrator's name for the project",
            "CALLBACK_URL: is missing; the orchestrator's http or https URL; \
             /started and the other routes are appended to it",
        ]
    );
}

#[test]
fn all_invalid_settings_are_reported_at_once_and_nothing_is_sent() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let long = "x".repeat(201);
    let run_id_problem =
        format!("DESCARTES_RUN_ID: {long:?} is 201 bytes long; at most 200 are allowed");
    let ended = Worker::new(&receiver, &project)
        .env("RUST_LOG", "a=b=c")
        .env("DESCARTES_LOG_FORMAT", "xml")
        .env("TASK_ID", " ")
        .env("PROJECT_ID", "a\nb")
        .env("DESCARTES_CALLBACK_TIMEOUT", "0")
        .env("DESCARTES_CLAIM_DEADLINE", "soon")
        .env("DESCARTES_FINISH_DEADLINE", "721h")
        .env("DESCARTES_HEARTBEAT", "5")
        .env("DESCARTES_RUN_ID", &long)
        .env("DESCARTES_FORCE", "maybe")
        .env("DESCARTES_AGENT_ENV", "A=B")
        .env("DESCARTES_TAG", "\t")
        .env("DESCARTES_AGENT", "claude")
        .env("DESCARTES_MODEL", "a\u{1b}b")
        .env("DESCARTES_MAX_TURNS", "0")
        .env("DESCARTES_MAX_BUDGET_USD", "much")
        .env("ANTHROPIC_BASE_URL", "api.example")
        .env("ANTHROPIC_API_KEY", "a key")
        .env("DESCARTES_TASK_TIMEOUT", "1d")
        .env("DESCARTES_IDLE_TIMEOUT", "-1s")
        .env("DESCARTES_CHECKS", "\n")
        .env("DESCARTES_REPAIRS", "101")
        .env("DESCARTES_STOP_WINDOW", "0s")
        .agent("touch worked")
        .run();
    assert_eq!(
        assert_rejected(&ended),
        [
            "RUST_LOG: \"a=b=c\" is not a log filter (invalid filter directive: too many '=' in filter \
             directive, expected 0 or 1); write it like info or debug,hyper=warn",
            "DESCARTES_LOG_FORMAT: \"xml\" is not a log format; the formats are auto, pretty and json",
            "TASK_ID: \" \" is blank",
            "PROJECT_ID: \"a\\nb\" contains control characters; it must be one line",
            &run_id_problem,
            "DESCARTES_CALLBACK_TIMEOUT: \"0\" must be longer than zero; write it like 90s, 15m or 1h30m",
            "DESCARTES_CLAIM_DEADLINE: \"soon\" is not a duration; write it like 250ms, 90s, 15m or 1h30m",
            "DESCARTES_FINISH_DEADLINE: \"721h\" is too long; at most 720h are allowed",
            "DESCARTES_HEARTBEAT: \"5\" is not a duration; write it like 250ms, 90s, 15m or 1h30m",
            "DESCARTES_FORCE: \"maybe\" is neither true nor false",
            "DESCARTES_AGENT_ENV: \"A=B\" contains \"A=B\", which is not a name of a variable",
            "DESCARTES_IDLE_TIMEOUT: \"-1s\" is not a duration; write it like 250ms, 90s, 15m or 1h30m",
            "DESCARTES_TAG: \"\\t\" is blank",
            "DESCARTES_AGENT: \"claude\" is not a kind of agent; the kinds are auto, command, claude-code, builtin",
            "DESCARTES_MODEL: \"a\\u{1b}b\" contains control characters; it must be one line",
            "DESCARTES_MAX_TURNS: \"0\" is not a number from 1 to 10000",
            "DESCARTES_MAX_BUDGET_USD: \"much\" is not an amount of US dollars; write it like 2.50",
            "ANTHROPIC_BASE_URL: is not a URL (relative URL without a base); write it like https://api.anthropic.com",
            "ANTHROPIC_API_KEY: contains characters that a token cannot have; it must be visible ASCII",
            "DESCARTES_TASK_TIMEOUT: \"1d\" is not a duration; write it like 250ms, 90s, 15m or 1h30m",
            "DESCARTES_CHECKS: \"\\n\" contains no command; write none to run no checks",
            "DESCARTES_REPAIRS: \"101\" is not a number from 0 to 100",
            "DESCARTES_STOP_WINDOW: \"0s\" must be longer than zero; write it like 90s, 15m or 1h30m",
        ]
    );
    assert!(receiver.requests().is_empty());
    assert!(!project.path("worked").exists());
}

#[test]
fn an_invalid_value_is_reported_with_its_flag_or_variable() {
    for ((flag, value), expected) in [
        (("--task", " "), "--task: \" \" is blank"),
        (
            ("--repairs", "many"),
            "--repairs: \"many\" is not a number from 0 to 100",
        ),
    ] {
        let ended = worker_with_valid_settings().arg(flag).arg(value).run();
        assert_eq!(assert_rejected(&ended), [expected]);
    }
    let ended = worker_with_valid_settings().arg("--heartbeat=-5s").run();
    assert_eq!(
        assert_rejected(&ended),
        ["--heartbeat: \"-5s\" is not a duration; write it like 250ms, 90s, 15m or 1h30m"]
    );
    let ended = worker_with_valid_settings().arg("--force=perhaps").run();
    assert_eq!(
        assert_rejected(&ended),
        ["--force: \"perhaps\" is neither true nor false"]
    );
    let ended = worker_with_valid_settings()
        .remove_env("TASK_ID")
        .env("DESCARTES_TASK_ID", " ")
        .run();
    assert_eq!(
        assert_rejected(&ended),
        ["DESCARTES_TASK_ID: \" \" is blank"]
    );
    let ended = Worker::without_settings()
        .args(["receive", "--listen", "8080"])
        .run();
    assert_eq!(
        assert_rejected(&ended),
        ["--listen: \"8080\" is not an address; write it like 127.0.0.1:8080 or [::1]:8080"]
    );
}

#[test]
fn the_error_for_an_invalid_callback_url_says_why_it_is_invalid() {
    let example = "write it like https://orchestrator.example/api/agents/callback";
    for (url, problem) in [
        (
            "nonsense",
            &*format!("is not a URL (relative URL without a base); {example}"),
        ),
        ("http://", &format!("is not a URL (empty host); {example}")),
        (
            "ftp://host/",
            &format!("is not an http or https URL; {example}"),
        ),
        (
            "mailto:x",
            &format!("is not an http or https URL; {example}"),
        ),
        (
            "http://host/#part",
            "has a fragment, which is never sent; remove it",
        ),
    ] {
        let ended = worker_with_valid_settings().env("CALLBACK_URL", url).run();
        assert_eq!(
            assert_rejected(&ended),
            [format!("CALLBACK_URL: {url:?} {problem}")]
        );
    }
}

#[test]
fn secrets_are_masked_in_the_errors_about_settings() {
    let ended = worker_with_valid_settings()
        .env("CALLBACK_URL", "https://bot:hunter2@host.example/")
        .env("GIT_TOKEN", "ghp_geheim")
        .env("DESCARTES_FORCE", "ghp_geheim")
        .env("DESCARTES_CALLBACK_TOKEN", "tok-verborgen")
        .env("RUST_LOG", "x=tok-verborgen")
        .run();
    let problems = assert_rejected(&ended);
    assert_eq!(problems.len(), 3);
    assert!(problems[0].starts_with("RUST_LOG: \"x=***\" is not a log filter"));
    assert_eq!(
        problems[1..],
        [
            "CALLBACK_URL: \"https://***@host.example/\" contains credentials, which would appear in logs; remove them",
            "DESCARTES_FORCE: \"***\" is neither true nor false",
        ]
    );
}

#[test]
fn white_space_as_the_secret_is_rejected_because_nothing_would_be_signed() {
    for white_space in [" ", "\n"] {
        let worker = worker_with_valid_settings();
        let ended = worker.env("DESCARTES_CALLBACK_SECRET", white_space).run();
        assert_eq!(
            assert_rejected(&ended),
            [
                "DESCARTES_CALLBACK_SECRET: contains only white space, so nothing would be signed; set a secret, or remove the variable"
            ]
        );
    }
}

#[test]
fn a_variable_of_the_worker_cannot_be_passed_to_the_agent() {
    let ended = worker_with_valid_settings()
        .env("DESCARTES_AGENT_ENV", "FOO, DESCARTES_CALLBACK_SECRET")
        .run();
    assert_eq!(
        assert_rejected(&ended),
        [
            "DESCARTES_AGENT_ENV: \"FOO, DESCARTES_CALLBACK_SECRET\" names DESCARTES_CALLBACK_SECRET, \
             but variables that begin with DESCARTES_ are never passed to the agent"
        ]
    );
}

#[test]
fn a_value_that_is_not_utf_8_is_rejected() {
    let ended = worker_with_valid_settings()
        .env("TASK_ID", OsStr::from_bytes(b"8\xFF"))
        .env("DESCARTES_HEARTBEAT", OsStr::from_bytes(b"\xFF"))
        .run();
    assert_eq!(
        assert_rejected(&ended),
        ["TASK_ID: is not UTF-8", "DESCARTES_HEARTBEAT: is not UTF-8"]
    );
}

#[test]
fn a_flag_without_its_value_does_not_swallow_the_next_flag() {
    let advice = "a value that begins with a hyphen needs an equals sign: --flag=VALUE\n";
    for args in [
        &["--agent-command", "--force"][..],
        &["check", "--agent-command", "--force"],
        &["local", "--task", "--force"],
        &["local", "--project", "--force"],
        &["demo", "--agent-command", "--log", "info"],
        &["receive", "--listen", "--log", "info"],
        &["--heartbeat", "-5s"],
    ] {
        let ended = worker_with_valid_settings().args(args).run();
        ended.assert_code(2);
        assert_eq!(ended.stdout, "");
        assert!(
            ended.stderr.starts_with("error: ") && ended.stderr.ends_with(advice),
            "{args:?}: {ended:#?}"
        );
    }
    let ended = worker_with_valid_settings().arg("--agent-command").run();
    ended.assert_code(2);
    assert!(
        ended
            .stderr
            .starts_with("error: a value is required for '--agent-command <COMMAND>'"),
        "{ended:#?}"
    );
}

#[test]
fn a_bare_word_in_the_log_filter_must_be_a_level() {
    for (filter, suggestion) in [
        ("inof", "; did you mean info?"),
        ("hyper=warn,DEBIG", "; did you mean debug?"),
        ("descartes_worker", ""),
    ] {
        let word = filter.rsplit(',').next().expect("a word");
        let ended = worker_with_valid_settings().env("RUST_LOG", filter).run();
        assert_eq!(
            assert_rejected(&ended),
            [format!(
                "RUST_LOG: {filter:?} has the word {word:?}, which is not a level (off, error, warn, info, debug, \
                 trace){suggestion}; for a target write {word}=debug"
            )]
        );
    }
    for filter in [
        "INFO",
        "3",
        "warn,hyper=off",
        "hyper=debug",
        "a=info,,b=trace",
    ] {
        let ended = worker_with_valid_settings()
            .env("RUST_LOG", filter)
            .env("TASK_ID", " ")
            .run();
        assert_eq!(
            assert_rejected(&ended),
            ["TASK_ID: \" \" is blank"],
            "{filter}"
        );
    }
}

#[test]
fn a_log_filter_for_one_target_still_logs_errors() {
    let project = Project::empty();
    let receiver = Receiver::start();
    let ended = Worker::new(&receiver, &project)
        .env("RUST_LOG", "hyper=debug")
        .agent("true")
        .run();
    ended.assert_failed(&receiver, "workspace_failed");
    assert!(ended.stderr.contains("\"ERROR\""), "{ended:#?}");
    assert!(!ended.stderr.contains("\"INFO\""), "{ended:#?}");
}

#[test]
fn a_token_in_the_query_of_an_invalid_repository_is_masked() {
    const URL: &str = "ftp://git.example/x?private_token=query-token-6c1f9e77";
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project).args(["--repo", URL]).run();
    let problems = assert_rejected(&ended);
    let start = "--repo: \"ftp://git.example/x?private_token=***\" has a scheme";
    assert!(
        problems.iter().any(|problem| problem.starts_with(start)),
        "{problems:#?}"
    );
    assert!(!ended.stderr.contains("6c1f9e77"), "{ended:#?}");
}
