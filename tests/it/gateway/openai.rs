//! The model gateway with services that have an OpenAI-style API.

use std::fs;
use std::io::Write;
use std::net::TcpStream;

use serde_json::json;

use super::service::{Service, complete_answer, stream_end, stream_event, stream_head};
use super::session::{Answer, Session, post, read_answer};
use crate::support::wait_until;

/// The key of the OpenAI-style service.
const OPENAI_KEY: &str = "sk-proj-test-0123456789";

/// Starts a worker with a key for an OpenAI-style service, and with a limit of tokens that no test reaches.
fn start(service: &Service) -> Session {
    Session::start(service, |worker| {
        worker
            .env("OPENAI_API_KEY", OPENAI_KEY)
            .env("OPENAI_BASE_URL", format!("{}/v1", service.url()))
            .env("DESCARTES_MAX_TOKENS", "1000000")
    })
}

/// Sends a request to the gateway, as an agent does; `target` is the part of the URL after `OPENAI_BASE_URL`.
fn send(session: &Session, target: &str, body: &str) -> Answer {
    let (address, path) = session.address_and_path("OPENAI_BASE_URL");
    let stream = TcpStream::connect(address).expect("the gateway listens");
    let request = post(
        &format!("{path}{target}"),
        "authorization: Bearer x\r\n",
        body,
    );
    { &stream }
        .write_all(request.as_bytes())
        .expect("the gateway reads");
    read_answer(&stream).expect("an answer")
}

#[test]
fn requests_of_both_apis_are_forwarded_with_the_real_key_and_counted() {
    let completed = json!({ "type": "response.completed", "response": {
        "model": "gpt-x", "usage": { "input_tokens": 100, "input_tokens_details": { "cached_tokens": 60 }, "output_tokens": 7 },
    } });
    let chat = json!({ "model": "gpt-x", "choices": [], "usage": { "prompt_tokens": 10, "completion_tokens": 3 } });
    let service = Service::start([
        vec![stream_head(), stream_event(&completed), stream_end()],
        vec![complete_answer(
            200,
            "content-type: application/json\r\n",
            &chat.to_string(),
        )],
    ]);
    let session = start(&service);
    assert!(!session.environment.contains(OPENAI_KEY));
    assert!(session.variable("OPENAI_API_KEY").starts_with("sk-proj-"));
    assert_ne!(
        session.address_and_path("OPENAI_BASE_URL").1,
        session.path()
    );
    let body = json!({ "model": "gpt-x", "stream": true }).to_string();
    let answer = send(&session, "/responses", &body);
    assert!(answer.body.contains("response.completed"), "{answer:?}");
    assert_eq!(send(&session, "/v1/chat/completions", &body).status, 200);
    let arrived = service.requests();
    assert_eq!(arrived[0].request_line(), "POST /v1/responses HTTP/1.1");
    assert_eq!(
        arrived[1].request_line(),
        "POST /v1/chat/completions HTTP/1.1"
    );
    for arrived in arrived {
        let bearer = format!("Bearer {OPENAI_KEY}");
        assert_eq!(arrived.header("authorization"), Some(bearer.as_str()));
        assert_eq!(arrived.header("x-api-key"), None);
    }
    let (receiver, ended) = session.end(0);
    let agent = &ended.assert_completed(&receiver)["result"]["agent"];
    assert_eq!(
        agent["usage"],
        json!({ "input_tokens": 50, "output_tokens": 10, "cache_read_input_tokens": 60, "cache_creation_input_tokens": null })
    );
    // The table of prices does not list this model.
    assert_eq!(agent["cost_usd"], json!(null));
}

#[test]
fn codex_gets_a_configuration_that_names_the_gateway() {
    let service = Service::start([]);
    let session = start(&service);
    let file = format!("{}/config.toml", session.variable("CODEX_HOME"));
    let text = fs::read_to_string(&file).expect("a configuration");
    assert!(text.contains("supports_websockets = false"), "{text}");
    assert!(text.contains(session.variable("OPENAI_BASE_URL")), "{text}");
    assert!(!text.contains(OPENAI_KEY), "{text}");
    assert_eq!(
        session.variable("CODEX_API_KEY"),
        session.variable("OPENAI_API_KEY")
    );
    let (_receiver, ended) = session.end(0);
    ended.assert_code(0);
    wait_until("the end of the run's directory", || {
        !fs::exists(&file).unwrap_or(true)
    });
}

#[test]
fn errors_have_the_format_of_openais_api() {
    let service = Service::start([]);
    let session = start(&service);
    let answer = send(&session, "/files", "{}");
    assert_eq!(answer.status, 404);
    let body: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(body["error"]["type"], "invalid_request_error");
    session.end_and_assert_success();
}
