//! For people at a terminal: the whole thing on one machine, with nothing to set up.

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

/// What was shown, without the worker's log; and that log. They come by different ways, so only
/// the order within each of them is certain.
fn timeline_and_log(ended: &Ended) -> (String, String) {
    let lines = ended.stderr.split_inclusive('\n');
    let (log, timeline): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with("  │ "));
    (timeline.concat(), log.concat())
}

/// A program in an empty directory, without a home.
fn program(args: &[&str], dir: &Project) -> Worker {
    Worker::bare().args(args).dir(dir.dir())
}

#[test]
fn the_demo_shows_a_whole_life() {
    let dir = Project::empty();
    let ended = program(&["demo"], &dir)
        .with(|command| {
            // A person without a git identity, and whose git would like to open an editor.
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
            "no agent is set, so a script of a few lines plays one: sh .agent.sh\n",
            "orchestrator     listens at http://127.0.0.1:",
            "orchestrator     starts a worker for task greeting:2\n",
            "POST /started    greeting:2: run ",
            "POST /completed  greeting:2: task 2 of phase greeting is done: The last guest is not greeted\n",
            "worker           ended with exit code 0\n",
            "what the worker leaves in the project:\n",
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
fn the_demo_takes_claude_code_where_there_is_a_key_for_it() {
    let dir = Project::empty();
    std::fs::create_dir(dir.path("bin")).expect("a directory");
    crate::support::origin::program(
        &dir.path("bin/claude"),
        "echo \"claude $*\"; head -n 1; sed -i 's/-gt 1/-gt 0/' greet.sh
         echo '{\"type\":\"result\",\"subtype\":\"success\",\"result\":\"Mended.\"}'",
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
fn the_demo_takes_the_built_in_agent_where_there_is_a_key_and_nothing_else() {
    let model = Model::start([
        bash("sed -i 's/-gt 1/-gt 0/' greet.sh && sh test.sh"),
        says("Mended."),
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
        "agent: Mended.",
        "check: sh test.sh: passed",
    ];
    assert_in_order(&log, &lines);
    model.asked();
}

#[test]
fn the_demo_takes_another_agent_and_believes_its_checks_only() {
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
fn a_task_of_a_project_here_runs_under_an_orchestrator_of_its_own() {
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
fn the_project_is_the_current_directory_where_none_is_given() {
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
fn a_worker_that_rejects_its_settings_is_shown() {
    let project = Project::new();
    let ended = program(&["local", "--task", "8", "--repairs", "many"], &project).run();
    ended.assert_code(2);
    assert_in_order(
        &ended.stderr,
        &[
            "one setting is wrong; nothing was sent\n",
            "DESCARTES_REPAIRS: \"many\" is not a number from 0 to 100\n",
            "worker           ended with exit code 2\n",
        ],
    );
    assert!(!ended.stderr.contains("POST /"), "{ended:#?}");
}

#[test]
fn ctrl_c_is_passed_on_to_the_worker() {
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

/// `receive` on a free port, and its callback URL with `localhost` for a host.
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
fn the_command_of_the_original_worker_works_against_receive() {
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
fn receive_gives_a_task_to_one_worker_at_a_time() {
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
    // The task is free again.
    worker().agent("true").run().assert_code(0);
    assert!(!end(receiving).stderr.contains("protocol  "));
}

/// Posts to a callback URL; gives the status and the answer.
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
fn receive_says_what_is_wrong_with_what_it_hears() {
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
fn a_taken_port_is_said_with_its_address() {
    let taken = Receiver::start().address().to_string();
    let ended = Worker::bare().args(["receive", "--listen", &taken]).run();
    ended.assert_code(2);
    assert!(
        ended.stderr.contains(&format!("cannot listen on {taken}")),
        "{ended:#?}"
    );
}
