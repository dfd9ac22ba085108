//! For people who look at a run in their tracing backend: the spans, their parents, and texts that must not be in them.

use rustix::process::Signal;
use serde_json::json;

use crate::collector::{Collector, Span};
use crate::support::origin::write_program;
use crate::support::{Origin, Project, Receiver, Reply, Worker, path, quoted};

/// The trace id in the `TRACEPARENT` that the tests set.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// The span id in it.
const PARENT: &str = "b7ad6b7169203331";

/// The spans of a run with a clone, an agent, two checks and a push.
const STEPS: [&str; 7] = [
    "claim",
    "clone",
    "invoke_agent command",
    "check",
    "check",
    "push",
    "deliver",
];

/// Asserts that a span is a child of another one, in its ids and in its times.
#[track_caller]
fn assert_child(child: &Span, parent: &Span) {
    assert_eq!(
        (&child.trace, &child.parent),
        (&parent.trace, &parent.id),
        "{child:#?}"
    );
    assert!(
        parent.start <= child.start && child.end <= parent.end,
        "{child:#?} {parent:#?}"
    );
}

/// The `TRACEPARENT` that names this span.
fn traceparent_of(span: &Span) -> String {
    format!("00-{}-{}-01", span.trace, span.id)
}

#[test]
fn a_run_is_one_trace_whose_children_have_their_own_spans_as_parents() {
    let (receiver, origin, collector) = (Receiver::start(), Origin::new(), Collector::start());
    let files = tempfile::tempdir().expect("a directory");
    let write_traceparent = |name: &str| {
        let file = quoted(files.path().join(name));
        format!("printf %s \"$TRACEPARENT\" > {file}")
    };
    let read = |name: &str| std::fs::read_to_string(files.path().join(name)).expect(name);
    origin
        .worker(&receiver)
        .agent(format!("echo new > new; {}", write_traceparent("agent")))
        .env(
            "DESCARTES_CHECKS",
            format!(
                "{}\n{}",
                write_traceparent("first"),
                write_traceparent("second")
            ),
        )
        .env("TRACEPARENT", format!("00-{TRACE}-{PARENT}-01"))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .run()
        .assert_completed(&receiver);
    let run = collector.span("run");
    assert_eq!((run.trace.as_str(), run.parent.as_str()), (TRACE, PARENT));
    let spans = collector.spans();
    let steps: Vec<&Span> = spans.iter().filter(|span| span.name != "run").collect();
    let names: Vec<&str> = steps.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, STEPS);
    for step in &steps {
        assert_child(step, &run);
        assert_eq!(step.error, None, "{step:#?}");
    }
    assert_eq!(read("agent"), traceparent_of(steps[2]));
    assert_eq!(read("first"), traceparent_of(steps[3]));
    assert_eq!(read("second"), traceparent_of(steps[4]));
    for request in receiver.requests() {
        assert_eq!(request.headers["traceparent"], traceparent_of(&run));
    }
    let expected = [
        ("cicd.pipeline.name", "proj-456"),
        ("cicd.pipeline.run.id", "run-1"),
        ("cicd.pipeline.result", "success"),
        ("descartes.task.id", "8"),
        ("vcs.ref.head.name", "descartes/proj-456/8"),
    ];
    for (key, value) in expected {
        assert_eq!(run.attributes[key], value, "{key}");
    }
    assert_eq!(steps[1].attributes["vcs.repository.url.full"], origin.url());
    assert_eq!(run.resource["service.name"], "descartes-worker");
    assert_eq!(run.resource["service.instance.id"], "run-1");
}

#[test]
fn without_a_traceparent_the_run_begins_a_trace_that_callbacks_and_agent_get() {
    let (receiver, project, collector) = (Receiver::start(), Project::new(), Collector::start());
    Worker::new(&receiver, &project)
        .agent("printf %s \"$TRACEPARENT\" > traceparent")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .run()
        .assert_completed(&receiver);
    let run = collector.span("run");
    assert_eq!(run.parent, "");
    let agent = collector.span("invoke_agent command");
    assert_child(&agent, &run);
    assert_eq!(project.read("traceparent"), traceparent_of(&agent));
    for request in receiver.requests() {
        assert_eq!(request.headers["traceparent"], traceparent_of(&run));
    }
}

#[test]
fn a_run_whose_caller_does_not_sample_exports_no_span_and_keeps_the_trace() {
    let (receiver, project, collector) = (Receiver::start(), Project::new(), Collector::start());
    Worker::new(&receiver, &project)
        .agent("printf %s \"$TRACEPARENT\" > traceparent")
        .env("TRACEPARENT", format!("00-{TRACE}-{PARENT}-00"))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .run()
        .assert_completed(&receiver);
    assert!(collector.spans().is_empty(), "{:#?}", collector.spans());
    let traceparent = project.read("traceparent");
    assert!(
        traceparent.starts_with(&format!("00-{TRACE}-")) && traceparent.ends_with("-00"),
        "{traceparent}"
    );
    // Metrics are not sampled.
    let attribute = ("cicd.pipeline.result", "success");
    assert!((collector.point("descartes.runs", attribute) - 1.0).abs() < 1e-9);
}

#[test]
fn failures_are_errors_with_the_reason_and_without_any_output() {
    let (receiver, project, collector) = (Receiver::start(), Project::new(), Collector::start());
    Worker::new(&receiver, &project)
        .agent("echo words-of-the-agent; echo $TASK_ID")
        .env("DESCARTES_CHECKS", "echo words-of-the-check; exit 3")
        .env("DESCARTES_REPAIRS", "1")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .run()
        .assert_failed(&receiver, "checks_failed");
    let run = collector.span("run");
    assert_eq!(run.error.as_deref(), Some("checks_failed"));
    assert_eq!(run.attributes["error.type"], "checks_failed");
    assert_eq!(run.attributes["cicd.pipeline.result"], "failure");
    let spans = collector.spans();
    let spans_named = |name: &'static str| spans.iter().filter(move |span| span.name == name);
    assert_eq!(
        spans_named("invoke_agent command").count(),
        2,
        "one for each round"
    );
    for check in spans_named("check") {
        assert_eq!(check.error.as_deref(), Some("checks_failed"));
        assert_eq!(check.attributes["process.exit.code"], "3");
    }
    assert_eq!(collector.span("deliver").error, None);
    assert_not_exported(&collector, &["words-of-the-agent", "house", "Four walls"]);
    // The command of a check is exported, and its output is not.
    let bodies = bodies(&collector);
    assert!(!bodies.contains("words-of-the-check\n"), "{bodies}");
}

#[test]
fn a_failed_clone_and_a_failed_agent_are_errors_of_their_spans() {
    let (receiver, origin, collector) = (Receiver::start(), Origin::new(), Collector::start());
    origin
        .worker(&receiver)
        .agent("exit 7")
        .env("DESCARTES_REF", "missing")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .run()
        .assert_failed(&receiver, "workspace_failed");
    let clone = collector.span("clone");
    assert_eq!(clone.error.as_deref(), Some("workspace_failed"));
    let (receiver, project, collector) = (Receiver::start(), Project::new(), Collector::start());
    Worker::new(&receiver, &project)
        .agent("exit 7")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .run()
        .assert_failed(&receiver, "agent_failed");
    let agent = collector.span("invoke_agent command");
    assert_eq!(agent.error.as_deref(), Some("agent_failed"));
}

/// A worker with a `claude` that prints these lines.
fn worker_with_claude(
    receiver: &Receiver,
    project: &Project,
    lines: &[serde_json::Value],
) -> Worker {
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    project.write("stream", lines.join("\n") + "\n");
    let bin = project.path("bin");
    std::fs::create_dir_all(&bin).expect("a directory");
    let script = format!("cat > /dev/null; cat {}", quoted(project.path("stream")));
    write_program(&bin.join("claude"), &script);
    let path = format!("{}:{}", bin.display(), path().into_string().expect("UTF-8"));
    Worker::new(receiver, project)
        .env("PATH", path)
        .env("IS_SANDBOX", "1")
        .env("ANTHROPIC_API_KEY", "sk-ant-the-key")
}

/// A line with a call of a tool.
pub fn tool_call_line(id: &str, name: &str, command: &str) -> serde_json::Value {
    json!({ "type": "assistant", "session_id": "s", "message": {
        "id": format!("message of {id}"), "model": "claude-x",
        "content": [{ "type": "tool_use", "id": id, "name": name, "input": { "command": command } }],
        "usage": { "input_tokens": 100, "output_tokens": 10,
            "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 50 },
    } })
}

/// A line with the result of a call.
pub fn tool_result_line(id: &str, is_error: bool) -> serde_json::Value {
    json!({ "type": "user", "session_id": "s", "message": { "role": "user", "content": [
        { "type": "tool_result", "tool_use_id": id, "is_error": is_error, "content": "printed-by-the-tool" },
    ] } })
}

/// The line with which the agent reports its end.
pub fn result_line() -> serde_json::Value {
    json!({ "type": "result", "subtype": "success", "is_error": false, "result": "words-of-the-model",
        "session_id": "s", "total_cost_usd": 0.5, "num_turns": 2 })
}

/// A worker whose agent calls two tools, of which the second one fails.
pub fn worker_with_tools(receiver: &Receiver, project: &Project) -> Worker {
    let lines = [
        json!({ "type": "system", "subtype": "init", "model": "claude-x", "session_id": "s" }),
        tool_call_line("call-1", "Bash", "echo argument-of-the-tool"),
        tool_result_line("call-1", false),
        tool_call_line("call-2", "Edit", "second"),
        tool_result_line("call-2", true),
        result_line(),
    ];
    worker_with_claude(receiver, project, &lines)
}

#[test]
fn tool_calls_are_children_of_the_agent_without_arguments_and_results() {
    let (receiver, project, collector) = (Receiver::start(), Project::new(), Collector::start());
    worker_with_tools(&receiver, &project)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .run()
        .assert_completed(&receiver);
    let agent = collector.span("invoke_agent claude-code");
    assert_eq!(agent.attributes["gen_ai.operation.name"], "invoke_agent");
    assert_eq!(agent.attributes["gen_ai.request.model"], "claude-x");
    let first = collector.span("execute_tool Bash");
    assert_child(&first, &agent);
    assert_eq!(first.attributes["gen_ai.tool.name"], "Bash");
    assert_eq!(first.attributes["gen_ai.tool.call.id"], "call-1");
    assert_eq!(first.error, None);
    let second = collector.span("execute_tool Edit");
    assert_child(&second, &agent);
    assert_eq!(second.error.as_deref(), Some("tool_failed"));
    let run = collector.span("run");
    let expected = [
        ("gen_ai.usage.input_tokens", "2300"),
        ("gen_ai.usage.output_tokens", "20"),
        ("gen_ai.usage.cache_read.input_tokens", "2000"),
        ("gen_ai.usage.cache_creation.input_tokens", "100"),
        ("descartes.agent.tool_calls", "2"),
        ("descartes.cost_usd", "0.5"),
    ];
    for (key, value) in expected {
        assert_eq!(run.attributes[key], value, "{key}");
    }
    assert_not_exported(
        &collector,
        &[
            "argument-of-the-tool",
            "printed-by-the-tool",
            "words-of-the-model",
            "house",
        ],
    );
}

#[test]
fn tool_calls_without_a_usable_id_have_no_span() {
    let (receiver, project, collector) = (Receiver::start(), Project::new(), Collector::start());
    let (longest, too_long) = ("i".repeat(200), "i".repeat(201));
    let lines = [
        tool_call_line("", "Read", "x"),
        tool_call_line(&too_long, "Write", "x"),
        tool_call_line(&longest, "Bash", "x"),
        tool_result_line(&longest, false),
        result_line(),
    ];
    worker_with_claude(&receiver, &project, &lines)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .run()
        .assert_completed(&receiver);
    let spans = collector.spans().into_iter();
    let tools = spans.filter(|span| span.name.starts_with("execute_tool"));
    let tools: Vec<String> = tools.map(|span| span.name).collect();
    assert_eq!(tools, ["execute_tool Bash"]);
}

#[test]
fn a_claim_that_a_stop_signal_ends_has_the_same_reason_in_the_trace_and_in_the_result_line() {
    let (receiver, project, collector) = (Receiver::start(), Project::new(), Collector::start());
    let reply = Reply::status(503).with_header("retry-after", "30");
    receiver.set_default_reply("started", reply);
    let worker = Worker::new(&receiver, &project)
        .agent("true")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .start();
    worker.wait_for_log("the claim got no usable answer");
    worker.signal(Signal::TERM);
    let ended = worker.wait();
    ended.assert_code(3);
    assert_eq!(ended.result_line()["failure"]["reason"], "interrupted");
    for name in ["claim", "run"] {
        assert_eq!(collector.span(name).error.as_deref(), Some("interrupted"));
    }
}

#[test]
fn secrets_are_masked_in_names_and_attributes() {
    const SECRET: &str = "ghp_Hk3nQ8zLw1vT6yXc";
    let (receiver, project, collector) = (Receiver::start(), Project::new(), Collector::start());
    let lines = [tool_call_line(SECRET, SECRET, "x"), result_line()];
    worker_with_claude(&receiver, &project, &lines)
        .env("DESCARTES_GIT_TOKEN", SECRET)
        .env("PROJECT_ID", format!("project-{SECRET}"))
        .env("DESCARTES_CHECKS", format!("true {SECRET}"))
        .env("OTEL_SERVICE_NAME", format!("service-{SECRET}"))
        .env("OTEL_RESOURCE_ATTRIBUTES", format!("a={SECRET}"))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .run()
        .assert_completed(&receiver);
    let check = collector.span("check");
    assert_eq!(check.attributes["descartes.check.command"], "true ***");
    assert_not_exported(&collector, &[SECRET, &SECRET.to_lowercase()]);
}

/// The bodies of all requests, as one text.
fn bodies(collector: &Collector) -> String {
    let requests = collector.requests().into_iter();
    requests
        .map(|request| String::from_utf8_lossy(&request.body).into_owned())
        .collect()
}

/// Asserts that no request contains one of these words.
#[track_caller]
fn assert_not_exported(collector: &Collector, words: &[&str]) {
    let bodies = bodies(collector);
    assert!(!bodies.is_empty());
    for word in words {
        assert!(!bodies.contains(word), "{word} was exported: {bodies}");
    }
}
