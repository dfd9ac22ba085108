//! For writers of orchestrators: `receive` shows and checks the events of workers, and answers them as its flags say.

mod leases;
mod requests;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::origin::git;
use crate::support::{
    FinishedWorker, Project, Receiver, RunningWorker, Worker, assert_in_order, schema,
};

/// The program with these arguments in the directory of a project, without the variable `HOME`.
fn program(args: &[&str], dir: &Project) -> Worker {
    Worker::without_settings().args(args).dir(dir.dir())
}

/// `receive` on a free port, and its callback URL with `localhost` as the host.
fn receive() -> (RunningWorker, String) {
    receive_with(&[], |worker| worker)
}

/// `receive` with further flags and variables.
fn receive_with(flags: &[&str], change: impl FnOnce(Worker) -> Worker) -> (RunningWorker, String) {
    let dir = Project::empty();
    let receive = program(&["receive", "--listen", "127.0.0.1:0"], &dir).args(flags);
    let running = change(receive).start();
    let line = running.wait_for_log("listens at http://127.0.0.1:");
    let (_, url) = line.split_once("listens at ").expect("a URL");
    (running, url.replace("127.0.0.1", "localhost"))
}

/// Task 8 of a project, reported to a callback URL.
fn worker(url: &str, project: &Project) -> Worker {
    program(&["--task", "8"], project)
        .env("PROJECT_ID", "proj-456")
        .env("CALLBACK_URL", url)
        .env("DESCARTES_HEARTBEAT", "50ms")
}

/// Ends `receive` by SIGTERM, and waits for its end.
fn stop(running: RunningWorker) -> FinishedWorker {
    running.signal(Signal::TERM);
    wait_for_end(running)
}

/// Waits for the end of `receive`, which must be successful.
fn wait_for_end(running: RunningWorker) -> FinishedWorker {
    let ended = running.wait();
    ended.assert_code(0);
    assert_eq!(ended.stdout, "");
    ended
}

/// Copies a directory with everything below it.
fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_directory(&source, &target);
        } else {
            fs::copy(&source, &target).expect("a copy");
        }
    }
}

/// A repository with one commit: the files of this repository that a run in its root reads.
fn root_of_this_repository() -> Project {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let project = Project::empty();
    copy_directory(
        &root.join("examples/hello"),
        &project.path("examples/hello"),
    );
    let file = ".descartes.toml";
    fs::copy(root.join(file), project.path(file)).expect("a copy");
    git(project.dir(), &["init", "--quiet"]);
    git(project.dir(), &["add", "--all"]);
    git(project.dir(), &["commit", "--quiet", "--message", "All"]);
    project
}

/// Posts to a path of a server; returns the whole answer, with its head.
fn post_raw(host: &str, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(host)?;
    let length = body.len();
    write!(
        stream,
        "POST /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Posts to a callback URL; returns the status and the body of the answer.
fn post(url: &str, body: &str) -> (u16, Value) {
    let (host, path) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .expect("a URL");
    let answer = post_raw(host, path, body).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    (
        status.expect("a status"),
        serde_json::from_str(body).expect("JSON"),
    )
}

#[test]
fn the_command_of_the_readme_completes_its_task_in_the_root_of_this_repository() {
    let (receiving, url) = receive();
    let project = root_of_this_repository();
    let temporary_dir = tempfile::tempdir().expect("a temporary directory");
    // TASK_ID=test-123 PROJECT_ID=proj-456 CALLBACK_URL=http://localhost:…/api/agents/callback \
    //   descartes-worker --task test-123
    let ended = program(&["--task", "test-123"], &project)
        .env("TASK_ID", "test-123")
        .env("PROJECT_ID", "proj-456")
        .env("CALLBACK_URL", url)
        .env("TMPDIR", temporary_dir.path())
        .run();
    ended.assert_code(0);
    let event = ended.result_line();
    assert_eq!(event["task_id"], "test-123");
    assert_eq!(event["status"], "completed");
    assert_eq!(event["result"]["checks"][0]["command"], "sh test.sh");
    let run = event["run_id"].as_str().expect("a run id");
    let ended = stop(receiving);
    assert_in_order(
        &ended.stderr,
        &[
            &format!("POST /started    test-123: run {run} on "),
            "POST /completed  test-123: task test-123 of phase hello is done: ",
        ],
    );
    assert!(!ended.stderr.contains("protocol  "), "{ended:#?}");
    assert_eq!(git(project.dir(), &["status", "--porcelain"]), "");
    let count = fs::read_dir(temporary_dir.path())
        .expect("a directory")
        .count();
    assert_eq!(count, 0, "the copy of the sample is still there");
}

#[test]
fn a_task_that_receive_cancels_is_cancelled_at_its_first_heartbeat() {
    for id in ["8", "run-7"] {
        let (receiving, url) = receive_with(&["--cancel", id], |worker| worker);
        let project = Project::new();
        let ended = worker(&url, &project)
            .env("DESCARTES_RUN_ID", "run-7")
            .agent("exec sleep 600")
            .run();
        ended.assert_code(1);
        let failure = &ended.result_line()["failure"];
        assert_eq!(failure["reason"], "cancelled");
        assert!(
            failure["message"]
                .to_string()
                .contains("cancelled by --cancel")
        );
        assert_in_order(
            &stop(receiving).stderr,
            &[
                "POST /progress   8: ",
                " → cancelled: cancelled by --cancel\n",
                "[cancelled]\n",
            ],
        );
    }
}

#[test]
fn all_invalid_flags_of_receive_are_reported_and_the_secret_is_not_shown() {
    let ended = Worker::without_settings()
        .args(["receive", "--secret", "hunter2", "--lease", "soon"])
        .args(["--answer", "started", "--answer", "begun=1"])
        .run();
    ended.assert_code(2);
    assert_in_order(
        &ended.stderr,
        &[
            "  --answer: \"started\" has no =; write it like started=409",
            "  --answer: \"begun=1\" names an unknown route; there are started,",
            "  --lease: \"soon\" is not a duration",
            "  --secret: must begin with whsec_; make one with: ",
        ],
    );
    assert!(!ended.stderr.contains("hunter2"), "{ended:#?}");
}

#[test]
fn the_help_and_the_reference_name_the_flags_of_receive() {
    let help = Worker::without_settings()
        .args(["receive", "--help"])
        .run()
        .stdout;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let reference = include_str!("../../docs/reference.md");
    for flag in ["--secret", "--lease", "--cancel", "--answer", "--again"] {
        assert!(help.contains(flag), "{help}");
        assert!(reference.contains(&format!("- `{flag}")), "{flag}");
    }
    assert!(
        help.contains("checks fields, order and signatures"),
        "{help}"
    );
}

#[test]
fn receive_prints_everything_that_happens_as_json_for_programs() {
    let flags = ["--json", "--lease", "1s", "--cancel", "cancelled"];
    let (receiving, url) = receive_with(&flags, |worker| worker);
    let project = Project::new();
    worker(&url, &project).agent("true").run().assert_code(0);
    let cancelled = worker(&url, &project)
        .env("DESCARTES_RUN_ID", "cancelled")
        .env("DESCARTES_FORCE", "true")
        .env("PROJECT_ID", "other")
        .agent("exec sleep 600")
        .run();
    cancelled.assert_code(1);
    assert_eq!(post(&format!("{url}/sideways"), "{}").0, 404);
    let silent = worker(&url, &project)
        .env("DESCARTES_RUN_ID", "silent")
        .env("DESCARTES_FORCE", "true")
        .env("PROJECT_ID", "third")
        .agent("exec sleep 600")
        .start();
    receiving.wait_for_output("\"run_id\":\"silent\"");
    silent.signal(Signal::KILL);
    // The lease of the cancelled run may be over too.
    receiving.wait_for_output_line("\"run_id\":\"silent\",\"silence_ms\"");
    receiving.signal(Signal::TERM);
    let ended = receiving.wait();
    ended.assert_code(0);
    let objects = schema::cli_objects(&ended.stdout);
    let first = &objects[0];
    assert_eq!(first["type"], "listening");
    assert_eq!(first["signatures"], "not_checked");
    let find = |what: &str, matches: &dyn Fn(&Value) -> bool| {
        let found = objects.iter().find(|object| matches(object));
        found.unwrap_or_else(|| panic!("no {what} in {}", ended.stdout))
    };
    let claim = find("claim", &|object| object["route"] == "started");
    assert_eq!(
        claim["answer"],
        json!({ "status": 200, "message": "ok", "cancel": false })
    );
    assert_eq!(claim["event"]["task_id"], "8");
    find("cancellation", &|object| object["answer"]["cancel"] == true);
    let refused = find("refusal", &|object| object["type"] == "refused");
    assert_eq!(refused["why"], "there is no route \"sideways\"");
    find("lease", &|object| {
        object["type"] == "lease_over" && object["run_id"] == "silent"
    });
}

#[test]
fn the_error_for_a_port_in_use_names_the_address() {
    let receiver = Receiver::start();
    let used_address = receiver.address().to_string();
    let ended = Worker::without_settings()
        .args(["receive", "--listen", &used_address])
        .run();
    ended.assert_code(2);
    assert!(
        ended.stderr.starts_with(&format!("cannot listen on {used_address}; choose another address with --listen, or end the program that uses it: ")),
        "{ended:#?}"
    );
}

#[test]
fn a_body_with_malformed_chunks_gets_status_400() {
    let (running, url) = receive();
    let (host, _) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .expect("a URL");
    let mut stream = TcpStream::connect(host).expect("a connection");
    write!(stream, "POST /started HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\nno size\r\n")
        .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    stop(running);
}
