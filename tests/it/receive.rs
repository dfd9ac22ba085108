//! For writers of orchestrators: `receive` shows and checks the events of workers, and answers them as its flags say.

mod requests;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::origin::git;
use crate::support::{
    FinishedWorker, Project, Receiver, RunningWorker, Worker, assert_in_order, duration_setting,
    schema, with_enough_time,
};

/// The program with these arguments in a directory, without the variable `HOME`.
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
fn end(running: RunningWorker) -> FinishedWorker {
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

/// Copies the files below a directory of this repository.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            fs::copy(&source, &target).expect("a copy");
        }
    }
}

/// A repository with one commit: the files of this repository that a run in its root reads.
fn root_of_this_repository() -> Project {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let project = Project::empty();
    copy(
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

/// Posts to a path of a server; returns the whole answer.
fn exchange(host: &str, path: &str, body: &str) -> std::io::Result<String> {
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
    let answer = exchange(host, path, body).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    (
        status.expect("a status"),
        serde_json::from_str(body).expect("JSON"),
    )
}

#[test]
fn the_command_of_the_original_worker_completes_its_task_in_the_root_of_this_repository() {
    let (receiving, url) = receive();
    let project = root_of_this_repository();
    let tmp = tempfile::tempdir().expect("a temporary directory");
    // TASK_ID=test-123 PROJECT_ID=proj-456 CALLBACK_URL=http://localhost:…/api/agents/callback \
    //   descartes-worker --task test-123
    let ended = program(&["--task", "test-123"], &project)
        .env("TASK_ID", "test-123")
        .env("PROJECT_ID", "proj-456")
        .env("CALLBACK_URL", url)
        .env("TMPDIR", tmp.path())
        .run();
    ended.assert_code(0);
    let event = ended.result_line();
    assert_eq!(event["task_id"], "test-123");
    assert_eq!(event["status"], "completed");
    assert_eq!(event["result"]["checks"][0]["command"], "sh test.sh");
    let run = event["run_id"].as_str().expect("a run id");
    let ended = end(receiving);
    assert_in_order(
        &ended.stderr,
        &[
            &format!("POST /started    test-123: run {run} on "),
            "POST /completed  test-123: task test-123 of phase hello is done: ",
        ],
    );
    assert!(!ended.stderr.contains("protocol  "), "{ended:#?}");
    assert_eq!(git(project.dir(), &["status", "--porcelain"]), "");
    let count = fs::read_dir(tmp.path()).expect("a directory").count();
    assert_eq!(count, 0, "the copy of the sample is still there");
}

#[test]
fn a_task_is_refused_to_a_second_worker_while_the_first_one_works_and_the_refusal_is_shown() {
    let (receiving, url) = receive();
    let project = Project::new();
    let first = worker(&url, &project)
        .agent("echo ready; exec sleep 600")
        .start();
    first.wait_for_log("agent: ready");
    let second = worker(&url, &project)
        .env("DESCARTES_RUN_ID", "second")
        .agent("touch worked")
        .run();
    second.assert_code(4);
    let words = "is working on this task";
    assert!(second.stderr.contains(words), "{second:#?}");
    assert!(!project.path("worked").exists());
    receiving.wait_for_log("POST /progress   8: agent: ready");
    first.signal(Signal::TERM);
    first.wait().assert_code(1);
    // The task is free again.
    let third = worker(&url, &project).env("DESCARTES_RUN_ID", "third");
    third.agent("true").run().assert_code(0);
    let stderr = end(receiving).stderr;
    assert!(!stderr.contains("protocol  "), "{stderr}");
    let line_of = |run: &str| {
        let words = format!("POST /started    8: run {run} on ");
        let line = stderr.lines().find(|line| line.contains(&words));
        line.unwrap_or_else(|| panic!("no {words:?} in {stderr}"))
    };
    let refused = line_of("second");
    assert!(refused.contains(" → refused (409): run "), "{refused}");
    assert!(refused.ends_with(words), "{refused}");
    assert!(!line_of("third").contains("refused"), "{stderr}");
}

#[test]
fn a_dead_workers_task_is_free_when_its_lease_is_over() {
    with_enough_time(Duration::from_secs(1), |lease| {
        let (receiving, url) =
            receive_with(&["--lease", &duration_setting(lease)], |worker| worker);
        let project = Project::new();
        let dead = worker(&url, &project)
            .env("DESCARTES_RUN_ID", "dead")
            .agent("echo ready; exec sleep 600")
            .start();
        receiving.wait_for_log("POST /progress   8: agent: ready");
        dead.signal(Signal::KILL);
        receiving.wait_for_log("8: run dead has been silent for ");
        let second = worker(&url, &project).agent("true").run();
        assert!(!end(receiving).stderr.contains("protocol  "));
        if second.code == Some(4) {
            // The worker was already silent before it was killed, and a later heartbeat renewed its lease.
            return Err("the lease of the killed worker was not over".to_owned());
        }
        second.assert_code(0);
        Ok(())
    });
}

#[test]
fn a_completed_task_is_granted_again_only_if_a_person_allows_it() {
    for (flags, code) in [(&[][..], 4), (&["--again"][..], 0)] {
        let (receiving, url) = receive_with(flags, |worker| worker);
        worker(&url, &Project::new())
            .agent("true")
            .run()
            .assert_code(0);
        let second = worker(&url, &Project::new()).agent("true").run();
        second.assert_code(code);
        let words = "has ended this task for good";
        assert_eq!(second.stderr.contains(words), code == 4, "{second:#?}");
        end(receiving);
    }
}

#[test]
fn heartbeats_renew_a_lease() {
    with_enough_time(Duration::from_secs(3), |lease| {
        let (receiving, url) =
            receive_with(&["--lease", &duration_setting(lease)], |worker| worker);
        let project = Project::new();
        let work_time = lease.as_secs_f64() * 1.3;
        let first = worker(&url, &project)
            .agent(format!(
                "sleep {work_time}; touch over; until [ -e go ]; do sleep 0.05; done"
            ))
            .start();
        crate::support::wait_until("the end of the lease", || project.path("over").exists());
        let second = worker(&url, &project).agent("true").run();
        project.write("go", "");
        let first = first.wait();
        let stderr = end(receiving).stderr;
        if stderr.contains("its lease is over") {
            return Err(format!("no heartbeat arrived: {stderr}"));
        }
        second.assert_code(4);
        first.assert_code(0);
        Ok(())
    });
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
            &end(receiving).stderr,
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
fn finished_and_dead_runs_leave_the_status_line() {
    let dir = Project::empty();
    let receiving = program(
        &["receive", "--listen", "127.0.0.1:0", "--lease", "1s"],
        &dir,
    )
    .env("TERM", "xterm")
    .on_terminal(120)
    .start();
    let line = receiving.wait_for_output_line("listens at http://127.0.0.1:");
    let (_, url) = line.split_once("listens at ").expect("a URL");
    let url = url.split_whitespace().next().expect("a URL");
    let project = Project::new();
    let dead = worker(url, &project)
        .env("DESCARTES_RUN_ID", "dead")
        .agent("echo dying; exec sleep 600")
        .start();
    receiving.wait_for_screen("8: agent: dying · heartbeat");
    dead.signal(Signal::KILL);
    receiving.wait_for_output_line("run dead has been silent for 0:0");
    receiving.wait_for_screen("waiting for workers");
    let finished = worker(url, &project).agent("true").run();
    finished.assert_code(0);
    receiving.wait_for_output_line("POST /completed");
    let screen = receiving.wait_for_screen("waiting for workers");
    let (_, after) = screen
        .rsplit_once("POST /completed")
        .expect("the end of the run");
    assert!(!after.contains("heartbeat"), "{after:?}");
    receiving.signal(Signal::TERM);
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
    end(running);
}
