//! Answers that are incomplete, paused, invalid or refused, and conversations that are too long for the model.

use serde_json::json;

use super::{results_in_last_message, run};
use crate::support::Reply;
use crate::support::model::{Answer, Block, Turn, bash_call, error_reply, text_answer};

#[test]
fn an_answer_that_ends_at_its_token_limit_is_continued() {
    let incomplete_call = Block::IncompleteCall {
        name: "bash".to_owned(),
        json: r#"{"command": "echo ha"#.to_owned(),
    };
    let script = [
        text_answer("I beg").with_stop_reason("max_tokens"),
        // The complete call is run.
        bash_call("echo whole")
            .with_block(incomplete_call)
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
fn nine_answers_in_a_row_that_end_at_their_token_limit_are_a_failure() {
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
    let incomplete_call = Block::IncompleteCall {
        name: "bash".to_owned(),
        json: r#"{"command": ec"#.to_owned(),
    };
    let run = run([
        bash_call("echo one").with_block(incomplete_call),
        text_answer("Done."),
    ]);
    run.assert_completed();
    let results = results_in_last_message(&run);
    assert_eq!(results[0]["content"], "one");
    assert_eq!(results[1]["content"], "`command` must be a string");
}

#[test]
fn blocks_that_the_api_would_reject_are_not_sent_back() {
    let thinking = |text: &str| Block::Thinking(text.to_owned());
    let incomplete_call = Block::IncompleteCall {
        name: "bash".to_owned(),
        json: r#"{"command": "ec"#.to_owned(),
    };
    let script = [
        text_answer("\n\n").and_tool_call("bash", json!({ "command": "echo one" })),
        text_answer(" ").with_stop_reason("max_tokens"),
        // Without its incomplete call, this answer would end with thinking.
        Answer {
            blocks: vec![thinking("hm"), incomplete_call],
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
    let incomplete_call = Block::IncompleteCall {
        name: "bash".to_owned(),
        json: r#"{"command": ec"#.to_owned(),
    };
    let broken = Answer {
        blocks: vec![incomplete_call],
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

#[test]
fn an_answer_that_ends_without_content_and_without_a_stop_reason_is_requested_again() {
    let start = json!({ "type": "message_start", "message": { "model": "claude-sonnet-5-5" } });
    let stop = json!({ "type": "message_stop" });
    let empty = Reply::json(200, &format!("data: {start}\n\ndata: {stop}\n\n"));
    let run = run([Turn::from(empty), text_answer("Done.").into()]);
    assert_eq!(run.assert_completed()["result"]["summary"], "Done.");
    assert_eq!(run.model.request_bodies().len(), 2);
}
