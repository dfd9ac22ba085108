//! The limits of turns and costs.

use serde_json::json;

use super::{run, run_with};
use crate::support::model::{Turn, bash_call, text_answer};
use crate::support::{Project, Worker, each};

#[test]
fn max_turns_limits_all_rounds_together() {
    let with_two_turns = |worker: Worker| worker.env("DESCARTES_MAX_TURNS", "2");
    let run = run_with(
        Project::new(),
        [bash_call("true"), bash_call("touch second")],
        with_two_turns,
    );
    let event = run.assert_failed("limit_reached");
    assert_eq!(
        event["failure"]["message"],
        "the agent's turns are used up, and it was not done"
    );
    assert_eq!(event["failure"]["retryable"], false);
    assert_eq!(event["result"]["agent"]["turns"], 2);
    assert!(
        run.project.path("second").exists(),
        "the last answer's calls are run"
    );

    let project = Project::new();
    project.set_checks(&["false"]);
    let run = run_with(
        project,
        [bash_call("true"), text_answer("Done.")],
        with_two_turns,
    );
    let event = run.assert_failed("limit_reached");
    assert_eq!(event["result"]["agent"]["turns"], 2);
    let detail = event["failure"]["detail"].as_str().expect("a detail");
    assert!(
        detail.starts_with("the check `false` failed with exit code 1"),
        "{detail}"
    );
}

#[test]
fn max_budget_ends_the_run_by_list_prices() {
    // An answer of the fake API costs 0.00085 dollars.
    let run = run_with(
        Project::new(),
        [bash_call("true"), bash_call("true")],
        |worker| worker.env("DESCARTES_MAX_BUDGET_USD", "0.001"),
    );
    let event = run.assert_failed("limit_reached");
    assert_eq!(
        event["failure"]["message"],
        "the agent's budget is used up, and it was not done"
    );
    let cost = event["result"]["agent"]["cost_usd"]
        .as_f64()
        .expect("a cost");
    assert!((cost - 0.0017).abs() < 1e-9, "{cost}");
}

#[test]
fn costs_of_earlier_rounds_count_even_if_the_conversation_file_is_deleted() {
    let project = Project::new();
    // An answer costs 0.00085 dollars, so the budget is enough for one and a half.
    project.set_checks(&["rm -f \"${TMPDIR:-/tmp}\"/descartes-*/conversation.json; false"]);
    let temporary = tempfile::tempdir().expect("a directory");
    let run = run_with(project, vec![text_answer("Done."); 2], |worker| {
        let worker = worker
            .env("TMPDIR", temporary.path())
            .env("DESCARTES_REPAIRS", "5");
        worker.env("DESCARTES_MAX_BUDGET_USD", "0.0012")
    });
    let event = run.assert_failed("limit_reached");
    assert_eq!(run.model.request_bodies().len(), 2);
    let agent = &event["result"]["agent"];
    assert_eq!(agent["usage"]["output_tokens"], 100);
    assert!(
        (agent["cost_usd"].as_f64().expect("a cost") - 0.0017).abs() < 1e-9,
        "{agent}"
    );
    assert!(
        run.worker
            .stderr
            .contains("conversation is missing; it starts a new conversation")
    );
}

#[test]
fn a_budget_for_a_model_without_a_known_price_is_rejected_before_the_first_request() {
    let run = run_with(Project::new(), Vec::<Turn>::new(), |worker| {
        worker
            .env("DESCARTES_MAX_BUDGET_USD", "1")
            .env("DESCARTES_MODEL", "gpt-9")
    });
    let message = run.assert_failed("agent_not_found")["failure"]["message"].clone();
    let message = message.as_str().expect("a message");
    assert!(
        message.contains("the price of gpt-9 is not known (list prices of 20"),
        "{message}"
    );
    assert!(run.model.request_bodies().is_empty());
}

#[test]
fn a_model_without_a_known_price_works_and_has_no_cost() {
    let run = run_with(Project::new(), [text_answer("Done.")], |worker| {
        worker.env("DESCARTES_MODEL", "gpt-9")
    });
    let agent = run.assert_completed()["result"]["agent"].clone();
    assert_eq!(agent["cost_usd"], json!(null));
    assert_eq!(agent["usage"]["output_tokens"], 50);
}

#[test]
fn answers_without_usable_usage_use_up_a_budget() {
    let cases = [
        ("absent", json!(null), json!(null)),
        (
            "negative",
            json!({ "input_tokens": -5, "output_tokens": -5 }),
            json!({ "output_tokens": -5 }),
        ),
        (
            "not numbers",
            json!({ "input_tokens": "many", "output_tokens": [] }),
            json!({ "output_tokens": {} }),
        ),
        (
            "zero",
            json!({ "input_tokens": 0, "output_tokens": 0 }),
            json!({ "output_tokens": 0 }),
        ),
        (
            "fractions",
            json!({ "input_tokens": 100.5, "output_tokens": 1.0 }),
            json!({ "output_tokens": 50_000.0 }),
        ),
        (
            "only at the start",
            json!({ "input_tokens": 100, "output_tokens": 1 }),
            json!({}),
        ),
    ];
    each(&cases, |(name, at_start, at_end)| {
        let reply = bash_call("true").with_usage(&at_start, &at_end);
        let run = run_with(Project::new(), vec![reply; 3], |worker| {
            worker.env("DESCARTES_MAX_BUDGET_USD", "0.05")
        });
        let event = run.assert_failed("limit_reached");
        assert_eq!(run.model.request_bodies().len(), 1, "{name}");
        let agent = &event["result"]["agent"];
        let cost = agent["cost_usd"].as_f64().expect("a cost");
        assert!(cost >= 0.05, "{name}: {cost}");
        let is_estimated = run.worker.stderr.contains("no usable numbers of tokens");
        assert_eq!(is_estimated, name != "fractions", "{name}");
    });
}

#[test]
fn without_a_budget_answers_without_usage_cost_nothing() {
    let reply = text_answer("Done.").with_usage(&json!(null), &json!(null));
    let agent = run([reply]).assert_completed()["result"]["agent"].clone();
    assert_eq!(agent["cost_usd"], 0.0);
    assert_eq!(agent["usage"]["output_tokens"], json!(null));
}

#[test]
fn tokens_that_are_cached_for_an_hour_cost_twice_the_price_of_input() {
    let at_start = json!({
        "input_tokens": 10, "cache_creation_input_tokens": 1000,
        "cache_creation": { "ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 600 },
    });
    let reply = text_answer("Done.").with_usage(&at_start, &json!({ "output_tokens": 5 }));
    let run = run_with(Project::new(), [reply], |worker| {
        worker.env("DESCARTES_MODEL_GATEWAY", "off")
    });
    let agent = run.assert_completed()["result"]["agent"].clone();
    // 10 x 2, 5 x 10, 400 x 2.5 and 600 x 4 dollars for a million.
    let cost = agent["cost_usd"].as_f64().expect("a cost");
    assert!((cost - 0.00347).abs() < 1e-9, "{agent}");
}
