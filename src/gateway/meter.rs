//! Reads the usage and the name of the model from the bytes of an answer. No I/O; needs bounded memory, and
//! does not change the bytes.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::document::Document;
use crate::line_splitter::{LineEnd, LineSplitter};
use crate::model::{Api, Usage, token_count};

/// The longest event that is read, in bytes. A longer event is skipped.
const MAX_EVENT_SIZE: usize = 2 * 1024 * 1024;
/// The size of the JSON around the text in an event, in bytes. This is the smallest size that services send, so
/// that the estimated number of tokens is not too low.
const EVENT_FRAME_SIZE: u64 = 60;
/// How many bytes of text count as one token. A token has about four bytes; with three, the estimate is too high rather
/// than too low.
const BYTES_PER_TOKEN: u64 = 3;

/// The usage and the model that were read from an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnswerUsage {
    pub model: Option<String>,
    pub usage: Usage,
    /// Whether the end of the answer was read.
    pub is_complete: bool,
    /// Whether the answer is only an error, in spite of the status of a success: the service has rejected the request
    /// before it began an answer.
    pub is_only_error: bool,
    /// An estimate of the output tokens in the text so far, too high rather than too low. Zero if the answer is not a
    /// stream.
    pub streamed_tokens: u64,
}

/// Counts the tokens of one answer.
#[derive(Debug)]
pub struct Meter {
    api: Api,
    format: AnswerFormat,
    answer_usage: AnswerUsage,
    /// Whether an answer has begun: something other than pings and errors has arrived.
    has_begun: bool,
}

/// The format of an answer, with the part that was not read completely yet.
#[derive(Debug)]
enum AnswerFormat {
    /// Server-sent events.
    Events(LineSplitter),
    /// One JSON document.
    Document(Document),
}

impl Meter {
    /// Starts counting for an answer with this content type.
    pub fn new(api: Api, content_type: &str) -> Self {
        let format = if content_type.trim_start().starts_with("text/event-stream") {
            AnswerFormat::Events(LineSplitter::new(LineEnd::Newline, MAX_EVENT_SIZE))
        } else {
            AnswerFormat::Document(Document::new(&["error", "model", "type", "usage"]))
        };
        Self {
            api,
            format,
            answer_usage: AnswerUsage::default(),
            has_begun: false,
        }
    }

    /// Reads the next bytes of the answer.
    pub fn push(&mut self, mut bytes: &[u8]) {
        match &mut self.format {
            AnswerFormat::Events(lines) => {
                while let Some(line) = lines.next_line(&mut bytes) {
                    if !self.has_begun {
                        match first_event(&line.bytes) {
                            _ if line.is_truncated => self.has_begun = true,
                            FirstEvent::Nothing => {}
                            FirstEvent::Error => self.answer_usage.is_only_error = true,
                            FirstEvent::Answer => self.has_begun = true,
                        }
                        self.answer_usage.is_only_error &= !self.has_begun;
                    }
                    if !line.is_truncated {
                        self.answer_usage.read_line(self.api, &line.bytes);
                    }
                }
            }
            AnswerFormat::Document(document) => document.push(bytes),
        }
    }

    /// Reads the end of the answer. Must be called if the body of the answer has ended without an error.
    pub fn finish(&mut self) {
        if let AnswerFormat::Document(document) = &self.format {
            let object = document.object();
            let fields = serde_json::from_slice::<ErrorFields>(&object);
            self.answer_usage.is_only_error = fields.is_ok_and(|fields| fields.is_error());
            self.answer_usage.read_json(self.api, &object);
            self.answer_usage.is_complete = true;
        }
    }

    /// The usage that was read so far.
    pub fn answer_usage(&self) -> &AnswerUsage {
        &self.answer_usage
    }
}

/// The fields that are read from an event or an answer.
#[derive(Deserialize)]
struct AnswerFields {
    #[serde(rename = "type")]
    kind: Option<String>,
    model: Option<String>,
    usage: Option<Value>,
    /// The event `message_start` of the Messages API has the fields here.
    message: Option<Box<AnswerFields>>,
    /// The events of the Responses API have the fields here.
    response: Option<Box<AnswerFields>>,
}

impl AnswerUsage {
    /// Reads a line of an event stream.
    fn read_line(&mut self, api: Api, line: &[u8]) {
        let Some(data) = line.strip_prefix(b"data:") else {
            return;
        };
        let Ok(text) = str::from_utf8(data.trim_ascii()) else {
            return;
        };
        if text == "[DONE]" || is_message_stop(text) {
            self.is_complete = true;
        }
        if text.contains("\"usage\"") {
            self.read_json(api, text.as_bytes());
        } else {
            let content = (text.len() as u64).saturating_sub(EVENT_FRAME_SIZE);
            self.streamed_tokens += content.div_ceil(BYTES_PER_TOKEN);
        }
    }

    /// Reads an event or an answer. Invalid JSON is ignored.
    fn read_json(&mut self, api: Api, text: &[u8]) {
        let Ok(fields) = serde_json::from_slice::<AnswerFields>(text) else {
            return;
        };
        let kind = fields.kind.as_deref().unwrap_or_default();
        if matches!(
            kind,
            "response.completed" | "response.incomplete" | "response.failed"
        ) {
            self.is_complete = true;
        }
        for inner in [fields.message, fields.response].into_iter().flatten() {
            self.update(api, *inner);
        }
        self.update(
            api,
            AnswerFields {
                kind: None,
                model: fields.model,
                usage: fields.usage,
                message: None,
                response: None,
            },
        );
    }

    /// Stores the model and the usage from these fields, if they have them.
    fn update(&mut self, api: Api, fields: AnswerFields) {
        self.model = fields.model.or(self.model.take());
        if let Some(usage) = fields.usage {
            self.usage = self.usage.updated_by(usage_of(api, &usage));
        }
    }
}

/// What a line of a stream says about an answer that has not begun yet.
enum FirstEvent {
    /// An error.
    Error,
    /// Anything that can cost tokens.
    Answer,
    /// A ping, the end of a stream, or a line without an event's data.
    Nothing,
}

/// Reads a line of a stream whose answer has not begun yet. Data that cannot be read counts as an answer.
fn first_event(line: &[u8]) -> FirstEvent {
    let Some(data) = line.strip_prefix(b"data:") else {
        return FirstEvent::Nothing;
    };
    match serde_json::from_slice::<ErrorFields>(data) {
        Ok(fields) if fields.is_error() => FirstEvent::Error,
        Ok(fields) if fields.kind.as_deref() == Some("ping") => FirstEvent::Nothing,
        _ if matches!(data.trim_ascii(), b"" | b"[DONE]") => FirstEvent::Nothing,
        _ => FirstEvent::Answer,
    }
}

/// The fields that tell an error from an answer.
#[derive(Deserialize)]
struct ErrorFields {
    #[serde(rename = "type")]
    kind: Option<String>,
    error: Option<IgnoredAny>,
    model: Option<IgnoredAny>,
    usage: Option<IgnoredAny>,
    response: Option<IgnoredAny>,
}

impl ErrorFields {
    /// Whether this is an error of the service, and not an answer that failed: that has a model or a usage.
    fn is_error(&self) -> bool {
        let is_error = self.kind.as_deref() == Some("error") || self.error.is_some();
        is_error && self.model.is_none() && self.usage.is_none() && self.response.is_none()
    }
}

/// Whether an event ends a stream of the Messages API. A longer event is text of the model, which may contain
/// the same word.
fn is_message_stop(text: &str) -> bool {
    text.len() < 100 && text.contains("\"message_stop\"")
}

/// Reads `usage` in the format of an API.
fn usage_of(api: Api, value: &Value) -> Usage {
    let count = |name: &str| token_count(&value[name]);
    match api {
        Api::Anthropic => Usage::of_messages_api(value),
        Api::OpenAi => {
            let cached_tokens = |name: &str| token_count(&value[name]["cached_tokens"]);
            let cached =
                cached_tokens("input_tokens_details").or(cached_tokens("prompt_tokens_details"));
            // OpenAI's number of input tokens includes the cached tokens.
            let input = count("input_tokens").or(count("prompt_tokens"));
            Usage {
                input_tokens: input.map(|input| input.saturating_sub(cached.unwrap_or(0))),
                output_tokens: count("output_tokens").or(count("completion_tokens")),
                cache_read_input_tokens: cached,
                ..Usage::default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-x\",\"usage\":{\"input_tokens\":3,\"cache_read_input_tokens\":100,\"cache_creation_input_tokens\":7,\"output_tokens\":1}}}\n\n\
        event: ping\ndata: {\"type\":\"ping\"}\n\n\
        event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi \\\"usage\\\"\"}}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":50}}\n\n\
        event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

    fn measure(api: Api, content_type: &str, chunks: &[&[u8]]) -> AnswerUsage {
        let mut meter = Meter::new(api, content_type);
        for chunk in chunks {
            meter.push(chunk);
        }
        meter.finish();
        meter.answer_usage().clone()
    }

    fn usage(input: u64, output: u64, read: Option<u64>, written: Option<u64>) -> Usage {
        Usage {
            input_tokens: Some(input),
            output_tokens: Some(output),
            cache_read_input_tokens: read,
            cache_creation_input_tokens: written,
            ..Usage::default()
        }
    }

    #[test]
    fn a_stream_of_the_messages_api_is_measured_in_chunks_of_any_size() {
        for at in 0..STREAM.len() {
            let (one, other) = STREAM.as_bytes().split_at(at);
            let answer_usage = measure(
                Api::Anthropic,
                "text/event-stream; charset=utf-8",
                &[one, other],
            );
            assert_eq!(answer_usage.usage, usage(3, 50, Some(100), Some(7)));
            assert_eq!(answer_usage.model.as_deref(), Some("claude-x"));
            assert!(answer_usage.is_complete);
        }
    }

    #[test]
    fn the_output_tokens_of_a_stream_that_ends_early_are_estimated_from_its_text() {
        let end = STREAM.find("event: message_delta").unwrap();
        let answer_usage = measure(
            Api::Anthropic,
            "text/event-stream",
            &[&STREAM.as_bytes()[..end]],
        );
        assert_eq!(answer_usage.usage, usage(3, 1, Some(100), Some(7)));
        assert!(!answer_usage.is_complete);
        assert!(answer_usage.streamed_tokens > 3, "{answer_usage:?}");
    }

    #[test]
    fn both_apis_of_openai_are_measured_and_cached_tokens_do_not_count_as_input_tokens() {
        let document = br#"{"model":"gpt-x","usage":{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4}}}"#;
        let answer_usage = measure(Api::OpenAi, "application/json", &[document]);
        assert_eq!(answer_usage.usage, usage(6, 5, Some(4), None));
        let chunks = b"data: {\"model\":\"gpt-x\",\"choices\":[{}],\"usage\":null}\n\ndata: {\"model\":\"gpt-x\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5}}\n\ndata: [DONE]\n\n";
        let answer_usage = measure(Api::OpenAi, "text/event-stream", &[chunks]);
        assert_eq!(answer_usage.usage, usage(10, 5, None, None));
        assert!(answer_usage.is_complete);
        let events = b"event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"gpt-x\",\"usage\":{\"input_tokens\":9,\"input_tokens_details\":{\"cached_tokens\":8},\"output_tokens\":2}}}\n\n";
        let answer_usage = measure(Api::OpenAi, "text/event-stream", &[events]);
        assert_eq!(answer_usage.usage, usage(1, 2, Some(8), None));
        assert_eq!(
            (answer_usage.model.as_deref(), answer_usage.is_complete),
            (Some("gpt-x"), true)
        );
    }

    #[test]
    fn only_an_error_before_the_beginning_of_an_answer_makes_it_an_error() {
        let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";
        let ping = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
        let of_openai = "data: {\"error\":{\"message\":\"Overloaded\"}}\n\n";
        let failed = "data: {\"type\":\"response.failed\",\"response\":{\"error\":{}}}\n\n";
        let start = STREAM.split_inclusive("\n\n").next().unwrap();
        let long = format!("data: {}\n\n", "x".repeat(MAX_EVENT_SIZE));
        for (events, expected) in [
            (vec![error], true),
            (vec![ping, error], true),
            (vec![of_openai], true),
            (vec![of_openai, "data: [DONE]\n\n"], true),
            (vec!["data: [DONE]\n\n"], false),
            (vec![failed], false),
            (vec![start, error], false),
            (vec![error, start], false),
            (vec![long.as_str(), error], false),
            (vec!["data: {\n\n", error], false),
            (vec![ping], false),
        ] {
            let chunks: Vec<&[u8]> = events.iter().map(|event| event.as_bytes()).collect();
            let answer_usage = measure(Api::Anthropic, "text/event-stream", &chunks);
            assert_eq!(answer_usage.is_only_error, expected, "{events:?}");
        }
        for (document, expected) in [
            (r#"{"type":"error","error":{"message":"no"}}"#, true),
            (r#"{"error":{"message":"no"}}"#, true),
            (r#"{"error":null,"usage":{"input_tokens":1}}"#, false),
            (r#"{"error":{},"model":"gpt-x","usage":null}"#, false),
            ("{}", false),
        ] {
            let answer_usage = measure(Api::OpenAi, "application/json", &[document.as_bytes()]);
            assert_eq!(answer_usage.is_only_error, expected, "{document}");
        }
    }

    #[test]
    fn an_answer_that_cannot_be_read_has_no_usage() {
        let garbage = vec![b'x'; MAX_EVENT_SIZE];
        let chunks: Vec<&[u8]> = vec![&garbage, &garbage, b"\ndata: {\"usage\": [}\n\xff\n"];
        for content_type in ["text/event-stream", "application/json"] {
            let answer_usage = measure(Api::Anthropic, content_type, &chunks);
            assert_eq!(
                (answer_usage.usage, answer_usage.model),
                (Usage::default(), None)
            );
        }
    }
}
