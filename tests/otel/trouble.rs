//! A collector that does not work costs one warning, and changes neither the outcome nor the exit code.

use std::net::TcpListener;

use crate::collector::Collector;
use crate::support::{FinishedWorker, Hold, Project, Receiver, Server, Worker};

const WARNING: &str = "traces or metrics were not exported";

/// Runs a worker whose collector is at this URL.
fn run(url: &str) -> FinishedWorker {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .agent("true")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        .run();
    ended.assert_completed(&receiver);
    ended
}

#[track_caller]
fn assert_one_warning(ended: &FinishedWorker, why: &str) {
    let warnings: Vec<&str> = ended
        .stderr
        .lines()
        .filter(|line| line.contains(WARNING))
        .collect();
    assert_eq!(warnings.len(), 1, "{}", ended.stderr);
    assert!(warnings[0].contains(why), "{why}: {}", warnings[0]);
}

#[test]
fn a_collector_that_is_not_there_costs_one_warning() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("an address");
    drop(free);
    assert_one_warning(&run(&format!("http://{address}")), "connection refused");
    let ended = run("http://collector.invalid:4318");
    assert_one_warning(&ended, "collector.invalid");
}

#[test]
fn a_collector_that_refuses_or_answers_garbage_costs_one_warning() {
    let html = "<html>hello</html>";
    let cases = [
        ("401 Unauthorized", "text/plain", "no entry", "401"),
        ("400 Bad Request", "text/plain", "", "400"),
        ("503 Service Unavailable", "text/plain", "", "503"),
        ("307 Temporary Redirect", "text/plain", "", "307"),
        ("200 OK", "text/html", html, "not one of a collector"),
    ];
    for (status, kind, body, why) in cases {
        let collector = Collector::answering(status, kind, body);
        assert_one_warning(&run(&collector.url()), why);
        assert!(!collector.requests().is_empty());
    }
    let not_http = Server::listen("127.0.0.1:0", |connection| {
        use std::io::Write;
        let _ = (&*connection.stream).write_all(b"SSH-2.0-OpenSSH_9.9\r\n");
    });
    let url = format!("http://{}", not_http.address());
    assert_one_warning(&run(&url), "http");
}

#[test]
fn a_collector_that_answers_with_json_or_with_nothing_is_accepted() {
    for body in ["", "{}"] {
        let collector = Collector::answering("200 OK", "application/json", body);
        let ended = run(&collector.url());
        assert!(!ended.stderr.contains(WARNING), "{}", ended.stderr);
    }
}

#[test]
fn the_outcome_is_delivered_before_a_collector_that_never_answers_is_given_up() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let hold = Hold::default();
    let until_release = hold.clone();
    let collector = Server::listen("127.0.0.1:0", move |connection| {
        connection.wait_for(&until_release);
    });
    let running = Worker::new(&receiver, &project)
        .agent("true")
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://{}", collector.address()),
        )
        .start();
    // The collector still holds its connections.
    receiver.wait_for_one("completed");
    let ended = running.wait();
    ended.assert_completed(&receiver);
    assert_one_warning(&ended, "did not answer within 3 s");
    hold.release();
}

#[test]
fn a_stop_signal_during_the_last_export_ends_it() {
    use rustix::process::Signal;
    let (receiver, project) = (Receiver::start(), Project::new());
    let hold = Hold::default();
    let until_release = hold.clone();
    let (sender, connected) = std::sync::mpsc::channel();
    let collector = Server::listen("127.0.0.1:0", move |connection| {
        let _ = sender.send(());
        connection.wait_for(&until_release);
    });
    let running = Worker::new(&receiver, &project)
        .agent("true")
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://{}", collector.address()),
        )
        .start();
    connected.recv().expect("the export begins");
    receiver.wait_for_one("completed");
    running.signal(Signal::TERM);
    let ended = running.wait();
    ended.assert_completed(&receiver);
    assert!(!ended.stderr.contains(WARNING), "{}", ended.stderr);
    hold.release();
}
