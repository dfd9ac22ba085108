//! For people who count runs: the names and the values of the metrics of a run.

use crate::collector::Collector;
use crate::support::{Project, Receiver, Worker};
use crate::traces::worker_with_tools;

/// Asserts that two numbers are equal, except for rounding.
#[track_caller]
fn assert_equal(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found} {expected}");
}

#[test]
fn a_completed_run_is_counted_with_its_duration_its_tokens_and_its_cost() {
    let (receiver, project, collector) = (Receiver::start(), Project::new(), Collector::start());
    let event = worker_with_tools(&receiver, &project)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .run()
        .assert_completed(&receiver);
    let success = ("cicd.pipeline.result", "success");
    assert_equal(collector.point("descartes.runs", success), 1.0);
    let seconds = collector.point("cicd.pipeline.run.duration", success);
    let milliseconds = event["result"]["duration_ms"].as_f64().expect("a number");
    assert!(
        (seconds * 1000.0 - milliseconds).abs() < 1.0,
        "{seconds} {milliseconds}"
    );
    let kind = |word| ("gen_ai.token.type", word);
    assert_equal(
        collector.point("gen_ai.client.token.usage", kind("input")),
        2300.0,
    );
    assert_equal(
        collector.point("gen_ai.client.token.usage", kind("output")),
        20.0,
    );
    let operation = |word| ("descartes.cache.operation", word);
    assert_equal(
        collector.point("descartes.cached_tokens", operation("read")),
        2000.0,
    );
    assert_equal(
        collector.point("descartes.cached_tokens", operation("creation")),
        100.0,
    );
    let model = ("gen_ai.request.model", "claude-x");
    assert_equal(collector.point("descartes.cost", model), 0.5);
}

#[test]
fn a_failed_run_is_counted_with_its_reason() {
    let (receiver, project, collector) = (Receiver::start(), Project::new(), Collector::start());
    Worker::new(&receiver, &project)
        .agent("exit 7")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .run()
        .assert_failed(&receiver, "agent_failed");
    let reason = ("error.type", "agent_failed");
    assert_equal(collector.point("descartes.runs", reason), 1.0);
    let points = collector.points();
    let run = points.iter().find(|point| point.metric == "descartes.runs");
    let run = run.expect("the run");
    assert_eq!(run.unit, "{run}");
    assert_eq!(run.attributes["cicd.pipeline.result"], "failure");
    assert_eq!(run.attributes["cicd.pipeline.name"], "proj-456");
}
