//! For writers of orchestrators: whatever an agent prints, every body is complete JSON in UTF-8 of at most 256 KiB.

use serde_json::Value;

use crate::support::receiver::ReceivedRequest;
use crate::support::{Project, Receiver, Worker, each};

/// The largest body that the protocol allows, in bytes.
const MAX_BODY_SIZE: usize = 256 * 1024;

/// Runs an agent with heartbeats, and checks the size of each body; returns all requests, in the order in which the worker made
/// them.
fn requests_of_run(agent: &str, project: &Project) -> Vec<ReceivedRequest> {
    let receiver = Receiver::start();
    let running = Worker::new(&receiver, project)
        .env("DESCARTES_HEARTBEAT", "30ms")
        .agent(agent)
        .start();
    // Such an agent waits until the file `go` exists.
    if agent.contains("-e go") {
        receiver.wait_for_first("progress");
        project.write("go", "");
    }
    let ended = running.wait();
    assert!(matches!(ended.code, Some(0 | 1)), "{ended:#?}");
    let mut requests = receiver.requests();
    // The last heartbeat may arrive after the outcome.
    requests.sort_by_key(|request| request.event["sequence"].as_u64());
    for request in &requests {
        assert!(
            request.body.len() <= MAX_BODY_SIZE,
            "{} bytes",
            request.body.len()
        );
        std::str::from_utf8(&request.body).unwrap();
    }
    assert_eq!(ended.result_line(), requests.last().unwrap().event);
    requests
}

#[test]
fn bodies_stay_within_the_limit_if_the_agent_prints_many_bytes_of_any_kind() {
    // Of these bytes, one becomes six bytes in JSON, or three in UTF-8 (U+FFFD), or is a part of a character.
    let outputs = [
        r"\001",
        r"\377",
        r"\033[31m\000",
        r"\342\202\254",
        r"\303",
        r#"\\""#,
    ];
    each(&outputs, |bytes| {
        let project = Project::new();
        let agent = format!(
            "line=$(printf '{bytes}%.0s' $(seq 200) | tr -d '\\000'); count=0; \
             while [ $count -lt 3000 ]; do echo \"$line\"; count=$((count+1)); done; \
             until [ -e go ]; do sleep 0.02; done"
        );
        let requests = requests_of_run(&agent, &project);
        let output = &requests.last().unwrap().event["result"]["output"];
        let total = output["total_bytes"].as_u64().unwrap();
        assert!(total > 300_000, "{total}");
        assert!(output["dropped_bytes"].as_u64().unwrap() > total - 13_000);
        assert!(!output["tail"].as_str().unwrap().is_empty());
        assert!(requests.len() > 2, "no heartbeats");
    });
}

#[test]
fn many_checks_with_long_commands_and_output_fit_into_a_body() {
    let project = Project::new();
    let noise = "head -c 5000 /dev/zero | tr '\\0' '\\001'";
    let mut checks = vec![format!("{noise}; : {}", "\u{1}".repeat(1000)); 60];
    checks.push(format!(
        "echo this one fails; {noise} | head -c 100; exit 3"
    ));
    let checks: Vec<&str> = checks.iter().map(String::as_str).collect();
    project.set_checks(&checks);
    let requests = requests_of_run("true", &project);
    let failed = &requests.last().unwrap().event;
    assert_eq!(
        failed["failure"]["reason"], "checks_failed",
        "{}",
        failed["failure"]
    );
    let checks = failed["result"]["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 61);
    // The failed check keeps its output.
    let tail = checks[60]["output_tail"].as_str().unwrap();
    assert!(tail.starts_with("this one fails\n"), "{tail:?}");
    assert_eq!(checks[60]["exit_code"], 3);
}

#[test]
fn unknown_numbers_are_null() {
    let requests = requests_of_run("kill -9 $$", &Project::new());
    let event = &requests.last().unwrap().event;
    let agent = &event["result"]["agent"];
    for unknown in [
        "exit_code",
        "turns",
        "tool_calls",
        "cost_usd",
        "usage",
        "model",
    ] {
        assert_eq!(agent[unknown], Value::Null, "{unknown}");
    }
    assert_eq!(event["failure"]["reason"], "agent_killed");
}

#[test]
fn a_long_command_is_cut_in_the_message() {
    let project = Project::new();
    let long = format!(": {}; false", "long ".repeat(10_000));
    project.set_checks(&[long.as_str()]);
    let requests = requests_of_run("true", &project);
    let event = &requests.last().unwrap().event;
    assert!(event["message"].as_str().unwrap().chars().count() <= 501);
    let failure = event["failure"]["message"].as_str().unwrap();
    assert!(failure.chars().count() <= 501);
}
