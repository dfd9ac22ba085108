//! For writers of orchestrators: `probe` reports which rules of the protocol their orchestrator keeps.

use std::io::{BufRead, BufReader, Read, Write};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::server::Connection;
use crate::support::{FinishedWorker, Receiver, Reply, RunningWorker, Server, Worker};

/// The secret that signs requests.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The program with these arguments.
fn program(args: &[&str]) -> Worker {
    Worker::without_settings().args(args)
}

/// `receive` on a free port with further flags, and its URL.
fn receive(flags: &[&str]) -> (RunningWorker, String) {
    let running = program(&["receive", "--listen", "127.0.0.1:0"])
        .args(flags)
        .env("DESCARTES_CALLBACK_SECRET", SECRET)
        .start();
    let line = running.wait_for_log("listens at http://127.0.0.1:");
    let (_, url) = line.split_once("listens at ").expect("a URL");
    (running, url.to_owned())
}

/// `probe` of the orchestrator at this URL.
fn probe(url: &str) -> Worker {
    program(&["probe", url])
}

/// The verdict about a rule: the first word of the line that contains `rule`.
#[track_caller]
fn verdict<'a>(ended: &'a FinishedWorker, rule: &str) -> &'a str {
    let mut lines = ended.stdout.lines();
    let line = lines.find(|line| line.contains(rule));
    let line = line.unwrap_or_else(|| panic!("no {rule:?} in {ended:#?}"));
    line.split(' ').next().unwrap_or_default()
}

#[test]
fn the_receiver_for_development_keeps_every_rule() {
    let (receiving, url) = receive(&[]);
    let ended = probe(&url)
        .env("DESCARTES_CALLBACK_SECRET", SECRET)
        .env(
            "DESCARTES_CALLBACK_TOKEN",
            "a-token-that-receive-does-not-look-at",
        )
        .run();
    // `receive` has no setting for a token, so it cannot refuse a wrong one.
    ended.assert_code(1);
    let other_lines: Vec<&str> = ended
        .stdout
        .lines()
        .filter(|line| !line.starts_with("kept "))
        .collect();
    let [token, other_token, cancellation, leases, summary] = other_lines[..] else {
        panic!("{ended:#?}");
    };
    assert!(
        token.starts_with("BROKEN  bearer token: a request without the token"),
        "{token}"
    );
    assert!(
        other_token.ends_with("answered 200, 401 is right"),
        "{other_token}"
    );
    assert!(
        cancellation.starts_with("-       cancelling: "),
        "{cancellation}"
    );
    assert!(leases.starts_with("-       leases: "), "{leases}");
    assert!(
        summary.contains("0 could be better, 2 broken, 2 not tried"),
        "{summary}"
    );
    receiving.signal(Signal::TERM);
}

#[test]
fn probe_waits_for_a_cancellation_and_ends_with_exit_code_0_if_all_rules_are_kept() {
    let (receiving, url) = receive(&["--cancel", "cancel-me"]);
    let ended = probe(&url)
        .args([
            "--task",
            "a",
            "--task",
            "b",
            "--task",
            "c",
            "--task",
            "cancel-me",
        ])
        .args(["--cancel-within", "1m"])
        .env("DESCARTES_CALLBACK_SECRET", SECRET)
        .run();
    ended.assert_code(0);
    assert_eq!(verdict(&ended, "cancel task cancel-me (run probe-"), "?");
    assert_eq!(
        verdict(&ended, "the reason is \"cancelled by --cancel\""),
        "kept"
    );
    receiving.signal(Signal::TERM);
    let stderr = receiving.wait().stderr;
    assert!(
        stderr.contains("cancelled: cancelled by --cancel"),
        "{stderr}"
    );
}

/// A server that answers every request with the same status, so it refuses no claim.
fn server_that_grants_everything() -> Server {
    Server::listen("127.0.0.1:0", |connection: &Connection| {
        let mut reader = BufReader::new(&*connection.stream);
        loop {
            let mut length = 0;
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 0) && line.trim() != "" {
                let lower = line.to_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                line.clear();
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() || length == 0 {
                return;
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
            if (&*connection.stream).write_all(answer).is_err() {
                return;
            }
        }
    })
}

#[test]
fn an_orchestrator_that_grants_everything_breaks_the_rules_of_claims_and_signatures() {
    let server = server_that_grants_everything();
    let url = format!("http://{}/callback", server.address());
    let ended = probe(&url)
        .arg("--json")
        .env("DESCARTES_CALLBACK_SECRET", SECRET)
        .run();
    ended.assert_code(1);
    let output: Value = crate::support::schema::cli_object(&ended.stdout);
    assert_eq!(output["url"], url);
    let findings = output["findings"].as_array().expect("a list");
    let broken: Vec<&str> = findings
        .iter()
        .filter(|finding| finding["verdict"] == "broken")
        .map(|finding| finding["rule"].as_str().expect("words"))
        .collect();
    assert_eq!(
        broken,
        [
            "another run is refused while the task is taken",
            "a heartbeat of a run that has no claim is refused",
            "a request without a signature is refused",
            "a signature with another secret is refused",
            "a signature of another body is refused",
            "a signature that is ten minutes old is refused",
            "a signature from ten minutes in the future is refused",
            "a task whose last run failed with retryable: false is not granted again",
            "a task that is completed is not granted again",
            "of eight claims at the same time, exactly one is granted",
        ]
    );
    let message = &findings[2]["message"];
    assert_eq!(message, "answered 200, 409 is right");
}

#[test]
fn an_orchestrator_that_cannot_be_reached_is_named_and_means_exit_code_3() {
    let ended = probe("http://127.0.0.1:1/callback").run();
    ended.assert_code(3);
    assert_eq!(
        verdict(
            &ended,
            "http://127.0.0.1:1/callback/started: connection refused"
        ),
        "BROKEN"
    );
    assert_eq!(verdict(&ended, "all other rules"), "-");
}

#[test]
fn a_probe_without_a_url_or_with_wrong_flags_ends_with_exit_code_2() {
    let ended = program(&["probe", "--cancel-within", "soon"]).run();
    ended.assert_code(2);
    assert!(
        ended.stderr.contains("CALLBACK_URL: is missing"),
        "{ended:#?}"
    );
    assert!(ended.stderr.contains("--cancel-within"), "{ended:#?}");
    let five_tasks = ["--task=1", "--task=2", "--task=3", "--task=4", "--task=5"];
    let ended = probe("http://127.0.0.1:1/").args(five_tasks).run();
    ended.assert_code(2);
    assert!(
        ended
            .stderr
            .contains("--task: is repeated too often; name at most four tasks"),
        "{ended:#?}"
    );
}

#[test]
fn a_token_in_the_query_of_the_url_is_not_shown() {
    const TOKEN: &str = "query-token-6c1f9e77";
    let url = format!("http://127.0.0.1:1/callback?access_token={TOKEN}");
    let as_lines = probe(&url).run();
    as_lines.assert_code(3);
    assert_eq!(
        verdict(&as_lines, "http://127.0.0.1:1/callback: 0 rules kept"),
        "http://127.0.0.1:1/callback:"
    );
    let as_json = probe(&url).arg("--json").run();
    as_json.assert_code(3);
    let output = crate::support::schema::cli_object(&as_json.stdout);
    assert_eq!(output["url"], "http://127.0.0.1:1/callback");
    for ended in [as_lines, as_json] {
        assert!(!ended.stdout.contains(TOKEN), "{ended:#?}");
        assert!(!ended.stderr.contains(TOKEN), "{ended:#?}");
    }
}

#[test]
fn if_one_of_the_concurrent_claims_gets_no_answer_their_task_is_still_completed() {
    let receiver = Receiver::start();
    // The first task is granted, also to its repeated claim. The next three claims, of the other rules, are refused.
    receiver.script("started", [200, 200, 409, 409, 409].map(Reply::status));
    receiver.script("started", [Reply::status(200), Reply::Reset]);
    receiver.set_default_reply("started", Reply::status(409));
    let ended = probe(&receiver.url()).run();
    ended.assert_code(1);
    let rule = "of eight claims at the same time, exactly one is granted";
    assert_eq!(verdict(&ended, rule), "BROKEN");
    let runs_on = |route: &str| -> Vec<Value> {
        let requests = receiver.requests_to(route).into_iter();
        let events = requests.map(|request| request.event);
        let contested = events.filter(|event| event["task_id"] == "probe-2");
        contested.map(|event| event["run_id"].clone()).collect()
    };
    let claims = runs_on("started");
    assert_eq!(claims.len(), 8, "{ended:#?}");
    // The first claim was granted, and the second one got no answer.
    assert_eq!(runs_on("completed"), claims[..2]);
}
