//! For operators: everything that is wrong is said at once, and nothing happens while anything is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::support::{Ended, Project, Receiver, Worker};

/// What the worker says of bad settings, one line each; all else about a rejection is asserted.
#[track_caller]
fn complaints(ended: &Ended) -> Vec<&str> {
    ended.assert_code(2);
    assert_eq!(ended.stdout, "");
    let mut lines = ended.stderr.lines();
    let head = lines.next().expect("a line that counts the problems");
    let complaints: Vec<&str> = lines
        .map(|line| line.strip_prefix("  ").expect("an indented line"))
        .collect();
    let count = match complaints.len() {
        1 => "1 setting is invalid".to_owned(),
        count => format!("{count} settings are invalid"),
    };
    assert_eq!(head, format!("{count}; nothing was sent"));
    complaints
}

/// A worker whose settings are all right.
fn right() -> Worker {
    Worker::bare()
        .env("TASK_ID", "8")
        .env("PROJECT_ID", "p")
        .env("CALLBACK_URL", "http://127.0.0.1:9")
}

#[test]
fn any_other_argument_is_a_mistake() {
    let (receiver, project) = (Receiver::start(), Project::new());
    for stray in ["9", "/app/other", "worker", "--taks", "--taks=8"] {
        let ended = Worker::new(&receiver, &project).arg(stray).run();
        ended.assert_code(2);
        assert_eq!(ended.stdout, "");
        assert!(
            ended.stderr.starts_with("error: un") && ended.stderr.contains("--help"),
            "{ended:#?}"
        );
    }
    let ended = Worker::bare().args(["--taks", "8"]).run();
    assert!(
        ended.stderr.contains("a similar argument exists: '--task'"),
        "{ended:#?}"
    );
    assert!(receiver.said().is_empty());
}

#[test]
fn everything_that_is_missing_is_said_at_once() {
    assert_eq!(
        complaints(&Worker::bare().run()),
        [
            "TASK_ID: is missing; the task in the project's SCUD graph: 8, 8.2 or phase:8",
            "PROJECT_ID: is missing; the orchestrator's name for the project",
            "CALLBACK_URL: is missing; the orchestrator's http or https URL; \
             /started and the other routes are appended to it",
        ]
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_nothing_is_sent() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let long = "x".repeat(201);
    let complaint =
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
        complaints(&ended),
        [
            "RUST_LOG: \"a=b=c\" is not a log filter (invalid filter directive: too many '=' in filter \
             directive, expected 0 or 1); write it like info or debug,hyper=warn",
            "DESCARTES_LOG_FORMAT: \"xml\" is not a log format; there are auto, pretty and json",
            "TASK_ID: \" \" is blank",
            "PROJECT_ID: \"a\\nb\" holds control characters; it must be one line",
            &complaint,
            "DESCARTES_CALLBACK_TIMEOUT: \"0\" is no time at all; write a duration like 90s, 15m or 1h30m",
            "DESCARTES_CLAIM_DEADLINE: \"soon\" is not a duration; write it like 250ms, 90s, 15m or 1h30m",
            "DESCARTES_FINISH_DEADLINE: \"721h\" is too long; at most 720h are allowed",
            "DESCARTES_HEARTBEAT: \"5\" is not a duration; write it like 250ms, 90s, 15m or 1h30m",
            "DESCARTES_FORCE: \"maybe\" is neither true nor false",
            "DESCARTES_AGENT_ENV: \"A=B\" holds \"A=B\", which is not a variable's name",
            "DESCARTES_IDLE_TIMEOUT: \"-1s\" is not a duration; write it like 250ms, 90s, 15m or 1h30m",
            "DESCARTES_TAG: \"\\t\" is blank",
            "DESCARTES_AGENT: \"claude\" is not a kind of agent; there are auto, command, claude-code, builtin",
            "DESCARTES_MODEL: \"a\\u{1b}b\" holds control characters; it must be one line",
            "DESCARTES_MAX_TURNS: \"0\" is not a number from 1 to 10000",
            "DESCARTES_MAX_BUDGET_USD: \"much\" is not an amount of US dollars; write it like 2.50",
            "ANTHROPIC_BASE_URL: is not a URL (relative URL without a base); write it like https://api.anthropic.com",
            "ANTHROPIC_API_KEY: holds characters that no token has; it must be visible ASCII",
            "DESCARTES_TASK_TIMEOUT: \"1d\" is not a duration; write it like 250ms, 90s, 15m or 1h30m",
            "DESCARTES_CHECKS: \"\\n\" names no command; write none for no checks",
            "DESCARTES_REPAIRS: \"101\" is not a number from 0 to 100",
            "DESCARTES_STOP_WINDOW: \"0s\" is no time at all; write a duration like 90s, 15m or 1h30m",
        ]
    );
    assert!(receiver.said().is_empty());
    assert!(!project.path("worked").exists());
}

#[test]
fn a_bad_value_is_named_by_where_it_was_given() {
    for (change, said) in [
        (("--task", " "), "--task: \" \" is blank"),
        (
            ("--heartbeat", "-5s"),
            "--heartbeat: \"-5s\" is not a duration; write it like 250ms, 90s, 15m or 1h30m",
        ),
        (
            ("--repairs", "many"),
            "--repairs: \"many\" is not a number from 0 to 100",
        ),
    ] {
        let ended = right().arg(change.0).arg(change.1).run();
        assert_eq!(complaints(&ended), [said]);
    }
    let ended = right().arg("--force=perhaps").run();
    assert_eq!(
        complaints(&ended),
        ["--force: \"perhaps\" is neither true nor false"]
    );
    let ended = right()
        .without("TASK_ID")
        .env("DESCARTES_TASK_ID", " ")
        .run();
    assert_eq!(complaints(&ended), ["DESCARTES_TASK_ID: \" \" is blank"]);
    let ended = Worker::bare().args(["receive", "--listen", "8080"]).run();
    assert_eq!(
        complaints(&ended),
        ["--listen: \"8080\" is not an address; write it like 127.0.0.1:8080 or [::1]:8080"]
    );
}

#[test]
fn a_callback_url_that_cannot_be_is_explained() {
    let example = "write it like https://orchestrator.example/api/agents/callback";
    for (url, what) in [
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
            "has a fragment, which is never sent; take it out",
        ),
    ] {
        let ended = right().env("CALLBACK_URL", url).run();
        assert_eq!(
            complaints(&ended),
            [format!("CALLBACK_URL: {url:?} {what}")]
        );
    }
}

#[test]
fn a_secret_is_not_shown_with_what_is_wrong_about_a_setting() {
    let ended = right()
        .env("CALLBACK_URL", "https://bot:hunter2@host.example/")
        .env("GIT_TOKEN", "ghp_geheim")
        .env("DESCARTES_FORCE", "ghp_geheim")
        .env("DESCARTES_CALLBACK_TOKEN", "tok-verborgen")
        .env("RUST_LOG", "x=tok-verborgen")
        .run();
    let complaints = complaints(&ended);
    assert_eq!(complaints.len(), 3);
    assert!(complaints[0].starts_with("RUST_LOG: \"x=***\" is not a log filter"));
    assert_eq!(
        complaints[1..],
        [
            "CALLBACK_URL: \"https://***@host.example/\" holds credentials, which end up in logs; take them out",
            "DESCARTES_FORCE: \"***\" is neither true nor false",
        ]
    );
}

#[test]
fn the_worker_has_variables_that_never_reach_the_agent() {
    let ended = right()
        .env("DESCARTES_AGENT_ENV", "FOO, DESCARTES_CALLBACK_SECRET")
        .run();
    assert_eq!(
        complaints(&ended),
        [
            "DESCARTES_AGENT_ENV: \"FOO, DESCARTES_CALLBACK_SECRET\" names DESCARTES_CALLBACK_SECRET, \
             which is the worker's own and never the agent's"
        ]
    );
}

#[test]
fn a_value_that_is_not_utf_8_is_a_mistake() {
    let ended = right()
        .env("TASK_ID", OsStr::from_bytes(b"8\xFF"))
        .env("DESCARTES_HEARTBEAT", OsStr::from_bytes(b"\xFF"))
        .run();
    assert_eq!(
        complaints(&ended),
        ["TASK_ID: is not UTF-8", "DESCARTES_HEARTBEAT: is not UTF-8"]
    );
}
