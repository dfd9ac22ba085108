//! Spans of the tool calls of an agent.

use std::collections::VecDeque;

use crate::stream_json::{ToolCall, ToolResult};
use crate::telemetry::{Span, TraceContext};

/// The maximum number of calls that are open at a time. If there is one more, the span of the oldest one is ended.
const MAX_OPEN: usize = 64;

/// The longest id that a recorded call may have, in bytes. The ids of today's models have about 30.
const MAX_ID_LENGTH: usize = 200;

/// The tool calls of one round that have not ended.
#[derive(Debug)]
pub struct ToolSpans {
    /// The span of the agent in this round.
    agent: TraceContext,
    /// The id of each call, with its span.
    open_spans: VecDeque<(String, Span)>,
}

impl ToolSpans {
    pub fn new(agent: TraceContext) -> Self {
        Self {
            agent,
            open_spans: VecDeque::new(),
        }
    }

    /// Whether spans are recorded at all.
    pub fn are_recorded(&self) -> bool {
        self.agent.is_recorded()
    }

    /// Begins the span of a call. A call without a usable id is not recorded, because no result could end its span.
    pub fn begin(&mut self, call: &ToolCall) {
        if !self.are_recorded() || call.id.is_empty() || call.id.len() > MAX_ID_LENGTH {
            return;
        }
        let mut span = self.agent.child(&format!("execute_tool {}", call.name));
        span.set_text("gen_ai.operation.name", "execute_tool");
        span.set_text("gen_ai.tool.name", &call.name);
        span.set_text("gen_ai.tool.call.id", &call.id);
        if self.open_spans.len() == MAX_OPEN {
            self.open_spans.pop_front();
        }
        self.open_spans.push_back((call.id.clone(), span));
    }

    /// Ends the span of the call that has this result.
    pub fn end(&mut self, result: &ToolResult) {
        let position = self
            .open_spans
            .iter()
            .position(|(id, _)| *id == result.call_id);
        if let Some((_, mut span)) = position.and_then(|at| self.open_spans.remove(at)) {
            if result.is_error {
                span.fail("tool_failed");
            }
            span.end();
        }
    }

    /// Ends the calls whose results the agent has not reported.
    pub fn end_all(&mut self) {
        self.open_spans.clear();
    }
}
