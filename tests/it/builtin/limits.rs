//! Answers that end too early or never, conversations that grow too long, and limits.

use serde_json::json;

use super::{last_results, run, run_with};
use crate::support::model::{Answer, Block, Turn, bash_call, error_reply, text_answer};
use crate::support::{Project, Worker, each};

#[test]
fn an_answer_that_is_cut_off_is_continued() {
    let half = Block::IncompleteCall {
        name: "bash".to_owned(),
        json: r#"{"command": "echo ha"#.to_owned(),
    };
    let script = [
        text_answer("I beg").with_stop_reason("max_tokens"),
        // The complete call is run.
        bash_call("echo whole")
            .with_block(half)
            .with_stop_reason("max_tokens"),
        text_answer("Done."),
    ];
    let run = run(script);
    assert_eq!(run.assert_completed()["result"]["summary"], "Done.");
    let bodies = run.model.request_bodies();
    let last_message = |at: usize| {
        bodies[at]["messages"]
            .as_array()
            .expect("messages")
            .last()
            .cloned()
            .expect("one")
    };
    let prompt = "Your answer was cut off at its maximum length";
    assert!(
        last_message(1)["content"][0]["text"]
            .as_str()
            .expect("a text")
            .starts_with(prompt)
    );
    let content = last_message(2)["content"].clone();
    assert_eq!(content[0]["content"], "whole");
    assert!(
        content[1]["text"]
            .as_str()
            .expect("a text")
            .starts_with(prompt)
    );
    // The incomplete call is not sent back.
    assert!(!bodies[2].to_string().contains("echo ha\""));
}

#[test]
fn nine_cut_off_answers_in_a_row_are_a_failure() {
    let run = run(vec![text_answer("and").with_stop_reason("max_tokens"); 9]);
    let event = run.assert_failed("agent_failed");
    assert_eq!(
        event["failure"]["message"],
        "the agent failed: 9 answers in a row were not finished"
    );
}

#[test]
fn nine_paused_turns_in_a_row_are_a_failure() {
    let run = run(vec![text_answer("wait").with_stop_reason("pause_turn"); 9]);
    run.assert_failed("agent_failed");
}

#[test]
fn an_unreadable_call_next_to_others_gets_an_error_as_its_result() {
    let half = Block::IncompleteCall {
        name: "bash".to_owned(),
        json: r#"{"command": ec"#.to_owned(),
    };
    let run = run([bash_call("echo one").with_block(half), text_answer("Done.")]);
    run.assert_completed();
    let results = last_results(&run);
    assert_eq!(results[0]["content"], "one");
    assert_eq!(results[1]["content"], "`command` must be a string");
}

#[test]
fn blocks_that_the_api_would_reject_are_not_sent_back() {
    let thinking = |text: &str| Block::Thinking(text.to_owned());
    let half = Block::IncompleteCall {
        name: "bash".to_owned(),
        json: r#"{"command": "ec"#.to_owned(),
    };
    let script = [
        text_answer("\n\n").and_tool_call("bash", json!({ "command": "echo one" })),
        text_answer(" ").with_stop_reason("max_tokens"),
        // Thinking at the end, because the call after it was incomplete.
        Answer {
            blocks: vec![thinking("hm"), half],
            stop_reason: "max_tokens",
        },
        Answer {
            blocks: vec![thinking("so"), Block::Text("Done.".to_owned())],
            stop_reason: "end_turn",
        },
    ];
    let run = run(script);
    assert_eq!(run.assert_completed()["result"]["summary"], "Done.");
    assert_eq!(run.model.request_bodies().len(), 4);
}

#[test]
fn thinking_is_removed_together_with_the_results_before_it() {
    let answer_with_thinking = |letter: &str| {
        let command = format!("yes {letter} | head -c 5000");
        let mut answer = bash_call(&command);
        answer
            .blocks
            .insert(0, Block::Thinking(format!("{letter}?")));
        Turn::from(answer)
    };
    let too_long = error_reply(
        400,
        "invalid_request_error",
        "input length and `max_tokens` exceed context limit: 180000 + 32000 > 200000",
    );
    let run = run([
        answer_with_thinking("a"),
        answer_with_thinking("b"),
        too_long.into(),
        answer_with_thinking("c"),
        text_answer("Done.").into(),
    ]);
    run.assert_completed();
    let bodies = run.model.request_bodies();
    let thinking_blocks = |at: usize| {
        bodies[at]["messages"]
            .to_string()
            .matches("\"thinking\":")
            .count()
    };
    assert_eq!(
        (thinking_blocks(2), thinking_blocks(3), thinking_blocks(4)),
        (2, 0, 1)
    );
}

#[test]
fn an_unreadable_call_alone_gets_an_error_as_its_result() {
    let half = Block::IncompleteCall {
        name: "bash".to_owned(),
        json: r#"{"command": ec"#.to_owned(),
    };
    let broken = Answer {
        blocks: vec![half],
        stop_reason: "tool_use",
    };
    let run = run([broken, text_answer("Done.")]);
    run.assert_completed();
    assert_eq!(run.model.request_bodies().len(), 2);
}

#[test]
fn a_paused_turn_is_sent_back_unchanged() {
    let run = run([
        text_answer("Searching").with_stop_reason("pause_turn"),
        text_answer("Done."),
    ]);
    run.assert_completed();
    let bodies = run.model.request_bodies();
    let messages = bodies[1]["messages"].as_array().expect("messages");
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[1]["content"][0]["text"], "Searching");
}

#[test]
fn a_refusal_of_the_model_is_a_failure_with_its_text() {
    for (answer, message) in [
        (
            text_answer("I must not.").with_stop_reason("refusal"),
            "the agent failed: the model refused to go on: I must not.",
        ),
        (
            Answer {
                blocks: vec![],
                stop_reason: "refusal",
            },
            "the agent failed: the model refused to go on",
        ),
    ] {
        let event = run([answer]).assert_failed("agent_failed");
        assert_eq!(event["failure"]["message"], message);
        assert_eq!(event["failure"]["retryable"], false);
    }
}

#[test]
fn old_results_are_removed_if_the_conversation_is_too_long() {
    let too_long = error_reply(
        400,
        "invalid_request_error",
        "prompt is too long: 1000001 tokens > 1000000 maximum",
    );
    let long_result = |letter: &str| Turn::from(bash_call(&format!("yes {letter} | head -c 5000")));
    let script = [
        long_result("a"),
        long_result("b"),
        long_result("c"),
        too_long.clone().into(),
        long_result("d"),
        text_answer("half of a wo")
            .with_stop_reason("model_context_window_exceeded")
            .into(),
        text_answer("Done.").into(),
    ];
    let run = run(script);
    run.assert_completed();
    let bodies = run.model.request_bodies();
    let results = |at: usize| -> Vec<String> {
        let messages = bodies[at]["messages"].as_array().expect("messages");
        let blocks = messages
            .iter()
            .flat_map(|message| message["content"].as_array().expect("blocks"));
        let results = blocks.filter(|block| block["type"] == "tool_result");
        results
            .map(|result| {
                result["content"]
                    .as_str()
                    .expect("a text")
                    .chars()
                    .take(5)
                    .collect()
            })
            .collect()
    };
    // The model has not read the last result yet, so this result stays.
    assert_eq!(results(3), ["a\na\na", "b\nb\nb", "c\nc\nc"]);
    assert_eq!(results(4), ["[left", "b\nb\nb", "c\nc\nc"]);
    assert_eq!(results(6), ["[left", "[left", "[left", "d\nd\nd"]);
}

#[test]
fn a_conversation_that_cannot_be_shortened_is_a_failure() {
    for turn in [
        Turn::from(error_reply(
            413,
            "request_too_large",
            "Request exceeds the maximum size",
        )),
        error_reply(
            400,
            "invalid_request_error",
            "prompt is too long: 2 tokens > 1 maximum",
        )
        .into(),
        text_answer("half")
            .with_stop_reason("model_context_window_exceeded")
            .into(),
    ] {
        let event = run([turn]).assert_failed("agent_failed");
        let message = event["failure"]["message"].as_str().expect("a message");
        assert!(
            message.contains("the conversation is longer than the model can read"),
            "{message}"
        );
    }
}

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
fn an_answer_that_is_larger_than_any_models_is_a_failure() {
    let large = text_answer(&"x".repeat(3 * 1024 * 1024)).reply_in_whole_events(1);
    let event = run([Turn::from(large), text_answer("Done.").into()]).assert_failed("api_error");
    assert_eq!(
        event["failure"]["message"],
        "the model's service gave no answer: its answer is larger than any model's answer can be"
    );
}

#[test]
fn a_service_that_accepts_endless_conversations_does_not_use_up_the_memory() {
    // A control character takes one byte in an answer's limit and six in a request.
    let answer = |number| {
        let large = text_answer(&"\u{1}".repeat(750_000));
        let answer = large.and_tool_call("bash", json!({ "command": "true" }));
        Turn::from(answer.reply_in_whole_events(number))
    };
    let run = run((0..4).map(answer));
    let event = run.assert_failed("agent_failed");
    let message = event["failure"]["message"].as_str().expect("a message");
    assert!(
        message.contains("the conversation is longer than the model can read"),
        "{message}"
    );
    assert_eq!(run.model.request_bodies().len(), 2);
}
