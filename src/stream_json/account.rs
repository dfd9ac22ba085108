//! The usage and the cost of an agent. They are added up from its messages, until the agent reports totals itself.
//!
//! Needs constant memory, however many messages there are.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::model::{Usage, UsageAndCost};

/// How many of the last messages are remembered. The agent and each subagent write at most one message at a time.
const MAX_OPEN_MESSAGES: usize = 64;

/// Which rounds the totals that an agent reports include.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TotalsScope {
    /// The whole session, with all earlier rounds.
    Session,
    /// Only the current round.
    Round,
}

/// The usage and the cost of one agent, in all its rounds. Except for `earlier_rounds`, the fields are about this
/// round.
#[derive(Debug)]
pub struct Account {
    totals_scope: TotalsScope,
    earlier_rounds: UsageAndCost,
    /// The last messages. A message comes in several lines, each of which repeats its usage, and lines of
    /// subagents may come between them.
    open_messages: VecDeque<(MessageKey, Usage)>,
    /// The usage of messages that are not remembered any more.
    closed_messages: Option<Usage>,
    /// The turns of this round; `None` until there is a message in it.
    turns: Option<u64>,
    tool_calls: Option<u64>,
    reported_cost: Option<f64>,
    reported_usage: Option<Usage>,
}

/// The hash of a message's id. An id can be megabytes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MessageKey(u64);

impl MessageKey {
    fn of(id: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl Account {
    pub fn new(totals_scope: TotalsScope) -> Self {
        Self {
            totals_scope,
            earlier_rounds: UsageAndCost::default(),
            open_messages: VecDeque::new(),
            closed_messages: None,
            turns: None,
            tool_calls: None,
            reported_cost: None,
            reported_usage: None,
        }
    }

    /// Starts a new round. The usage and the cost of the earlier rounds still count.
    pub fn next_round(&mut self) {
        let earlier_rounds = self.spent();
        *self = Self {
            earlier_rounds,
            ..Self::new(self.totals_scope)
        };
    }

    /// Counts a tool call.
    pub fn add_tool_call(&mut self) {
        *self.tool_calls.get_or_insert(0) += 1;
    }

    /// Adds a message of the model. `is_turn` is false for messages of subagents: they cost tokens, but are not turns.
    pub fn add_message(&mut self, id: &str, usage: Usage, is_turn: bool) {
        let key = MessageKey::of(id);
        let mut open_messages = self.open_messages.iter_mut();
        if let Some((_, known)) = open_messages.find(|(known, _)| *known == key) {
            *known = usage;
            return;
        }
        *self.turns.get_or_insert(0) += u64::from(is_turn);
        self.tool_calls.get_or_insert(0);
        self.open_messages.push_back((key, usage));
        if self.open_messages.len() > MAX_OPEN_MESSAGES {
            let oldest = self.open_messages.pop_front().map(|(_, usage)| usage);
            let closed = self.closed_messages.into_iter().chain(oldest);
            self.closed_messages = closed.reduce(Usage::plus);
        }
    }

    /// Sets the totals of this round or session, as the agent reports them.
    pub fn set_totals(&mut self, cost_usd: Option<f64>, usage: Option<Usage>) {
        self.turns.get_or_insert(0);
        self.tool_calls.get_or_insert(0);
        self.reported_cost = cost_usd;
        self.reported_usage = usage;
    }

    /// The usage and the cost of all rounds so far.
    pub fn spent(&self) -> UsageAndCost {
        // This sum is too low, because messages report their output tokens before they are complete. So the totals that
        // the agent reports replace it.
        let open = self.open_messages.iter().map(|(_, usage)| *usage);
        let counted = self.closed_messages.into_iter().chain(open);
        let counted = counted.reduce(Usage::plus);
        let round = UsageAndCost {
            turns: self.turns,
            tool_calls: self.tool_calls,
            cost_usd: self.reported_cost,
            usage: self.reported_usage.or(counted),
        };
        let sum = self.earlier_rounds.plus(round);
        match self.totals_scope {
            TotalsScope::Round => sum,
            TotalsScope::Session => UsageAndCost {
                cost_usd: self.reported_cost.or(self.earlier_rounds.cost_usd),
                usage: self.reported_usage.or(sum.usage),
                ..sum
            },
        }
    }
}
