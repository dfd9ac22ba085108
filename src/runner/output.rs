//! Masks the secrets in the output of child processes, and passes the output on to the reports, the heartbeats
//! and the log.
//!
//! The memory and the log are limited, however much a process prints: `progress` keeps the first and the last
//! bytes, and [`LogLines`] has a rate limit.

use std::time::Duration;

use tokio::time::Instant;

use super::tool_spans::ToolSpans;
use crate::excerpt;
use crate::line_splitter::{Line, LineEnd, LineSplitter};
use crate::model::UsageAndCost;
use crate::progress::Progress;
use crate::redact::{Redactor, StreamMasker};
use crate::stream_json::{ToolCall, ToolResult};
use crate::telemetry::{Span, TraceContext};

/// The longest line in the log, in bytes.
const MAX_LOG_LINE: usize = 500;
/// How many lines are logged per [`RATE_INTERVAL`].
const MAX_LINES_PER_INTERVAL: u32 = 100;
/// The interval in which logged lines are counted.
const RATE_INTERVAL: Duration = Duration::from_secs(1);
/// The longest description of a tool call, in characters.
const MAX_TOOL_CALL: usize = 200;

/// The output of an agent, in all its rounds.
pub struct AgentOutput<'a> {
    redactor: Redactor,
    masker: StreamMasker,
    sinks: Sinks<'a>,
    logged_turns: u64,
    tools: ToolSpans,
}

/// The receivers of the masked output.
struct Sinks<'a> {
    progress: &'a Progress,
    log: LogLines,
}

impl<'a> AgentOutput<'a> {
    pub fn new(redactor: &Redactor, progress: &'a Progress) -> Self {
        Self {
            redactor: redactor.clone(),
            masker: redactor.stream(),
            sinks: Sinks {
                progress,
                log: LogLines::new("agent"),
            },
            logged_turns: 0,
            tools: ToolSpans::new(Span::none().context()),
        }
    }

    /// Must be called before each round, with the span of the agent.
    pub fn begin_round(&mut self, agent: TraceContext) {
        self.tools = ToolSpans::new(agent);
    }

    /// Whether the results of tool calls are needed: they end the spans of the calls.
    pub fn records_tools(&self) -> bool {
        self.tools.are_recorded()
    }

    /// Adds bytes that the agent printed.
    pub fn push(&mut self, bytes: &[u8]) {
        let Self { masker, sinks, .. } = self;
        masker.push(bytes, &mut |masked| sinks.push(masked));
    }

    /// Adds a complete message of the agent.
    pub fn add_text(&mut self, text: &str) {
        let masked = self.redactor.mask(text);
        self.push_text("agent", &masked, &masked);
    }

    /// Logs a thought of the agent. Thoughts are not a part of the output.
    pub fn log_thought(&mut self, text: &str) {
        let masked = self.redactor.mask(text);
        self.sinks.log.log_thought(&masked);
    }

    /// Adds a tool call to the output, and begins its span. The call's description may have any length.
    pub fn begin_tool_call(&mut self, call: &ToolCall) {
        self.tools.begin(call);
        // Secrets are masked first: a part of a secret would not be recognised.
        let masked = self.redactor.mask(&call.description);
        // The words on one line. Each word has at least one character, so this many words are enough.
        let words: Vec<&str> = masked.split_whitespace().take(MAX_TOOL_CALL + 1).collect();
        let line = excerpt::first_chars(&words.join(" "), MAX_TOOL_CALL);
        self.push_text("tool", &line, &format!("tool: {line}"));
    }

    /// Ends the span of the tool call that has this result.
    pub fn end_tool_call(&mut self, result: &ToolResult) {
        self.tools.end(result);
    }

    /// Reports what the agent has spent so far, and logs it once in each turn.
    pub fn set_spent(&mut self, spent: &UsageAndCost) {
        self.sinks.progress.set_spent(*spent);
        let turns = spent.turns.unwrap_or(0);
        if let (true, Some(usage)) = (turns > self.logged_turns, spent.usage) {
            self.sinks.log.log_text("tokens", &usage.short_text());
        }
        self.logged_turns = turns;
    }

    /// Adds `reported` to the output, and logs `logged` with the prefix. Both have masked secrets.
    fn push_text(&mut self, prefix: &str, logged: &str, reported: &str) {
        let Sinks { progress, log } = &mut self.sinks;
        progress.add_output(reported.as_bytes());
        progress.add_output(b"\n");
        if let Some(line) = log.log_text(prefix, logged) {
            progress.set_activity(&line);
        }
    }

    /// Must be called when the agent's process has ended. Bytes that may be the beginning of a secret are not passed on
    /// yet, because the next round may print the rest of the secret.
    pub fn end_round(&mut self) {
        self.tools.end_all();
        self.sinks.log.finish();
        if let Some(line) = self.last_line() {
            self.sinks.progress.set_activity(&line);
        }
    }

    /// Must be called after the last round; returns the last line of the output.
    pub fn finish(&mut self) -> Option<String> {
        let Self { masker, sinks, .. } = self;
        masker.finish(&mut |masked| sinks.push(masked));
        self.sinks.log.finish();
        self.last_line()
    }

    /// The last line of the output that is not empty. The log may not contain it, because of the rate limit.
    fn last_line(&self) -> Option<String> {
        let tail = self.sinks.progress.output().tail;
        let mut lines = tail
            .rsplit(['\n', '\r'])
            .map(|line| readable_line(line.as_bytes()));
        lines.find(|line| !line.is_empty())
    }
}

impl Sinks<'_> {
    fn push(&mut self, masked: &[u8]) {
        self.progress.add_output(masked);
        if let Some(line) = self.log.push(masked) {
            self.progress.set_activity(&line);
        }
    }
}

/// Logs output line by line, without control characters, up to a rate that people can follow.
#[derive(Debug)]
pub struct LogLines {
    prefix: &'static str,
    lines: LineSplitter,
    interval_start: Instant,
    logged_in_interval: u32,
    /// The bytes that were not logged since the rate limit was reached.
    skipped_bytes: u64,
}

impl LogLines {
    /// Each line begins with `prefix`.
    pub fn new(prefix: &'static str) -> Self {
        Self {
            prefix,
            // One byte more than is logged, so that `readable_line` sees that the line is too long.
            lines: LineSplitter::new(LineEnd::NewlineOrReturn, MAX_LOG_LINE + 1),
            interval_start: Instant::now(),
            logged_in_interval: 0,
            skipped_bytes: 0,
        }
    }

    /// Logs the lines whose ends are in `bytes`; returns the last one.
    pub fn push(&mut self, mut bytes: &[u8]) -> Option<String> {
        self.update_interval();
        let mut last = None;
        while self.logged_in_interval < MAX_LINES_PER_INTERVAL {
            let Some(line) = self.lines.next_line(&mut bytes) else {
                return last;
            };
            last = self.log(&line).or(last);
        }
        self.skipped_bytes += bytes.len() as u64;
        last
    }

    /// Logs a complete text with another prefix; returns its last line.
    pub fn log_text(&mut self, prefix: &str, text: &str) -> Option<String> {
        self.update_interval();
        let mut last = None;
        let lines = text.lines().map(|line| readable_line(line.as_bytes()));
        for line in lines.filter(|line| !line.is_empty()) {
            if self.logged_in_interval < MAX_LINES_PER_INTERVAL {
                tracing::info!("{prefix}: {line}");
                self.logged_in_interval += 1;
            } else {
                self.skipped_bytes += line.len() as u64;
            }
            last = Some(line);
        }
        last
    }

    /// Logs a thought of an agent, at the level `debug`.
    pub fn log_thought(&mut self, text: &str) {
        self.update_interval();
        let lines = text.lines().map(|line| readable_line(line.as_bytes()));
        for line in lines.filter(|line| !line.is_empty()) {
            if self.logged_in_interval < MAX_LINES_PER_INTERVAL {
                tracing::debug!("thought: {line}");
                // Lines below the log level are not logged, so they don't count.
                self.logged_in_interval += u32::from(tracing::enabled!(tracing::Level::DEBUG));
            }
        }
    }

    /// Logs the last line if it has no newline, and how many bytes were skipped.
    pub fn finish(&mut self) {
        if let Some(line) = self.lines.take_unfinished() {
            self.log(&line);
        }
        self.start_interval();
    }

    /// Starts a new interval if the current one is over.
    fn update_interval(&mut self) {
        if self.interval_start.elapsed() >= RATE_INTERVAL {
            self.start_interval();
        }
    }

    /// Starts a new interval, and logs how many bytes were skipped in the last one.
    fn start_interval(&mut self) {
        if self.skipped_bytes > 0 {
            tracing::info!("{}: [{} bytes not shown]", self.prefix, self.skipped_bytes);
        }
        self.interval_start = Instant::now();
        self.logged_in_interval = 0;
        self.skipped_bytes = 0;
    }

    /// Logs one line; returns the text that was logged, `None` if the line is empty.
    fn log(&mut self, line: &Line) -> Option<String> {
        let line = readable_line(&line.bytes);
        if line.is_empty() {
            return None;
        }
        tracing::info!("{}: {line}", self.prefix);
        self.logged_in_interval += 1;
        Some(line)
    }
}

/// A line without escape sequences and control characters, of at most [`MAX_LOG_LINE`] bytes.
fn readable_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_LOG_LINE)]);
    let text = console::strip_ansi_codes(&text);
    let mut line: String = text
        .chars()
        .filter(|c| !c.is_control() || *c == '\t')
        .collect();
    line.truncate(line.trim_end().len());
    if bytes.len() > MAX_LOG_LINE {
        line.push('…');
    }
    line
}
