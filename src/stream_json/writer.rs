//! Writes `stream-json` to standard output, in Claude Code's format.
//!
//! Does not mask secrets: the worker, which reads the lines, does that.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::lines;
use crate::excerpt;
use crate::model::Usage;

/// The shortest time between a line and the next keep-alive line. A short idle timeout reduces it.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// The largest content block that is written, in bytes of JSON. Larger blocks are shortened, because the reader skips
/// long lines.
const MAX_BLOCK_SIZE: usize = 256 * 1024;
/// A field of a shortened block is written only if it is shorter than this, in bytes.
const MAX_FIELD_SIZE: usize = 100;
/// The longest final message, in characters.
const MAX_FINAL_MESSAGE_CHARS: usize = 64 * 1024;
/// Replaces content that is too large.
const TOO_LONG: &str = "[too long to show]";

/// How the work ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Success {
        text: String,
    },
    MaxTurns,
    MaxBudget,
    /// The model's service rejected a request, or could not be reached.
    ServiceFailed {
        /// `None` if there was no answer.
        status: Option<u16>,
        message: String,
        /// Whether a later request may succeed.
        is_temporary: bool,
    },
    Failed {
        message: String,
    },
}

/// One answer of the model.
#[derive(Debug)]
pub struct Message<'a> {
    pub id: &'a str,
    pub model: &'a str,
    pub content: &'a [Value],
    pub stop_reason: Option<&'a str>,
    pub usage: Usage,
}

/// Writes the lines of one session.
#[derive(Debug)]
pub struct Writer {
    session_id: String,
    started_at: Instant,
    last_line_at: Instant,
    keep_alive_interval: Duration,
}

impl Writer {
    /// Writes the first line. `idle_timeout` is how long this process may write nothing.
    pub fn start(
        session_id: &str,
        model: &str,
        dir: &Path,
        idle_timeout: Option<Duration>,
    ) -> io::Result<Self> {
        let quarter = idle_timeout.map(|idle_timeout| idle_timeout / 4);
        let mut writer = Self {
            session_id: session_id.to_owned(),
            started_at: Instant::now(),
            last_line_at: Instant::now(),
            keep_alive_interval: quarter.map_or(KEEP_ALIVE_INTERVAL, |quarter| {
                KEEP_ALIVE_INTERVAL.min(quarter)
            }),
        };
        let version = env!("CARGO_PKG_VERSION");
        writer.write_line(json!({
            "type": "system", "subtype": "init", "cwd": dir.display().to_string(), "model": model,
            "descartes_worker_version": version,
        }))?;
        Ok(writer)
    }

    /// Writes a keep-alive line, unless another line was written within the keep-alive interval.
    pub fn keep_alive(&mut self) {
        if self.last_line_at.elapsed() >= self.keep_alive_interval {
            // If standard output is closed, writing the next line fails, too.
            let _ = self.write_keep_alive();
        }
    }

    /// Writes a keep-alive line.
    pub fn write_keep_alive(&mut self) -> io::Result<()> {
        self.write_line(json!({ "type": "system", "subtype": "alive" }))
    }

    /// Writes that a request failed and will be sent again after `delay`.
    pub fn write_retry(
        &mut self,
        attempt: u32,
        delay: Duration,
        status: Option<u16>,
        error: &str,
    ) -> io::Result<()> {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.write_line(json!({
            "type": "system", "subtype": "api_retry", "attempt": attempt, "retry_delay_ms": delay,
            "error_status": status, "error": error,
        }))
    }

    /// Writes the answer of a turn. The turn's number is added to its id, because a service may use one
    /// id for several answers.
    pub fn write_answer(&mut self, turn: u32, answer: &Message<'_>) -> io::Result<()> {
        let content: Vec<Value> = answer.content.iter().map(shorten).collect();
        let usage = answer.usage;
        self.write_line(json!({
            "type": "assistant",
            "parent_tool_use_id": null,
            "message": {
                "id": format!("{}.{turn}", answer.id), "type": "message", "role": "assistant",
                "model": answer.model, "content": content, "stop_reason": answer.stop_reason,
                "usage": {
                    "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens,
                    "cache_creation_input_tokens": usage.cache_creation_input_tokens,
                    "cache_read_input_tokens": usage.cache_read_input_tokens,
                },
            },
        }))
    }

    /// Writes the result of a tool call.
    pub fn write_tool_result(&mut self, result: &Value) -> io::Result<()> {
        self.write_line(json!({
            "type": "user",
            "message": { "role": "user", "content": [result] },
        }))
    }

    /// Writes the last line. `cost` and `usage` are those of this round.
    pub fn write_result(
        &mut self,
        end: &End,
        turns: u32,
        cost: Option<f64>,
        model: &str,
        usage: Usage,
    ) -> io::Result<()> {
        // Claude Code too writes `success` if the model's service failed: a reader decides by the fields of API errors.
        let (subtype, message) = match end {
            End::Success { text } => ("success", text.as_str()),
            End::MaxTurns => ("error_max_turns", "there are no turns left"),
            End::MaxBudget => ("error_max_budget_usd", "the budget is used up"),
            End::ServiceFailed { message, .. } => ("success", message.as_str()),
            End::Failed { message } => ("error_during_execution", message.as_str()),
        };
        let (status, api_error) = match end {
            End::ServiceFailed {
                status: Some(status),
                ..
            } => (Some(*status), None),
            End::ServiceFailed {
                is_temporary: true, ..
            } => (None, Some(lines::CONNECTION_FAILED)),
            End::ServiceFailed { .. } => (None, Some(lines::CONNECTION_REJECTED)),
            _ => (None, None),
        };
        let message = excerpt::first_chars(message, MAX_FINAL_MESSAGE_CHARS);
        let duration = u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.write_line(json!({
            "type": "result", "subtype": subtype, "is_error": !matches!(end, End::Success { .. }),
            "api_error_status": status, "api_error": api_error, "result": message, "num_turns": turns,
            "total_cost_usd": cost, "duration_ms": duration,
            "modelUsage": { model: {
                "inputTokens": usage.input_tokens, "outputTokens": usage.output_tokens,
                "cacheReadInputTokens": usage.cache_read_input_tokens,
                "cacheCreationInputTokens": usage.cache_creation_input_tokens,
            } },
        }))
    }

    fn write_line(&mut self, mut line: Value) -> io::Result<()> {
        line["session_id"] = self.session_id.as_str().into();
        self.last_line_at = Instant::now();
        let mut stdout = io::stdout().lock();
        serde_json::to_writer(&mut stdout, &line)?;
        stdout.write_all(b"\n")?;
        stdout.flush()
    }
}

/// The content block to write. A block that is too large is reduced to its type and, for a tool call, its name, command
/// and path.
fn shorten(block: &Value) -> Value {
    if block.to_string().len() <= MAX_BLOCK_SIZE {
        return block.clone();
    }
    let field = |value: &Value| {
        value
            .as_str()
            .filter(|text| text.len() < MAX_FIELD_SIZE)
            .map(str::to_owned)
    };
    let input = &block["input"];
    json!({
        "type": field(&block["type"]), "id": field(&block["id"]), "name": field(&block["name"]), "text": TOO_LONG,
        "input": { "command": field(&input["command"]), "path": field(&input["path"]), "description": TOO_LONG },
    })
}
