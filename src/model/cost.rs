//! What one agent process has cost so far, against its limit.

use super::prices::Price;
use super::usage::Usage;

/// Adds up usage and compares its cost with a limit.
#[derive(Debug)]
pub struct CostMeter {
    usage: Usage,
    /// `None` if the model has no known price.
    price: Option<Price>,
    /// US dollars.
    limit: Option<f64>,
}

/// Whether more may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CostLimit {
    Within,
    Reached,
}

impl CostMeter {
    /// Nothing is spent yet; `limit` is in US dollars.
    pub fn new(model: &str, limit: Option<f64>) -> Self {
        Self {
            usage: Usage::default(),
            price: Price::of(model),
            limit,
        }
    }

    /// Adds the usage of one answer, a broken one included.
    pub fn add(&mut self, usage: Usage) -> CostLimit {
        self.usage = self.usage.and(usage);
        self.limit_state()
    }

    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// US dollars, if the model has a known price.
    pub fn cost(&self) -> Option<f64> {
        self.price.map(|price| price.cost(self.usage))
    }

    pub fn limit_state(&self) -> CostLimit {
        let cost = self.cost().unwrap_or(0.0);
        if self.limit.is_some_and(|limit| cost >= limit) {
            CostLimit::Reached
        } else {
            CostLimit::Within
        }
    }
}
