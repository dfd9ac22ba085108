//! Budgets and token limits apply to every agent.

use serde_json::{Value, json};

use super::service::{
    Part, Service, complete_answer, message_document, message_start, stream_head,
};
use super::session::{Session, post, read_answer};
use super::{KEY, question};
use crate::support::origin::write_program;
use crate::support::{Hold, Project, Receiver, Worker, path, wait_until};

/// The field `error` of a body.
fn error_of(body: &str) -> Value {
    serde_json::from_str::<Value>(body).expect("JSON")["error"].clone()
}

#[test]
fn when_the_budget_is_used_up_requests_are_refused_and_the_run_fails_with_the_cost() {
    let service = Service::start([]);
    let session = Session::start(&service, |worker| {
        worker.env("DESCARTES_MAX_BUDGET_USD", "0.0001")
    });
    // Each request costs 0.00007 dollars.
    assert_eq!(session.ask(&question()).status, 200);
    assert_eq!(session.ask(&question()).status, 200);
    let refused = session.ask(&question());
    assert_eq!(refused.status, 402);
    let error = error_of(&refused.body);
    assert_eq!(error["type"], "billing_error");
    let words = "the agent's budget is used up: 0.0001 of 0.0001 US dollars are spent";
    assert!(
        error["message"]
            .as_str()
            .expect("a message")
            .ends_with(words),
        "{error}"
    );
    assert_eq!(service.requests().len(), 2);
    // The run fails although the agent succeeded.
    let (receiver, ended) = session.end(0);
    let event = ended.assert_failed(&receiver, "limit_reached");
    assert_eq!(event["failure"]["message"], words);
    assert_eq!(event["result"]["agent"]["usage"]["output_tokens"], 10);
}

#[test]
fn an_agent_that_continues_after_its_limit_is_ended() {
    let service = Service::start([]);
    let session = Session::start(&service, |worker| worker.env("DESCARTES_MAX_TOKENS", "15"));
    assert_eq!(session.ask(&question()).status, 200);
    assert_eq!(session.ask(&question()).status, 402);
    let (receiver, ended) = session.wait();
    let event = ended.assert_failed(&receiver, "limit_reached");
    assert_eq!(
        event["failure"]["message"],
        "the agent's tokens are used up: 15 of 15 tokens are spent"
    );
}

#[test]
fn a_request_waits_while_the_rest_of_the_limit_is_reserved_for_others() {
    let hold = Hold::default();
    let late_answer = || vec![Part::Wait(hold.clone()), message_document()];
    let service = Service::start([late_answer(), late_answer()]);
    // Each request reserves up to 6,100 tokens.
    let session = Session::start(&service, |worker| {
        worker.env("DESCARTES_MAX_TOKENS", "10000")
    });
    let request = post("{path}/v1/messages", "", &question().to_string());
    let streams: Vec<_> = (0..3).map(|_| session.connect(&request)).collect();
    wait_until("two requests", || service.requests().len() == 2);
    // A request that costs nothing does not wait. When it is answered, the gateway has also read the third one.
    let free =
        session.send("GET {path}/v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert_eq!(free.status, 200);
    assert_eq!(
        service.requests().len(),
        3,
        "two questions and the list of models"
    );
    hold.release();
    for stream in &streams {
        assert_eq!(read_answer(stream).expect("an answer").status, 200);
    }
    assert_eq!(service.requests().len(), 4);
    session.end_and_assert_success();
}

#[test]
fn the_usage_of_a_stream_that_ends_early_is_counted() {
    let service = Service::start([vec![stream_head(), message_start(), Part::Close]]);
    let session = Session::start(&service, |worker| worker);
    let broken = session.ask(&question());
    assert!(broken.body.contains("message_start"), "{broken:?}");
    let (receiver, ended) = session.end(0);
    let agent = &ended.assert_completed(&receiver)["result"]["agent"];
    assert_eq!(
        agent["usage"],
        json!({ "input_tokens": 100, "output_tokens": 1, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 20 })
    );
    assert!(agent["cost_usd"].as_f64().is_some_and(|cost| cost > 0.0));
}

#[test]
fn the_usage_of_an_answer_of_many_megabytes_is_counted() {
    let text = "a \"quoted\" word and {\"usage\": 1}, ".repeat(200_000);
    let body = json!({
        "type": "message", "model": "claude-sonnet-5-5", "content": [{ "type": "text", "text": text }],
        "usage": { "input_tokens": 10, "output_tokens": 5 },
    });
    let answer = complete_answer(200, "content-type: application/json\r\n", &body.to_string());
    let service = Service::start([vec![answer]]);
    let session = Session::start(&service, |worker| worker);
    let answer = session.ask(&question());
    assert_eq!(answer.body.len(), body.to_string().len());
    let (receiver, ended) = session.end(0);
    let usage = &ended.assert_completed(&receiver)["result"]["agent"]["usage"];
    assert_eq!(
        (&usage["input_tokens"], &usage["output_tokens"]),
        (&json!(10), &json!(5))
    );
}

#[test]
fn a_client_that_does_not_wait_for_its_answer_is_charged_the_upper_bound() {
    let hold = Hold::default();
    let service = Service::start([vec![Part::Wait(hold.clone()), message_document()]]);
    let session = Session::start(&service, |worker| {
        worker.env("DESCARTES_MAX_TOKENS", "5000")
    });
    let stream = session.connect(&post("{path}/v1/messages", "", &question().to_string()));
    wait_until("the request", || service.requests().len() == 1);
    drop(stream);
    // This request waits until the gateway notices that the first client is gone, and is then refused.
    assert_eq!(session.ask(&question()).status, 402);
    hold.release();
    let (receiver, ended) = session.wait();
    ended.assert_failed(&receiver, "limit_reached");
}

#[test]
fn with_a_budget_only_requests_whose_cost_can_be_limited_are_forwarded() {
    let service = Service::start([]);
    let session = Session::start(&service, |worker| {
        worker.env("DESCARTES_MAX_BUDGET_USD", "1")
    });
    let twice = r#"{"model":"claude-haiku-5-5","model":"claude-opus-5-5","max_tokens":1}"#;
    for (headers, body) in [
        ("", twice),
        ("", "{}"),
        ("content-encoding: gzip\r\n", "\u{1f}"),
    ] {
        let answer = session.send(&post("{path}/v1/messages", headers, body));
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(error_of(&answer.body)["type"], "invalid_request_error");
    }
    let unknown = session.ask(&json!({ "model": "my-model", "max_tokens": 1 }));
    assert_eq!(unknown.status, 402);
    assert_eq!(service.requests().len(), 0);
    let (receiver, ended) = session.end(1);
    let event = ended.assert_failed(&receiver, "limit_reached");
    let message = event["failure"]["message"].as_str().expect("a message");
    assert!(
        message.contains("the price of \"my-model\" is not known"),
        "{message}"
    );
}

#[test]
fn a_token_limit_without_a_gateway_fails_the_run_before_the_agent_starts() {
    for (name, value, why) in [
        (
            "DESCARTES_MODEL_GATEWAY",
            "off",
            "DESCARTES_MODEL_GATEWAY is off",
        ),
        ("ANTHROPIC_API_KEY", "", "there is no key or token"),
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let event = Worker::new(&receiver, &project)
            .env("ANTHROPIC_API_KEY", KEY)
            .env("DESCARTES_MAX_TOKENS", "5")
            .env(name, value)
            .agent("touch ran")
            .run()
            .assert_failed(&receiver, "agent_not_found");
        let message = event["failure"]["message"].as_str().expect("a message");
        assert!(message.contains(why), "{message}");
        assert!(!project.path("ran").exists());
    }
}

#[test]
fn a_token_limit_fails_the_run_if_the_gateway_serves_only_another_provider() {
    let bin = Project::empty();
    write_program(&bin.path("claude"), "touch ran");
    let path = format!(
        "{}:{}",
        bin.dir().display(),
        path().into_string().expect("UTF-8")
    );
    for (agent, variable) in [
        ("claude-code", "CLAUDE_CODE_OAUTH_TOKEN"),
        ("builtin", "ANTHROPIC_AUTH_TOKEN"),
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let event = Worker::new(&receiver, &project)
            .env("DESCARTES_AGENT", agent)
            .env("PATH", &path)
            .env("IS_SANDBOX", "1")
            .env("OPENAI_API_KEY", "sk-test-0123456789")
            .env(variable, "sk-ant-oat01-0123456789")
            .env("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
            .env("DESCARTES_MAX_TOKENS", "5")
            .env("DESCARTES_IDLE_TIMEOUT", "3s")
            .run()
            .assert_failed(&receiver, "agent_not_found");
        let message = event["failure"]["message"].as_str().expect("a message");
        let words = format!(
            "there is no key or token of anthropic that the model gateway can keep, and the agent {agent} uses no other service"
        );
        assert!(message.ends_with(&words), "{message}");
        assert!(!project.path("ran").exists(), "{agent}");
    }
}

#[test]
fn tokens_that_are_cached_for_an_hour_cost_twice_the_price_of_input() {
    let body = json!({
        "type": "message", "model": "claude-sonnet-5-5", "content": [],
        "usage": {
            "input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 1000,
            "cache_creation": { "ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 600 },
        },
    });
    let answer = complete_answer(200, "content-type: application/json\r\n", &body.to_string());
    let service = Service::start([vec![answer]]);
    let session = Session::start(&service, |worker| worker);
    assert_eq!(session.ask(&question()).status, 200);
    let (receiver, ended) = session.end(0);
    let agent = &ended.assert_completed(&receiver)["result"]["agent"];
    assert_eq!(agent["usage"]["cache_creation_input_tokens"], 1000);
    // 10 x 2, 5 x 10, 400 x 2.5 and 600 x 4 dollars for a million.
    let cost = agent["cost_usd"].as_f64().expect("a cost");
    assert!((cost - 0.00347).abs() < 1e-9, "{cost}");
}
