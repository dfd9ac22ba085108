//! Writes `stream-json` on standard output, as Claude Code prints it.
//!
//! Redacts nothing: the process that reads the lines does.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::lines;
use crate::model::Usage;

/// How often a sign of life is worth a line; more often where the reader has little patience.
const ALIVE: Duration = Duration::from_secs(5);
/// The most of one block that is told, in bytes of JSON: the reader passes over long lines.
const BLOCK: usize = 256 * 1024;
/// The most of the last words, in characters.
const WORDS: usize = 64 * 1024;

/// How the work ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Success {
        text: String,
    },
    MaxTurns,
    MaxBudget,
    /// The model's service refused, or stayed out of reach.
    ServiceFailed {
        /// `None` if there was no answer.
        status: Option<u16>,
        message: String,
        /// Whether a later request may succeed.
        may_pass: bool,
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

#[derive(Debug)]
pub struct Writer {
    session: String,
    began: Instant,
    last: Instant,
    alive: Duration,
}

impl Writer {
    pub fn begin(
        session: &str,
        model: &str,
        dir: &Path,
        patience: Option<Duration>,
    ) -> io::Result<Self> {
        let mut writer = Self {
            session: session.to_owned(),
            began: Instant::now(),
            last: Instant::now(),
            alive: patience.map_or(ALIVE, |patience| ALIVE.min(patience / 4)),
        };
        let version = env!("CARGO_PKG_VERSION");
        writer.tell(json!({
            "type": "system", "subtype": "init", "cwd": dir.display().to_string(), "model": model,
            "descartes_worker_version": version,
        }))?;
        Ok(writer)
    }

    /// Something goes on: more of an answer, more of a tool's output.
    pub fn alive(&mut self) {
        if self.last.elapsed() >= self.alive {
            // Whoever started this is gone where it fails, and the next line will say so.
            let _ = self.lives();
        }
    }

    /// A sign of life, whenever the last one was.
    pub fn lives(&mut self) -> io::Result<()> {
        self.tell(json!({ "type": "system", "subtype": "alive" }))
    }

    /// The service is asked again after a while.
    pub fn retry(
        &mut self,
        attempt: u32,
        delay: Duration,
        status: Option<u16>,
        error: &str,
    ) -> io::Result<()> {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.tell(json!({
            "type": "system", "subtype": "api_retry", "attempt": attempt, "retry_delay_ms": delay,
            "error_status": status, "error": error,
        }))
    }

    /// The answer of a turn. The turn's number is added to its id, because a service may use one
    /// id for several answers.
    pub fn answer(&mut self, turn: u32, answer: &Message<'_>) -> io::Result<()> {
        let content: Vec<Value> = answer.content.iter().map(briefly).collect();
        let usage = answer.usage;
        self.tell(json!({
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

    /// What a tool said.
    pub fn result(&mut self, result: &Value) -> io::Result<()> {
        self.tell(json!({
            "type": "user",
            "message": { "role": "user", "content": [result] },
        }))
    }

    /// `cost` and `usage` are this round's.
    pub fn end(
        &mut self,
        end: &End,
        turns: u32,
        cost: Option<f64>,
        model: &str,
        usage: Usage,
    ) -> io::Result<()> {
        let (subtype, words) = match end {
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
            End::ServiceFailed { may_pass: true, .. } => (None, Some(lines::CONNECTION_FAILED)),
            End::ServiceFailed { .. } => (None, Some(lines::CONNECTION_REFUSED)),
            _ => (None, None),
        };
        let words: String = words.chars().take(WORDS).collect();
        let took = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.tell(json!({
            "type": "result", "subtype": subtype, "is_error": !matches!(end, End::Success { .. }),
            "api_error_status": status, "api_error": api_error, "result": words, "num_turns": turns,
            "total_cost_usd": cost, "duration_ms": took,
            "modelUsage": { model: {
                "inputTokens": usage.input_tokens, "outputTokens": usage.output_tokens,
                "cacheReadInputTokens": usage.cache_read_input_tokens,
                "cacheCreationInputTokens": usage.cache_creation_input_tokens,
            } },
        }))
    }

    fn tell(&mut self, mut line: Value) -> io::Result<()> {
        line["session_id"] = self.session.as_str().into();
        self.last = Instant::now();
        let mut stdout = io::stdout().lock();
        serde_json::to_writer(&mut stdout, &line)?;
        stdout.write_all(b"\n")?;
        stdout.flush()
    }
}

/// A block, or what it is where it is too long to be told.
fn briefly(block: &Value) -> Value {
    if block.to_string().len() <= BLOCK {
        return block.clone();
    }
    json!({
        "type": block["type"], "id": block["id"], "name": block["name"], "text": "[too long to be told]",
        "input": { "command": block["input"]["command"].as_str().filter(|word| word.len() < 100),
                   "path": block["input"]["path"], "description": "[too long to be told]" },
    })
}
