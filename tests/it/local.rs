//! For people at a terminal: `demo`, `local` and `receive` on one machine, with nothing to set up.

mod ending;
mod project;

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::model::{bash, says};
use crate::support::{Ended, Model, Project, Receiver, Running, Worker};

/// Asserts that the parts are in the text, one after the other.
#[track_caller]
fn assert_in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let at = rest.find(part);
        let at =
            at.unwrap_or_else(|| panic!("{part:?} is not there, or not after the others:\n{text}"));
        rest = &rest[at + part.len()..];
    }
}

/// Standard error without the worker's log, and that log. The two arrive through different pipes, so
/// only the order within each of them is certain.
fn timeline_and_log(ended: &Ended) -> (String, String) {
    let lines = ended.stderr.split_inclusive('\n');
    let (log, timeline): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with("  │ "));
    (timeline.concat(), log.concat())
}

/// The program in a directory, without a home directory.
fn program(args: &[&str], dir: &Project) -> Worker {
    Worker::bare().args(args).dir(dir.dir())
}

#[test]
fn demo_shows_a_worker_from_claim_to_result() {
    let dir = Project::empty();
    let ended = program(&["demo"], &dir)
        .with(|command| {
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
    dir.write(
        "bin/claude",
        "#!/bin/sh\necho \"claude $*\"; head -n 1; sed -i 's/-gt 1/-gt 0/' greet.sh
         echo '{\"type\":\"result\",\"subtype\":\"success\",\"result\":\"Fixed.\"}'\n",
    );
    make_executable(&dir.path("bin/claude"));
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
        bash("sed -i 's/-gt 1/-gt 0/' greet.sh && sh test.sh"),
        says("Fixed."),
    ]);
    let ended = program(&["demo"], &Project::empty())
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
    model.asked();
}

fn make_executable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    let permissions = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, permissions).expect("permissions");
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

/// Starts `receive` on a free port; gives its callback URL with `localhost` as the host.
fn receive() -> (Running, String) {
    let dir = Project::empty();
    let running = program(&["receive", "--listen", "127.0.0.1:0"], &dir).start();
    let line = running.wait_for_log("listens at http://127.0.0.1:");
    let (_, url) = line.split_once("listens at ").expect("a URL");
    (running, url.replace("127.0.0.1", "localhost"))
}

fn end(running: Running) -> Ended {
    running.signal(Signal::TERM);
    let ended = running.wait();
    ended.assert_code(0);
    assert_eq!(ended.stdout, "");
    ended
}

#[test]
fn the_command_line_of_the_original_worker_works_with_receive() {
    let (receiving, url) = receive();
    let project = Project::with_graph(
        "# SCUD Graph v1\n# Phase: webapp\n\n@nodes\ntest-123 | Say hello | P | 1 | M\n",
    );
    // TASK_ID=test-123 PROJECT_ID=proj-456 CALLBACK_URL=http://localhost:…/api/agents/callback \
    //   descartes-worker --task test-123
    let ended = program(&["--task", "test-123"], &project)
        .env("TASK_ID", "test-123")
        .env("PROJECT_ID", "proj-456")
        .env("CALLBACK_URL", url)
        .agent("echo hello")
        .run();
    ended.assert_code(0);
    let event = ended.result_line();
    assert_eq!(event["task_id"], "test-123");
    assert_eq!(event["result"]["output"]["tail"], "hello\n");
    let run = event["run_id"].as_str().expect("a run id");
    let ended = end(receiving);
    assert_in_order(
        &ended.stderr,
        &[
            &format!("POST /started    test-123: run {run} on "),
            "POST /completed  test-123: task test-123 of phase webapp is done: Say hello\n",
        ],
    );
    assert!(!ended.stderr.contains("protocol  "), "{ended:#?}");
}

#[test]
fn receive_grants_a_task_to_one_worker_at_a_time() {
    let (receiving, url) = receive();
    let project = Project::new();
    let worker = || {
        program(&["--task", "8"], &project)
            .env("PROJECT_ID", "proj-456")
            .env("CALLBACK_URL", &url)
            .env("DESCARTES_HEARTBEAT", "50ms")
    };
    let first = worker().agent("echo ready; exec sleep 600").start();
    first.wait_for_log("agent: ready");
    let second = worker().agent("touch worked").run();
    second.assert_code(4);
    assert!(
        second.stderr.contains("is working on this task"),
        "{second:#?}"
    );
    assert!(!project.path("worked").exists());
    receiving.wait_for_log("POST /progress   8: agent: ready");
    first.signal(Signal::TERM);
    first.wait().assert_code(1);
    // The failed task can be claimed again.
    worker().agent("true").run().assert_code(0);
    assert!(!end(receiving).stderr.contains("protocol  "));
}

/// Posts to a callback URL; gives the status and the body of the answer.
fn post(url: &str, body: &str) -> (u16, Value) {
    let (host, path) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .expect("a URL");
    let mut stream = TcpStream::connect(host).expect("a listening receiver");
    let length = body.len();
    write!(
        stream,
        "POST /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .expect("a sent request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    (
        status.expect("a status"),
        serde_json::from_str(body).expect("JSON"),
    )
}

#[test]
fn receive_prints_every_violation_of_the_protocol() {
    let (receiving, url) = receive();
    let event = |sequence: u64, change: Value| {
        let mut event = json!({
            "task_id": "8", "project_id": "p", "status": "started", "message": "m", "version": 1,
            "event": "task.started", "event_id": format!("r.{sequence}"), "run_id": "r",
            "sequence": sequence, "timestamp": "2026-11-23T08:00:00.000Z",
            "worker": { "hostname": "h" },
        });
        let change = change.as_object().expect("fields").clone();
        event.as_object_mut().expect("fields").extend(change);
        event.to_string()
    };
    let say = |route: &str, body: &str| post(&format!("{url}/{route}"), body).0;
    assert_eq!(
        say(
            "started",
            &event(3, json!({ "status": "begun", "version": 2 }))
        ),
        200
    );
    let failed =
        json!({ "status": "failed", "event": "task.failed", "failure": { "reason": "idle" } });
    assert_eq!(say("failed", &event(2, failed.clone())), 200);
    assert_eq!(say("failed", &event(2, failed.clone())), 200);
    assert_eq!(say("failed", &event(5, failed)), 409);
    assert_eq!(say("started", "nonsense"), 400);
    assert_eq!(say("started", "{}"), 400);
    assert_eq!(say("sideways", "{}"), 404);
    assert_in_order(
        &end(receiving).stderr,
        &[
            "POST /started    8: run r on h\n",
            "protocol         status is \"begun\", not \"started\"\n",
            "protocol         version is 2, not 1\n",
            "POST /failed     8: m [idle]\n",
            "protocol         sequence Some(2) follows Some(3)\n",
            "POST /failed     8: m [idle] (again)\n",
            "POST /failed     8: m [idle]\n",
            "protocol         the run ended already, with event r.2\n",
            "protocol         task_id is missing\n",
        ],
    );
}

#[test]
fn receive_names_the_address_that_is_already_in_use() {
    let receiver = Receiver::start();
    let taken = receiver.address().to_string();
    let ended = Worker::bare().args(["receive", "--listen", &taken]).run();
    ended.assert_code(2);
    assert!(
        ended.stderr.contains(&format!("cannot listen on {taken}")),
        "{ended:#?}"
    );
}
