//! `--json` of `local`, `demo` and `receive`: standard output has one object of the schema on each line, and nothing else.

use std::io::{BufRead, BufReader};

use serde_json::Value;

use super::program;
use crate::support::{Origin, Project, Worker, schema, wait_until};

/// The field `type` of all objects.
fn types(objects: &[Value]) -> Vec<&str> {
    let types = objects.iter().map(|object| object["type"].as_str());
    types.map(|word| word.expect("a type")).collect()
}

/// The objects of one type.
fn of_type<'a>(objects: &'a [Value], word: &str) -> Vec<&'a Value> {
    let objects = objects.iter();
    objects.filter(|object| object["type"] == word).collect()
}

#[test]
fn local_prints_its_events_its_log_and_its_result_as_json() {
    let project = Project::new();
    project.set_checks(&["test -e house"]);
    let ended = program(&["local", "--task", "8", "--json"], &project)
        .agent("echo building; touch house")
        .run();
    ended.assert_code(0);
    let objects = schema::cli_objects(&ended.stdout);
    let types = types(&objects);
    assert_eq!(&types[..2], ["listening", "worker_started"]);
    assert_eq!(types.last(), Some(&"result"));
    let routes: Vec<&Value> = of_type(&objects, "event")
        .iter()
        .map(|event| &event["route"])
        .collect();
    assert_eq!(routes.first().expect("an event"), &"started");
    assert_eq!(routes.last().expect("an event"), &"completed");
    let line = of_type(&objects, "log")
        .into_iter()
        .find(|log| log["line"] == "agent: building");
    assert_eq!(line.expect("the agent's line")["level"], "info");
    let result = objects.last().expect("the result");
    assert_eq!(result["exit_code"], 0);
    assert_eq!(result["directory"], project.dir().to_str().expect("UTF-8"));
    assert_eq!(result["event"]["status"], "completed");
    assert_eq!(schema::callback_violations(&result["event"]), [""; 0]);
}

#[test]
fn a_reader_that_was_too_slow_for_the_log_still_gets_the_result() {
    // 100 lines are logged in each second. A quote takes two bytes in JSON.
    const AGENT: &str = r#"
        long=$(printf '"%.0s' $(seq 500))
        for second in 1 2 3 4 5; do
            for line in $(seq 100); do echo "$long"; done
            sleep 1.1
        done
        touch house"#;
    let project = Project::new();
    // The reader starts after the end of the worker. The log does not fit into the queue of lines that wait for the reader.
    let script = r#""$0" "$@" 2> errors | { while [ ! -e start ]; do sleep 0.02; done; cat; }"#;
    let running = Worker::without_settings()
        .started_by("sh", |worker| {
            vec!["-c".into(), script.into(), worker.into()]
        })
        .args(["local", "--task", "8", "--json"])
        .dir(project.dir())
        .agent(AGENT)
        .start();
    wait_until("the end of the worker", || {
        std::fs::read_to_string(project.path("errors"))
            .is_ok_and(|text| text.contains("ended with exit code 0"))
    });
    project.write("start", "");
    let ended = running.wait();
    let objects = schema::cli_objects(&ended.stdout);
    let types = types(&objects);
    assert!(types.contains(&"gap"), "{types:?}");
    assert_eq!(types.last(), Some(&"result"));
}

#[test]
fn local_prints_a_result_without_an_event_if_the_worker_does_not_begin() {
    let project = Project::new();
    let ended = program(
        &["local", "--task", "8", "--json", "--repairs", "many"],
        &project,
    )
    .run();
    ended.assert_code(2);
    let objects = schema::cli_objects(&ended.stdout);
    let result = objects.last().expect("the result");
    assert_eq!(
        (&result["exit_code"], &result["event"]),
        (&2.into(), &Value::Null)
    );
    let log = of_type(&objects, "log");
    assert!(
        log.iter()
            .any(|log| log["line"] == "1 setting is invalid" && log["level"].is_null())
    );
}

#[test]
fn the_result_of_a_failed_local_has_the_reason_and_the_file_with_the_patch() {
    let (origin, dir, state) = (Origin::new(), Project::empty(), Project::empty());
    let args = [
        "local",
        "--task",
        "8",
        "--json",
        "--branch",
        "none",
        "--repo",
        &origin.url(),
    ];
    let ended = program(&args, &dir)
        .env("XDG_STATE_HOME", state.dir())
        .agent("echo four walls > house; exit 3")
        .run();
    ended.assert_code(1);
    let objects = schema::cli_objects(&ended.stdout);
    let result = objects.last().expect("the result");
    assert_eq!(result["event"]["failure"]["reason"], "agent_failed");
    assert_eq!(result["repository"], origin.url());
    let patch = result["patch_file"].as_str().expect("a file");
    assert!(
        patch.starts_with(state.dir().to_str().expect("UTF-8")),
        "{patch}"
    );
    let patch = std::fs::read_to_string(patch).expect("the patch");
    assert!(patch.contains("+four walls\n"), "{patch}");
}

#[test]
fn demo_prints_its_diff_in_the_result() {
    let ended = program(&["demo", "--json"], &Project::empty()).run();
    ended.assert_code(0);
    let objects = schema::cli_objects(&ended.stdout);
    let result = objects.last().expect("the result");
    let diff = result["diff"].as_str().expect("a diff");
    assert!(diff.contains("+while [ $# -gt 0 ]; do\n"), "{diff}");
}

#[test]
fn a_heartbeat_is_an_object_each_time_although_it_has_one_line_for_people() {
    let project = Project::new();
    let args = ["local", "--task", "8", "--json", "--heartbeat", "20ms"];
    let agent = "until [ -e go ]; do sleep 0.02; done";
    let running = program(&args, &project).agent(agent).start();
    running.wait_for_repeated_output("\"route\":\"progress\"", 3);
    project.write("go", "");
    let ended = running.wait();
    ended.assert_code(0);
    let objects = schema::cli_objects(&ended.stdout);
    let events = of_type(&objects, "event");
    let heartbeats = events.iter().filter(|event| event["route"] == "progress");
    assert!(heartbeats.count() > 2, "{}", ended.stdout);
    let lines = ended.stderr.lines();
    let lines: Vec<&str> = lines
        .filter(|line| line.contains("POST /progress   8: agent"))
        .collect();
    assert_eq!(lines.len(), 1, "{}", ended.stderr);
}

#[test]
fn local_continues_if_the_reader_of_its_json_closes_the_pipe_after_one_line() {
    let project = Project::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let running = program(&["local", "--task", "8", "--json"], &project)
        .agent("until [ -e go ]; do sleep 0.01; done; seq 1000; touch worked")
        .change_command(|command| {
            command.stdout(writer);
        })
        .start();
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).expect("a line");
    assert_eq!(schema::cli_object(&line)["type"], "listening");
    project.write("go", "");
    let ended = running.wait();
    ended.assert_code(0);
    assert!(project.path("worked").exists());
    assert!(!ended.stderr.contains("panic"), "{ended:#?}");
}

#[test]
fn invalid_settings_are_an_object_too() {
    let project = Project::new();
    let args = [
        "local",
        "--task",
        "8",
        "--json",
        "--dry-run",
        "--repairs",
        "many",
    ];
    let ended = program(&args, &project).run();
    ended.assert_code(2);
    let error = schema::cli_object(&ended.stdout);
    assert_eq!(error["type"], "error");
    assert_eq!(
        error["messages"][0],
        "--repairs: \"many\" is not a number from 0 to 100"
    );
}

#[test]
fn local_respects_the_users_heartbeat_interval() {
    for (interval, milliseconds) in [("", 1000), ("7s", 7000)] {
        let project = Project::new();
        let ended = program(&["local", "--task", "8", "--json"], &project)
            .env("DESCARTES_HEARTBEAT", interval)
            .agent("true")
            .run();
        ended.assert_code(0);
        let objects = schema::cli_objects(&ended.stdout);
        let claim = of_type(&objects, "event")[0];
        assert_eq!(claim["event"]["heartbeat_interval_ms"], milliseconds);
    }
}
