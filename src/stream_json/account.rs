//! What an agent has taken: counted from its messages, until its own account is there.
//!
//! Constant memory however much is told.

use std::collections::VecDeque;

use crate::model::{Spent, Usage};

/// How many messages can be under way at once: the agent's and those of the agents below it.
const RECENT: usize = 64;

/// What the numbers of an agent's own account are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Totals {
    /// The whole session, earlier rounds included.
    Session,
    /// The round alone.
    Round,
}

#[derive(Debug)]
pub struct Account {
    totals: Totals,
    /// In the rounds that are over.
    before: Spent,
    /// The last messages: one comes in several lines, and each repeats the usage. Those of agents
    /// below the agent come in between, which makes more than one of them.
    recent: VecDeque<(String, Usage)>,
    /// Of messages that are not among the last any more.
    settled: Option<Usage>,
    /// Nothing was heard in this round before this is there.
    turns: Option<u64>,
    tool_calls: Option<u64>,
    /// The agent's own account of cost and tokens.
    told_cost: Option<f64>,
    told_usage: Option<Usage>,
}

impl Account {
    pub fn new(totals: Totals) -> Self {
        Self {
            totals,
            before: Spent::default(),
            recent: VecDeque::new(),
            settled: None,
            turns: None,
            tool_calls: None,
            told_cost: None,
            told_usage: None,
        }
    }

    pub fn next_round(&mut self) {
        let before = self.spent();
        *self = Self {
            before,
            ..Self::new(self.totals)
        };
    }

    pub fn tool_call(&mut self) {
        *self.tool_calls.get_or_insert(0) += 1;
    }

    /// A message of the model. Those of agents below the agent cost tokens, and are no turns of
    /// its own.
    pub fn message(&mut self, id: String, usage: Usage, is_turn: bool) {
        if let Some((_, known)) = self.recent.iter_mut().find(|(known, _)| *known == id) {
            *known = usage;
            return;
        }
        *self.turns.get_or_insert(0) += u64::from(is_turn);
        self.tool_calls.get_or_insert(0);
        self.recent.push_back((id, usage));
        if self.recent.len() > RECENT {
            let old = self.recent.pop_front().map(|(_, usage)| usage);
            self.settled = self.settled.into_iter().chain(old).reduce(Usage::and);
        }
    }

    /// The agent's own account.
    pub fn result(&mut self, cost_usd: Option<f64>, usage: Option<Usage>) {
        self.turns.get_or_insert(0);
        self.tool_calls.get_or_insert(0);
        self.told_cost = cost_usd;
        self.told_usage = usage;
    }

    /// In all rounds so far.
    pub fn spent(&self) -> Spent {
        // Output is told late, so what the messages say of it is less than it will be.
        let recent = self.recent.iter().map(|(_, usage)| *usage);
        let counted = self.settled.into_iter().chain(recent).reduce(Usage::and);
        let round = Spent {
            turns: self.turns,
            tool_calls: self.tool_calls,
            cost_usd: self.told_cost,
            usage: self.told_usage.or(counted),
        };
        let sum = self.before.and(round);
        match self.totals {
            Totals::Round => sum,
            Totals::Session => Spent {
                cost_usd: self.told_cost.or(self.before.cost_usd),
                usage: self.told_usage.or(sum.usage),
                ..sum
            },
        }
    }
}
