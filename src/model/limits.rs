//! The limits for all rounds of an agent together.

use super::usage::UsageAndCost;

/// Limits for agents that support them; `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// The number of answers of the model.
    pub turns: Option<u32>,
    /// US dollars.
    pub usd: Option<f64>,
    /// Tokens of all requests together; only the model gateway counts them.
    pub tokens: Option<u64>,
}

/// Why an agent must not start another round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitReached {
    /// All turns are used.
    Turns,
    /// The budget is used up.
    Budget,
    /// There is a budget, but the earlier rounds did not report their cost.
    CostUnknown,
}

impl Limits {
    /// The limits of the next round, after the earlier rounds have used `spent`.
    ///
    /// # Errors
    /// If one of the limits is reached, or the cost of the earlier rounds is unknown.
    pub fn remaining(self, spent: &UsageAndCost) -> Result<Self, LimitReached> {
        let used_turns = u32::try_from(spent.turns.unwrap_or(0)).unwrap_or(u32::MAX);
        let turns = self.turns.map(|max| max.saturating_sub(used_turns));
        let is_first_round = spent.turns.is_none();
        let usd = match (self.usd, spent.cost_usd) {
            (Some(_), None) if !is_first_round => return Err(LimitReached::CostUnknown),
            (max, cost) => max.map(|max| max - cost.unwrap_or(0.0)),
        };
        match (turns, usd) {
            (Some(0), _) => Err(LimitReached::Turns),
            (_, Some(usd)) if usd <= 0.0 => Err(LimitReached::Budget),
            (turns, usd) => Ok(Self { turns, usd, ..self }),
        }
    }
}
