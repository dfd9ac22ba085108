//! When a run uses the built-in agent, and which key, service and model the agent uses.

use super::{run_with, worker};
use crate::support::model::text_answer;
use crate::support::{Model, Project, Receiver, Worker, path_without};

#[test]
fn auto_selects_the_built_in_agent_if_there_is_a_key_but_no_command_and_no_claude_code() {
    let bin = tempfile::tempdir().expect("a directory");
    let path = path_without("claude", bin.path());
    let auto = |worker: Worker| worker.env("DESCARTES_AGENT", "auto").env("PATH", &path);
    let (receiver, project, model) = (
        Receiver::start(),
        Project::new(),
        Model::start([text_answer("Done.")]),
    );
    let event = auto(worker(&receiver, &project, &model))
        .agent("true")
        .run()
        .assert_completed(&receiver);
    assert!(model.request_bodies().is_empty());
    assert_eq!(event["result"]["agent"]["kind"], "command");

    let run = run_with(Project::new(), [text_answer("Done.")], auto);
    let event = run.assert_completed();
    assert_eq!(event["result"]["agent"]["kind"], "builtin");
    let check = auto(worker(&run.receiver, &run.project, &run.model))
        .arg("check")
        .env("DESCARTES_FORCE", "1")
        .run();
    assert!(
        check.stdout.ends_with("ok      agent: builtin\n"),
        "{}",
        check.stdout
    );
}

#[test]
fn without_a_key_the_failure_names_the_variables() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let event = Worker::new(&receiver, &project)
        .env("DESCARTES_AGENT", "builtin")
        .run()
        .assert_failed(&receiver, "agent_not_found");
    assert_eq!(
        event["failure"]["message"],
        "the built-in agent has no key: set ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN"
    );
}

#[test]
fn bearer_token_base_url_and_model_can_be_set() {
    let (receiver, project, model) = (
        Receiver::start(),
        Project::new(),
        Model::start([text_answer("Done.")]),
    );
    Worker::new(&receiver, &project)
        .env("DESCARTES_AGENT", "builtin")
        .env("ANTHROPIC_AUTH_TOKEN", "token-of-a-gateway")
        .env(
            "ANTHROPIC_BASE_URL",
            format!("{}/v1/messages/../../", model.url()),
        )
        .env("DESCARTES_MODEL", "claude-opus-5-5")
        .run()
        .assert_completed(&receiver);
    let request = &model.requests()[0];
    assert_eq!(
        request.headers["authorization"],
        "Bearer token-of-a-gateway"
    );
    assert!(!request.headers.contains_key("x-api-key"));
    assert_eq!(request.event["model"], "claude-opus-5-5");
    model.request_bodies();
}

#[test]
fn requests_go_through_the_proxy_that_the_environment_names() {
    let (receiver, project, model) = (
        Receiver::start(),
        Project::new(),
        Model::start([text_answer("Done.")]),
    );
    worker(&receiver, &project, &model)
        .env("ANTHROPIC_BASE_URL", "http://model.invalid")
        .env("HTTP_PROXY", model.url())
        .env("DESCARTES_AGENT_ENV", "HTTP_PROXY")
        .run()
        .assert_completed(&receiver);
    let target = &model.requests()[0].target;
    assert_eq!(target, "http://model.invalid/v1/messages");
}

#[test]
fn the_model_of_an_agent_definition_counts_only_for_a_claude_harness() {
    for (harness, model) in [
        ("claude", "claude-opus-5"),
        ("opencode", "claude-sonnet-5-5"),
    ] {
        let graph = format!("{}\n@agents\n8 | builder\n", crate::support::project::GRAPH);
        let project = Project::with_graph(&graph);
        let definition = format!(
            "[agent]\nname = \"builder\"\n[model]\nharness = \"{harness}\"\nmodel = \"claude-opus-5\"\n"
        );
        project.write(".scud/agents/builder.toml", definition);
        let run = run_with(project, [text_answer("Done.")], |worker| worker);
        run.assert_completed();
        assert_eq!(run.model.request_bodies()[0]["model"], model);
        let has_warning = run
            .worker
            .stderr
            .contains("the agent definition's model is for another harness");
        assert_eq!(has_warning, harness == "opencode");
    }
}

#[test]
fn a_model_can_be_named_by_its_family() {
    let run = run_with(Project::new(), [text_answer("Done.")], |worker| {
        worker
            .env("DESCARTES_MODEL", "opus")
            .env("DESCARTES_MAX_BUDGET_USD", "1")
    });
    run.assert_completed();
    assert_eq!(run.model.request_bodies()[0]["model"], "claude-opus-5-5");
}
