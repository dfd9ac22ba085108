//! Reads the `stream-json` of an agent.
//!
//! Lines that are not JSON objects are passed on unchanged. Fields with an unexpected type count as
//! absent. Knows nothing about processes: the caller knows how the agent ended.

use super::account::{Account, TotalsScope};
use super::lines::{
    self, AssistantLine, Block, CommonFields, ResultLine, RetryLine, ToolCall, ToolResult,
    tool_results,
};
use crate::line_splitter::{Line, LineEnd, LineSplitter};
use crate::model::UsageAndCost;
use crate::task::Failure;

/// The longest line that is read, in bytes; longer ones are skipped. Claude Code's lines have up to two
/// megabytes: they contain a written file twice.
const MAX_LINE_SIZE: usize = 4 * 1024 * 1024;
/// The longest id of a session, in bytes; UUIDs have 36.
const MAX_SESSION_ID_SIZE: usize = 100;

/// Reads the output of an agent, in all its rounds.
#[derive(Debug)]
pub struct Reader {
    pub session_id: Option<String>,
    pub model: Option<String>,
    /// Whether to report the results of tool calls. The results can be large, so a caller that needs them must ask.
    pub reads_tool_results: bool,
    account: Account,
    lines: LineSplitter,
    /// Whether the last request to the model's service failed, and the agent is sending it again.
    is_retrying: bool,
    /// The agent's report about its end in this round.
    conclusion: Option<Conclusion>,
}

/// An agent's report about its end, from a `result` line.
#[derive(Debug)]
pub struct Conclusion {
    /// `None` if the agent says that it succeeded.
    pub failure: Option<Failure>,
    final_message: Option<String>,
    /// Whether more turns follow, each with a `result` line.
    pub is_provisional: bool,
}

/// An event in the stream.
#[derive(Debug)]
pub enum Event<'a> {
    /// Output that is not JSON.
    Raw(&'a [u8]),
    Text(&'a str),
    /// A thinking block of the model.
    Thought(&'a str),
    /// A tool call. Its description may be long.
    ToolCall(&'a ToolCall),
    /// The end of a tool call.
    ToolResult(&'a ToolResult),
    /// The usage and the cost of the agent, in all rounds so far.
    Spent(UsageAndCost),
}

/// Whether more output is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamState {
    MoreExpected,
    /// The agent has printed its last `result` line.
    Finished,
}

impl Reader {
    /// `totals_scope` says which rounds the numbers in a `result` line include.
    pub fn new(totals_scope: TotalsScope) -> Self {
        Self {
            session_id: None,
            model: None,
            reads_tool_results: false,
            account: Account::new(totals_scope),
            lines: new_splitter(),
            is_retrying: false,
            conclusion: None,
        }
    }

    /// Starts a new round. The cost of earlier rounds still counts.
    pub fn next_round(&mut self) {
        self.account.next_round();
        self.lines = new_splitter();
        self.is_retrying = false;
        self.conclusion = None;
    }

    /// The usage and the cost of the agent, in all rounds so far.
    pub fn spent(&self) -> UsageAndCost {
        self.account.spent()
    }

    /// The agent's final message in this round.
    pub fn final_message(&self) -> Option<String> {
        self.conclusion.as_ref()?.final_message.clone()
    }

    /// Reads the next bytes of the output.
    pub fn read(&mut self, mut bytes: &[u8], on_event: &mut dyn FnMut(Event<'_>)) -> StreamState {
        let mut state = StreamState::MoreExpected;
        while let Some(line) = self.lines.next_line(&mut bytes) {
            if is_readable(&line) && self.read_line(&line.bytes, on_event) == StreamState::Finished
            {
                state = StreamState::Finished;
            }
        }
        state
    }

    fn read_line(&mut self, json: &[u8], on_event: &mut dyn FnMut(Event<'_>)) -> StreamState {
        let Some(common) = CommonFields::of(json) else {
            on_event(Event::Raw(json));
            on_event(Event::Raw(b"\n"));
            return StreamState::MoreExpected;
        };
        // The id becomes an argument of the next round's command, so it must not look like an option.
        let session_id = common.session_id.filter(|id| is_session_id(id));
        self.session_id = session_id.or(self.session_id.take());
        match (common.line_type.as_str(), common.subtype.as_str()) {
            ("system", "init") => self.model = lines::model(json).or(self.model.take()),
            ("system", "api_retry") => {
                self.is_retrying = true;
                on_event(Event::Text(&RetryLine::of(json).message()));
            }
            ("user", _) if self.reads_tool_results => {
                for result in tool_results(json) {
                    on_event(Event::ToolResult(&result));
                }
            }
            ("assistant", _) => self.read_message(AssistantLine::of(json), on_event),
            ("result", _) => {
                let state = self.read_result(&ResultLine::of(json));
                on_event(Event::Spent(self.spent()));
                return state;
            }
            _ => {}
        }
        StreamState::MoreExpected
    }

    fn read_message(&mut self, message: AssistantLine, on_event: &mut dyn FnMut(Event<'_>)) {
        for block in message.blocks {
            match block {
                Block::Text(text) => on_event(Event::Text(&text)),
                Block::Thought(text) => on_event(Event::Thought(&text)),
                Block::ToolCall(call) => {
                    self.account.add_tool_call();
                    on_event(Event::ToolCall(&call));
                }
            }
        }
        if let Some(message) = message.usage {
            self.is_retrying = false;
            self.account
                .add_message(&message.message_id, message.usage, message.is_turn);
        }
        on_event(Event::Spent(self.spent()));
    }

    fn read_result(&mut self, line: &ResultLine) -> StreamState {
        self.account.set_totals(line.cost_usd, line.usage);
        let is_provisional = line.is_provisional();
        self.conclusion = Some(Conclusion {
            failure: line.failure(self.is_retrying),
            final_message: line.final_message(),
            is_provisional,
        });
        if is_provisional {
            StreamState::MoreExpected
        } else {
            StreamState::Finished
        }
    }

    /// The agent's report about its end in this round. The last line is read even without a newline.
    pub fn conclusion(&mut self) -> Option<&Conclusion> {
        if let Some(line) = self.lines.take_unfinished()
            && is_readable(&line)
            && CommonFields::of(&line.bytes).is_some_and(|common| common.line_type == "result")
        {
            self.read_result(&ResultLine::of(&line.bytes));
        }
        self.conclusion.as_ref()
    }
}

fn new_splitter() -> LineSplitter {
    LineSplitter::new(LineEnd::Newline, MAX_LINE_SIZE)
}

/// Whether the line is complete and not blank.
fn is_readable(line: &Line) -> bool {
    !line.is_truncated && !line.bytes.trim_ascii().is_empty()
}

/// Whether the text is a valid id, and does not look like an option of a command.
fn is_session_id(id: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    !id.is_empty()
        && id.len() <= MAX_SESSION_ID_SIZE
        && !id.starts_with('-')
        && id.chars().all(is_allowed)
}
