//! What the agent tells its starter: `stream-json` on standard output, as Claude Code prints it.
//!
//! `runner::agent::transcript` reads it. Nothing is kept and nothing is redacted here; the reader
//! does both.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::messages::{Answer, Usage};

/// How often a sign of life is worth a line.
const ALIVE: Duration = Duration::from_secs(5);

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
        status: Option<u16>,
        message: String,
    },
    Failed {
        message: String,
    },
}

#[derive(Debug)]
pub struct Telling {
    session: String,
    began: Instant,
    last: Instant,
}

impl Telling {
    pub fn begin(session: &str, model: &str, dir: &Path) -> io::Result<Self> {
        let mut telling = Self {
            session: session.to_owned(),
            began: Instant::now(),
            last: Instant::now(),
        };
        let version = env!("CARGO_PKG_VERSION");
        telling.tell(json!({
            "type": "system", "subtype": "init", "cwd": dir.display().to_string(), "model": model,
            "descartes_worker_version": version,
        }))?;
        Ok(telling)
    }

    /// Something goes on: more of an answer, more of a tool's output.
    pub fn alive(&mut self) {
        if self.last.elapsed() >= ALIVE {
            // Whoever started this is gone where it fails, and the next line will say so.
            let _ = self.tell(json!({ "type": "system", "subtype": "alive" }));
        }
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

    pub fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        self.tell(json!({
            "type": "assistant",
            "parent_tool_use_id": null,
            "message": {
                "id": answer.id, "type": "message", "role": "assistant", "model": answer.model,
                "content": answer.content, "stop_reason": answer.stop_reason, "usage": answer.usage,
            },
        }))
    }

    pub fn results(&mut self, results: &[Value]) -> io::Result<()> {
        self.tell(json!({
            "type": "user",
            "message": { "role": "user", "content": results },
        }))
    }

    /// `cost` and `usage` are the whole conversation's, earlier rounds included.
    pub fn end(
        &mut self,
        end: &End,
        turns: u32,
        cost: Option<f64>,
        model: &str,
        usage: &Usage,
    ) -> io::Result<()> {
        let (subtype, result, errors, status) = match end {
            End::Success { text } => ("success", Some(text.as_str()), vec![], None),
            End::MaxTurns => (
                "error_max_turns",
                None,
                vec!["there are no turns left"],
                None,
            ),
            End::MaxBudget => (
                "error_max_budget_usd",
                None,
                vec!["the budget is used up"],
                None,
            ),
            End::ServiceFailed { status, message } => {
                ("success", Some(message.as_str()), vec![], *status)
            }
            End::Failed { message } => {
                ("error_during_execution", None, vec![message.as_str()], None)
            }
        };
        let took = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.tell(json!({
            "type": "result", "subtype": subtype, "is_error": !matches!(end, End::Success { .. }),
            "api_error_status": status, "result": result, "errors": errors, "num_turns": turns,
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
