//! How much an agent may spend, all its rounds together.

use super::usage::Spent;

/// Limits for agents that know such limits; `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Answers of the model.
    pub turns: Option<u32>,
    /// US dollars.
    pub usd: Option<f64>,
}

/// The limit that leaves nothing to spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsedUp {
    Turns,
    Budget,
}

impl Limits {
    /// What is left after this much was spent.
    ///
    /// # Errors
    /// If nothing is left of one of the limits.
    pub fn after(self, spent: &Spent) -> Result<Self, UsedUp> {
        let taken = u32::try_from(spent.turns.unwrap_or(0)).unwrap_or(u32::MAX);
        let turns = self.turns.map(|most| most.saturating_sub(taken));
        let usd = self.usd.map(|most| most - spent.cost_usd.unwrap_or(0.0));
        match (turns, usd) {
            (Some(0), _) => Err(UsedUp::Turns),
            (_, Some(usd)) if usd <= 0.0 => Err(UsedUp::Budget),
            (turns, usd) => Ok(Self { turns, usd }),
        }
    }
}
