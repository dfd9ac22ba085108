//! Reads what an agent prints as `stream-json`: one JSON object per line, at last a `result`.
//!
//! Lines that are not JSON objects are passed on as they are. Fields with an unexpected type count
//! as absent. Knows nothing of processes: how the agent ended is for the caller to weigh.

use std::mem::take;

use super::account::{Account, Totals};
use super::lines::{self, Assistant, Block, Kind, Outcome, Retry};
use crate::model::Spent;
use crate::task::Failure;

/// The longest line that is read. Claude Code's own have up to two megabytes (a file that it
/// writes, twice); what is longer can be nothing that is needed here, and memory is for the agent.
const LINE: usize = 4 * 1024 * 1024;
/// The longest name of a session, in bytes; UUIDs have 36.
const SESSION: usize = 100;

/// What is known from one agent's output, over all its rounds.
#[derive(Debug)]
pub struct Reader {
    pub session_id: Option<String>,
    pub model: Option<String>,
    account: Account,
    line: Line,
    /// The agent is asking the model's service again and again.
    retrying: bool,
    /// What the agent says of its end in this round.
    result: Option<Conclusion>,
}

/// What an agent says about its own end, in a `result` line.
#[derive(Debug)]
pub struct Conclusion {
    /// `None` if the agent says that it succeeded.
    pub failure: Option<Failure>,
    words: Option<String>,
    /// There are further turns to come, each with its own result.
    pub provisional: bool,
}

/// Something in the stream that people or budgets want to know.
#[derive(Debug)]
pub enum Event<'a> {
    /// A part of a line, or a whole line, that is not JSON.
    Raw(&'a [u8]),
    Text(&'a str),
    /// A tool call in a few words; it can have any length.
    ToolCall(&'a str),
    /// What was spent in all rounds so far.
    Spent(Spent),
}

/// What to expect after some output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    MoreExpected,
    /// The agent has given its final result.
    Finished,
}

/// A line that is not whole yet.
#[derive(Debug, Default)]
struct Line {
    bytes: Vec<u8>,
    /// It is longer than anything that is read.
    skipped: bool,
}

impl Reader {
    /// `totals` is what the numbers of a `result` are of.
    pub fn new(totals: Totals) -> Self {
        Self {
            session_id: None,
            model: None,
            account: Account::new(totals),
            line: Line::default(),
            retrying: false,
            result: None,
        }
    }

    /// A new round begins; what was spent before stays spent.
    pub fn next_round(&mut self) {
        self.account.next_round();
        self.line = Line::default();
        self.retrying = false;
        self.result = None;
    }

    /// In all rounds so far.
    pub fn spent(&self) -> Spent {
        self.account.spent()
    }

    /// The agent's own last words in this round.
    pub fn last_words(&self) -> Option<String> {
        self.result.as_ref()?.words.clone()
    }

    /// Reads bytes that are cut anywhere, and tells of them.
    pub fn read(&mut self, mut bytes: &[u8], on_event: &mut dyn FnMut(Event<'_>)) -> Progress {
        let mut progress = Progress::MoreExpected;
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.line.push(&bytes[..end]);
            bytes = &bytes[end + 1..];
            if let Some(line) = self.line.take()
                && self.read_line(&line, on_event) == Progress::Finished
            {
                progress = Progress::Finished;
            }
        }
        self.line.push(bytes);
        progress
    }

    fn read_line(&mut self, json: &[u8], on_event: &mut dyn FnMut(Event<'_>)) -> Progress {
        let Some(kind) = Kind::of(json) else {
            on_event(Event::Raw(json));
            on_event(Event::Raw(b"\n"));
            return Progress::MoreExpected;
        };
        // It becomes an argument of the next round.
        let session = kind.session_id.filter(|id| is_name(id));
        self.session_id = session.or(self.session_id.take());
        match (kind.word.as_str(), kind.subtype.as_str()) {
            ("system", "init") => self.model = lines::model(json).or(self.model.take()),
            ("system", "api_retry") => {
                self.retrying = true;
                on_event(Event::Text(&Retry::of(json).words()));
            }
            ("assistant", _) => self.assistant(Assistant::of(json), on_event),
            ("result", _) => {
                let progress = self.result(&Outcome::of(json));
                on_event(Event::Spent(self.spent()));
                return progress;
            }
            _ => {}
        }
        Progress::MoreExpected
    }

    fn assistant(&mut self, message: Assistant, on_event: &mut dyn FnMut(Event<'_>)) {
        for block in message.blocks {
            match block {
                Block::Text(text) => on_event(Event::Text(&text)),
                Block::ToolCall(text) => {
                    self.account.tool_call();
                    on_event(Event::ToolCall(&text));
                }
            }
        }
        if let Some((id, usage, is_turn)) = message.usage {
            self.retrying = false;
            self.account.message(id, usage, is_turn);
        }
        on_event(Event::Spent(self.spent()));
    }

    fn result(&mut self, outcome: &Outcome) -> Progress {
        self.account.result(outcome.cost_usd, outcome.usage);
        let provisional = outcome.is_provisional();
        self.result = Some(Conclusion {
            failure: outcome.failure(self.retrying),
            words: outcome.words(),
            provisional,
        });
        if provisional {
            Progress::MoreExpected
        } else {
            Progress::Finished
        }
    }

    /// What the agent said about its end in this round, with a last line that lacks its newline.
    pub fn conclusion(&mut self) -> Option<&Conclusion> {
        if let Some(line) = self.line.take()
            && Kind::of(&line).is_some_and(|kind| kind.word == "result")
        {
            self.result(&Outcome::of(&line));
        }
        self.result.as_ref()
    }
}

impl Line {
    fn push(&mut self, bytes: &[u8]) {
        if self.bytes.len() + bytes.len() > LINE {
            self.bytes = Vec::new();
            self.skipped = true;
        }
        if !self.skipped {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// The line, where it is one that is read; another one begins.
    fn take(&mut self) -> Option<Vec<u8>> {
        let bytes = take(&mut self.bytes);
        (!take(&mut self.skipped) && !bytes.trim_ascii().is_empty()).then_some(bytes)
    }
}

/// Whether a session's name is one, and nothing that a command line could misunderstand.
fn is_name(id: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    !id.is_empty() && id.len() <= SESSION && !id.starts_with('-') && id.chars().all(known)
}
