//! Reads what an agent prints as `stream-json`: one JSON object per line, at last a `result`.
//!
//! Claude Code's format, which the built-in agent speaks too. Nothing is believed to be there:
//! what is no JSON is shown as it is, what has another shape than expected is passed over. Builds
//! and starts nothing.

mod account;
mod wire;

use std::mem::take;

use super::super::output::Live;
use super::super::process::{Ending, Heard, StartError};
use super::{exit_code, out_of_memory};
use crate::task::{Failure, Reason, Spent};
pub use account::Totals;
use account::{Account, Told};
use wire::{Assistant, Kind, Outcome, Retry};

/// The longest line that is read. Claude Code's own have up to two megabytes (a file that it
/// writes, twice); what is longer can be nothing that is needed here, and memory is for the agent.
const LINE: usize = 4 * 1024 * 1024;
/// The longest name of a session, in bytes; UUIDs have 36.
const SESSION: usize = 100;

/// What is known from one agent's output, over all its rounds.
#[derive(Debug)]
pub struct Transcript {
    pub session_id: Option<String>,
    pub model: Option<String>,
    account: Account,
    line: Line,
    /// The agent is asking the model's service again and again.
    retrying: bool,
    /// What the agent says of its end in this round.
    result: Option<Verdict>,
}

/// The `result` message.
#[derive(Debug)]
struct Verdict {
    failure: Option<Failure>,
    words: Option<String>,
    /// There are further turns to come, each with a result of its own.
    provisional: bool,
}

/// A line that is not whole yet.
#[derive(Debug, Default)]
struct Line {
    bytes: Vec<u8>,
    /// It is longer than anything that is read.
    skipped: bool,
}

impl Transcript {
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
    pub fn hear(&mut self, mut bytes: &[u8], live: &mut Live<'_>) -> Heard {
        let mut heard = Heard::More;
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.line.push(&bytes[..end]);
            bytes = &bytes[end + 1..];
            if let Some(line) = self.line.take()
                && self.read(&line, live) == Heard::LastWord
            {
                heard = Heard::LastWord;
            }
        }
        self.line.push(bytes);
        heard
    }

    fn read(&mut self, json: &[u8], live: &mut Live<'_>) -> Heard {
        let Some(kind) = Kind::of(json) else {
            live.hear(json);
            live.hear(b"\n");
            return Heard::More;
        };
        // It becomes an argument of the next round.
        let session = kind.session_id.filter(|id| is_name(id));
        self.session_id = session.or(self.session_id.take());
        match (kind.word.as_str(), kind.subtype.as_str()) {
            ("system", "init") => self.model = wire::model(json).or(self.model.take()),
            ("system", "api_retry") => {
                self.retrying = true;
                live.words(&Retry::of(json).words());
            }
            ("assistant", _) => self.assistant(Assistant::of(json), live),
            ("result", _) => {
                let heard = self.result(&Outcome::of(json));
                live.spent(&self.spent());
                return heard;
            }
            _ => {}
        }
        Heard::More
    }

    fn assistant(&mut self, message: Assistant, live: &mut Live<'_>) {
        for told in message.blocks {
            match told {
                Told::Words(text) => live.words(&text),
                Told::Deed(text) => {
                    self.account.tool_call();
                    live.deed(&text);
                }
            }
        }
        if let Some((id, usage, is_turn)) = message.usage {
            self.retrying = false;
            self.account.message(id, usage, is_turn);
        }
        live.spent(&self.spent());
    }

    fn result(&mut self, outcome: &Outcome) -> Heard {
        self.account.result(outcome.cost_usd, outcome.usage);
        let provisional = outcome.is_provisional();
        self.result = Some(Verdict {
            failure: outcome.failure(self.retrying),
            words: outcome.words(),
            provisional,
        });
        if provisional {
            Heard::More
        } else {
            Heard::LastWord
        }
    }

    /// What the end of the round means: the `result` says, else the exit code does.
    pub fn judge(&mut self, ending: Result<Ending, StartError>) -> Result<(), Failure> {
        // The last line may lack its end.
        if let Some(line) = self.line.take()
            && Kind::of(&line).is_some_and(|kind| kind.word == "result")
        {
            self.result(&Outcome::of(&line));
        }
        match (&self.result, ending) {
            (Some(result), ending) if result.provisional => {
                let code = exit_code(ending)?;
                result.failure.clone().map_or(Ok(()), Err)?;
                if code == 0 {
                    Ok(())
                } else {
                    Err(unfinished(code))
                }
            }
            (Some(Verdict { failure: None, .. }), _) => Ok(()),
            // It fails because it was ended, and not the other way round.
            (
                Some(_),
                Ok(ending @ (Ending::Stopped(_) | Ending::TimedOut(_) | Ending::Idle(_))),
            ) => exit_code(Ok(ending)).map(drop),
            // "Something went wrong" is less than the kernel knows.
            (
                Some(Verdict {
                    failure: Some(failure),
                    ..
                }),
                Ok(Ending::OutOfMemory),
            ) if failure.reason == Reason::AgentFailed => Err(out_of_memory()),
            (
                Some(Verdict {
                    failure: Some(failure),
                    ..
                }),
                _,
            ) => Err(failure.clone()),
            (None, ending) => Err(unfinished(exit_code(ending)?)),
        }
    }
}

fn unfinished(code: i32) -> Failure {
    let message = format!("the agent ended with exit code {code}, without a result");
    Failure::new(Reason::AgentFailed, message)
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
