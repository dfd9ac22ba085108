//! The standard variables of OpenTelemetry.

use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::process::Signal;

use crate::collector::Collector;
use crate::support::{
    FinishedWorker, Hold, Origin, Project, Receiver, Server, Worker, assert_within,
};

/// Runs a worker with these variables; asserts that it completes.
fn run(variables: &[(&str, &str)]) -> FinishedWorker {
    let (receiver, project) = (Receiver::start(), Project::new());
    let mut worker = Worker::new(&receiver, &project).agent("true");
    for (name, value) in variables {
        worker = worker.env(name, value);
    }
    let ended = worker.run();
    ended.assert_completed(&receiver);
    ended
}

#[test]
fn headers_reach_the_collector_and_are_masked_and_hidden_from_the_agent() {
    let (receiver, project, collector) = (Receiver::start(), Project::new(), Collector::start());
    let ended = Worker::new(&receiver, &project)
        .agent("echo the agent prints collector-token-9; env > env")
        .env(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20collector-token-9, x-team=builders",
        )
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .run();
    let event = ended.assert_completed(&receiver);
    let headers = &collector.requests()[0].headers;
    assert_eq!(headers["authorization"], "Bearer collector-token-9");
    assert_eq!(headers["x-team"], "builders");
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert_eq!(event["result"]["output"]["tail"], "the agent prints ***\n");
    assert!(
        !ended.stderr.contains("collector-token-9"),
        "{}",
        ended.stderr
    );
    let environment = project.read("env");
    assert!(!environment.contains("OTEL_"), "{environment}");
}

#[test]
fn headers_that_are_not_credentials_are_not_masked_and_do_not_prevent_a_push() {
    let (receiver, origin, collector) = (Receiver::start(), Origin::new(), Collector::start());
    let ended = origin
        .worker(&receiver)
        .agent("echo of descartes > note; echo the agent prints descartes, and not team-key-9 or api-word-9 or basic-word-9")
        .env(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "x-honeycomb-dataset=descartes,X-Honeycomb-Team=team-key-9,api-user=api-word-9,x-any=Basic%20basic-word-9",
        )
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .run();
    let event = ended.assert_completed(&receiver);
    let branch = "descartes/proj-456/8";
    assert_eq!(event["result"]["work"]["branch"], branch, "{event:#}");
    assert_eq!(origin.show(branch, "note"), "of descartes");
    assert_eq!(
        event["result"]["output"]["tail"],
        "the agent prints descartes, and not *** or *** or ***\n"
    );
    assert_eq!(
        collector.requests()[0].headers["x-honeycomb-dataset"],
        "descartes"
    );
}

#[test]
fn the_query_of_an_endpoint_reaches_the_collector_and_is_not_shown() {
    let url = |collector: &Collector| {
        format!(
            "{}/?api-key=key-of-the-collector&x=not-shown",
            collector.url()
        )
    };
    let refusals = [
        ("403 Forbidden", "text/plain", "key-of-the-collector"),
        ("200 OK", "text/html", "<html>hello</html>"),
        ("200 OK", "application/x-protobuf", ""),
    ];
    for answer in refusals {
        let (receiver, project) = (Receiver::start(), Project::new());
        let collector = Collector::start_with_answer(answer);
        let worker = || {
            let worker = Worker::new(&receiver, &project);
            worker.env("OTEL_EXPORTER_OTLP_ENDPOINT", url(&collector))
        };
        let check = worker().agent("true").arg("check").run();
        check.assert_code(0);
        let ended = worker().agent("echo prints key-of-the-collector").run();
        let event = ended.assert_completed(&receiver);
        assert_eq!(event["result"]["output"]["tail"], "prints ***\n");
        let url_without_query = format!("{}/v1/traces", collector.url());
        assert!(
            check.stdout.contains(&url_without_query),
            "{}",
            check.stdout
        );
        for text in [&ended.stderr, &check.stdout, &check.stderr] {
            assert!(!text.contains("key-of-the-collector"), "{text}");
            assert!(!text.contains("not-shown"), "{text}");
        }
        let path = &collector.requests()[0].path;
        assert!(
            path.ends_with("?api-key=key-of-the-collector&x=not-shown"),
            "{path}"
        );
    }
}

#[test]
fn each_signal_can_have_its_own_collector_or_none() {
    let (traces, metrics) = (Collector::start(), Collector::start());
    run(&[
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            &format!("{}/v1/traces", traces.url()),
        ),
        (
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
            &format!("{}/v1/metrics", metrics.url()),
        ),
    ]);
    let paths = |collector: &Collector| {
        let mut paths: Vec<String> = collector
            .requests()
            .into_iter()
            .map(|request| request.path)
            .collect();
        paths.dedup();
        paths
    };
    assert_eq!(paths(&traces), ["/v1/traces"]);
    assert_eq!(paths(&metrics), ["/v1/metrics"]);
    let both = Collector::start();
    run(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &both.url()),
        ("OTEL_METRICS_EXPORTER", "none"),
        ("OTEL_SERVICE_NAME", "night-shift"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "team=builders%20of%20houses,deployment.environment.name=test",
        ),
    ]);
    assert_eq!(paths(&both), ["/v1/traces"]);
    let resource = both.span("run").resource;
    assert_eq!(resource["service.name"], "night-shift");
    assert_eq!(resource["team"], "builders of houses");
    assert_eq!(resource["deployment.environment.name"], "test");
}

#[test]
fn if_the_export_is_turned_off_nothing_is_exported_and_nothing_is_logged() {
    let collector = Collector::start();
    let url = collector.url();
    let settings_that_turn_it_off: [&[(&str, &str)]; 2] = [
        &[("OTEL_SDK_DISABLED", "true")],
        &[
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_METRICS_EXPORTER", "none"),
        ],
    ];
    for variables in settings_that_turn_it_off {
        let mut all = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str())];
        all.extend(variables);
        let ended = run(&all);
        assert!(!ended.stderr.contains("OTEL"), "{}", ended.stderr);
    }
    assert!(collector.requests().is_empty());
}

#[test]
fn a_value_that_cannot_be_used_is_one_warning_that_names_the_variable() {
    let collector = Collector::start();
    let url = collector.url();
    let with_url = |name: &'static str, value: &'static str| {
        vec![("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), (name, value)]
    };
    let cases = [
        (
            with_url("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            "\\\"grpc\\\" is not supported",
        ),
        (
            with_url("OTEL_TRACES_EXPORTER", "zipkin"),
            "\\\"zipkin\\\" is not supported",
        ),
        (
            with_url("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            "not a number of milliseconds",
        ),
        (
            with_url("OTEL_EXPORTER_OTLP_HEADERS", "secret-words"),
            "is not a header",
        ),
        (
            vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")],
            "is not an http or https URL",
        ),
    ];
    for (variables, expected) in cases {
        let ended = run(&variables);
        let name = variables.last().expect("a variable").0;
        let warnings = ended.stderr.lines().filter(|line| line.contains(name));
        let warnings: Vec<&str> = warnings.collect();
        assert_eq!(warnings.len(), 1, "{}", ended.stderr);
        assert!(
            warnings[0].contains(expected),
            "{expected}: {}",
            warnings[0]
        );
        assert!(!ended.stderr.contains("secret-words"), "{}", ended.stderr);
    }
}

#[test]
fn two_wrong_variables_of_all_signals_are_one_warning_each() {
    let collector = Collector::start();
    let ended = run(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret-words"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
    ]);
    for name in ["OTLP_HEADERS", "OTLP_TIMEOUT"] {
        let warnings = ended.stderr.lines().filter(|line| line.contains(name));
        assert_eq!(warnings.count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn check_waits_five_seconds_for_both_collectors_together_and_ends_at_a_stop_signal() {
    let (receiver, project, hold) = (Receiver::start(), Project::new(), Hold::default());
    let check = |url: &str| {
        let worker = Worker::new(&receiver, &project).agent("true").arg("check");
        worker.env("OTEL_EXPORTER_OTLP_ENDPOINT", url).start()
    };
    let (sender, connected) = channel();
    let server_hold = hold.clone();
    let collector = Server::listen("127.0.0.1:0", move |connection| {
        let _ = sender.send(());
        connection.wait_for(&server_hold);
    });
    let url = format!("http://{}", collector.address());
    let ended = check(&url).wait();
    ended.assert_code(0);
    for signal in ["traces", "metrics"] {
        let line = format!(
            "ok      {signal}: not exported, because of {url}/v1/{signal}: no answer within 5.0 s;"
        );
        assert!(ended.stdout.contains(&line), "{}", ended.stdout);
    }
    // If `check` sent the requests one after the other, they would need at least ten seconds.
    assert_within(Duration::from_secs(10), ended.duration);
    // Both requests of the first check are over.
    assert_eq!(connected.try_iter().count(), 2);
    let running = check(&url);
    connected.recv().expect("a connection");
    running.signal(Signal::TERM);
    let ended = running.wait();
    ended.assert_code(0);
    let stopped = ended.stdout.matches("stopped before there was an answer");
    assert_eq!(stopped.count(), 2, "{}", ended.stdout);
    hold.release();
}

#[test]
fn check_reports_whether_the_collectors_answer_and_is_ready_if_they_do_not() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let collector = Collector::start();
    let check = |url: &str| {
        let worker = Worker::new(&receiver, &project).agent("true");
        let ended = worker
            .arg("check")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", url)
            .run();
        ended.assert_code(0);
        ended.stdout
    };
    let text = check(&collector.url());
    for (subject, path) in [("traces", "/v1/traces"), ("metrics", "/v1/metrics")] {
        let line = format!(
            "ok      {subject}: exported to {}{path}, which answers\n",
            collector.url()
        );
        assert!(text.contains(&line), "{text}");
    }
    // `check` has sent one request for traces and one for metrics.
    assert_eq!(collector.requests().len(), 2);
    let text = check("http://collector.invalid:4318");
    assert!(
        text.contains("ok      traces: not exported, because of http://collector.invalid"),
        "{text}"
    );
    assert!(receiver.requests().is_empty());
}
