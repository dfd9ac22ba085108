//! A collector that does not work produces one warning, and changes neither the outcome nor the exit code.

use crate::collector::Collector;
use crate::support::{FinishedWorker, Hold, Project, Receiver, Server, Worker, wait_until};

/// The words with which the worker warns of a failed export.
const WARNING: &str = "traces or metrics were not exported";

/// Runs a worker whose collector is at this URL, and asserts that the task is completed.
fn run(url: &str) -> FinishedWorker {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .agent("true")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        .run();
    ended.assert_completed(&receiver);
    ended
}

/// Asserts that the log has one warning about the export, which contains `why`.
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
fn an_unreachable_collector_produces_one_warning() {
    // No program listens on this port, which only root may use.
    assert_one_warning(&run("http://127.0.0.1:1"), "connection refused");
    // Every warning names the URL, even if the resolver needs longer than the last export may take.
    let ended = run("http://collector.invalid:4318");
    assert_one_warning(&ended, "http://collector.invalid:4318/v1/");
}

#[test]
fn a_collector_that_refuses_or_answers_garbage_produces_one_warning() {
    let html = "<html>hello</html>";
    // A rejection of one item as protobuf. Its length is 123, which is the code of an opening brace: it must not count as
    // JSON.
    let rejection = format!("\n{{\u{8}\u{1}\u{12}w{}", "x".repeat(119));
    let rejection: &'static str = Box::leak(rejection.into_boxed_str());
    let cases = [
        ("401 Unauthorized", "text/plain", "no entry", "401"),
        ("400 Bad Request", "text/plain", "", "400"),
        ("503 Service Unavailable", "text/plain", "", "503"),
        ("307 Temporary Redirect", "text/plain", "", "307"),
        ("200 OK", "text/html", html, "not one of a collector"),
        (
            "200 OK",
            "application/x-protobuf",
            rejection,
            "rejected 1 items",
        ),
    ];
    for (status, kind, body, why) in cases {
        let collector = Collector::start_with_answer((status, kind, body));
        assert_one_warning(&run(&collector.url()), why);
        assert!(!collector.requests().is_empty());
    }
    let not_http = Server::listen("127.0.0.1:0", |connection| {
        use std::io::Write;
        let _ = (&*connection.stream).write_all(b"SSH-2.0-OpenSSH_9.9\r\n");
    });
    let url = format!("http://{}", not_http.address());
    // The reason depends on which side has sent first.
    assert_one_warning(&run(&url), &url);
}

#[test]
fn a_collector_that_answers_with_json_or_with_nothing_is_accepted() {
    for body in ["", "{}"] {
        let collector = Collector::start_with_answer(("200 OK", "application/json", body));
        let ended = run(&collector.url());
        assert!(!ended.stderr.contains(WARNING), "{}", ended.stderr);
    }
}

#[test]
fn the_outcome_is_delivered_before_a_collector_that_never_answers_is_given_up() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let hold = Hold::default();
    let server_hold = hold.clone();
    let collector = Server::listen("127.0.0.1:0", move |connection| {
        connection.wait_for(&server_hold);
    });
    let running = Worker::new(&receiver, &project)
        .agent("true")
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://{}", collector.address()),
        )
        .start();
    // The collector has not answered yet.
    receiver.wait_for_first("completed");
    let ended = running.wait();
    ended.assert_completed(&receiver);
    // On a slow machine, the limit of a request may be over before the one of the last export.
    assert_one_warning(&ended, "no answer within");
    assert_one_warning(&ended, &collector.address().to_string());
    hold.release();
}

#[test]
fn a_stop_signal_during_the_last_export_ends_it() {
    use rustix::process::Signal;
    let (receiver, project) = (Receiver::start(), Project::new());
    let hold = Hold::default();
    let server_hold = hold.clone();
    let (sender, connected) = std::sync::mpsc::channel();
    let collector = Server::listen("127.0.0.1:0", move |connection| {
        let _ = sender.send(());
        connection.wait_for(&server_hold);
    });
    let running = Worker::new(&receiver, &project)
        .agent("true")
        // Traces may be sent before the last export; metrics are only sent in the last export.
        .env("OTEL_TRACES_EXPORTER", "none")
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://{}", collector.address()),
        )
        .start();
    running.wait_for_log("completed: ");
    connected.recv().expect("the last export begins");
    running.signal(Signal::TERM);
    let ended = running.wait();
    ended.assert_completed(&receiver);
    assert!(!ended.stderr.contains(WARNING), "{}", ended.stderr);
    hold.release();
}

#[test]
fn a_request_that_hangs_when_the_run_ends_is_repeated_and_does_not_delay_metrics() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let hold = Hold::default();
    let collector = Collector::start_hanging_once(&hold);
    let running = Worker::new(&receiver, &project)
        .agent("until [ -e go ]; do sleep 0.05; done")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .start();
    wait_until("the first export", || collector.count_connections() == 1);
    project.write("go", "");
    let ended = running.wait();
    ended.assert_completed(&receiver);
    for name in ["claim", "run"] {
        collector.span(name);
    }
    let attribute = ("cicd.pipeline.result", "success");
    assert!((collector.point("descartes.runs", attribute) - 1.0).abs() < 1e-9);
    assert!(!ended.stderr.contains(WARNING), "{}", ended.stderr);
    hold.release();
}

#[test]
fn metrics_arrive_if_the_collector_of_traces_hangs() {
    let (receiver, project, metrics) = (Receiver::start(), Project::new(), Collector::start());
    let hold = Hold::default();
    let server_hold = hold.clone();
    let traces = Server::listen("127.0.0.1:0", move |connection| {
        connection.wait_for(&server_hold);
    });
    let url = format!("http://{}/v1/traces", traces.address());
    let ended = Worker::new(&receiver, &project)
        .agent("true")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", metrics.url())
        .env(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            format!("{url}?api-key=key-of-the-collector"),
        )
        .run();
    ended.assert_completed(&receiver);
    let attribute = ("cicd.pipeline.result", "success");
    assert!((metrics.point("descartes.runs", attribute) - 1.0).abs() < 1e-9);
    assert_one_warning(&ended, &url);
    assert!(!ended.stderr.contains("metrics to"), "{}", ended.stderr);
    assert!(
        !ended.stderr.contains("key-of-the-collector"),
        "{}",
        ended.stderr
    );
    hold.release();
}

#[test]
fn the_last_export_is_repeated_once_after_a_temporary_refusal() {
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let collector = Collector::start_refusing_once(status);
        let ended = run(&collector.url());
        assert!(!ended.stderr.contains(WARNING), "{}", ended.stderr);
        for path in ["/v1/traces", "/v1/metrics"] {
            let requests = collector.requests().into_iter();
            let bodies: Vec<Vec<u8>> = requests
                .filter(|request| request.path == path)
                .map(|request| request.body)
                .collect();
            assert_eq!(bodies.len(), 2, "{path}");
            assert_eq!(bodies[0], bodies[1], "{path}");
        }
    }
}
