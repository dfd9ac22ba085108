//! For people who look at a dispatch in their tracing backend: the spans of all its workers are in its trace.

use crate::collector::{Collector, Span};
use crate::sample::Graph;
use crate::support::wait_until;

#[test]
fn the_spans_of_all_workers_are_below_the_attempts_of_one_trace() {
    let collector = Collector::start();
    let graph = Graph::new("1 | First | P | 1 | H\n2 | Second | P | 1 | H\n");
    graph.commit_checks(&["true"]);
    graph
        .dispatch("echo done > done-${TASK_ID##*:}")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .args(["--verify", "always"])
        .run()
        .assert_code(0);
    // A worker exports after the delivery of its outcome, so the last one may export after the end of the dispatcher.
    wait_until("the spans of all workers", || {
        let spans = collector.spans();
        let has_run = |parent: &Span| {
            spans
                .iter()
                .any(|span| span.name == "run" && span.parent == parent.id)
        };
        let mut parents = spans
            .iter()
            .filter(|span| matches!(span.name.as_str(), "attempt" | "verify"));
        parents.all(has_run)
    });
    let root = collector.span("dispatch");
    assert_eq!(root.parent, "");
    assert_eq!(root.attributes["cicd.pipeline.result"], "success");
    assert_eq!(root.attributes["vcs.ref.head.name"], "descartes/house");
    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.trace == root.trace));
    let spans_named = |name: &'static str| spans.iter().filter(move |span| span.name == name);
    let attempts: Vec<&Span> = spans_named("attempt").collect();
    assert_eq!(attempts.len(), 2);
    for attempt in &attempts {
        assert_eq!(attempt.parent, root.id);
        assert_eq!(attempt.error, None);
        assert_eq!(attempt.attributes["descartes.attempt"], "1");
        let run: Vec<&Span> = spans_named("run")
            .filter(|run| run.parent == attempt.id)
            .collect();
        assert_eq!(run.len(), 1, "{attempt:#?}");
        assert_eq!(
            run[0].attributes["cicd.pipeline.run.id"],
            attempt.attributes["descartes.run.id"]
        );
    }
    let merges: Vec<&Span> = spans_named("merge").collect();
    assert!(!merges.is_empty());
    assert!(merges.iter().all(|merge| merge.parent == root.id));
    let checks: Vec<&Span> = spans_named("verify").collect();
    assert!(!checks.is_empty());
    for check in checks {
        assert!(merges.iter().any(|merge| merge.id == check.parent));
        assert_eq!(
            spans_named("run")
                .filter(|run| run.parent == check.id)
                .count(),
            1
        );
    }
}

#[test]
fn each_failed_attempt_has_a_separate_span_with_an_error() {
    let collector = Collector::start();
    let graph = Graph::new("1 | First | P | 1 | H\n");
    graph
        .dispatch("kill -9 $$")
        .args(["--attempts", "2"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .run()
        .assert_code(1);
    let root = collector.span("dispatch");
    assert_eq!(root.error.as_deref(), Some("blocked"));
    let spans = collector.spans();
    let attempts = spans.iter().filter(|span| span.name == "attempt");
    let attempts: Vec<(&str, Option<&str>)> = attempts
        .map(|span| {
            (
                span.attributes["descartes.attempt"].as_str(),
                span.error.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        attempts,
        [("1", Some("agent_killed")), ("2", Some("agent_killed"))]
    );
}
