//! The usage and the cost of an agent's work: answers, tool calls, tokens, US dollars.
//!
//! A number that was not reported is `None`, never zero.

use serde_json::Value;

/// The usage and the cost of an agent so far, in all its rounds together.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct UsageAndCost {
    /// The number of answers of the model.
    pub turns: Option<u64>,
    pub tool_calls: Option<u64>,
    /// US dollars, as the agent or the model gateway calculates them.
    pub cost_usd: Option<f64>,
    pub usage: Option<Usage>,
}

/// Numbers of tokens, with the names of the Messages API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Input tokens that were neither read from the cache nor written to it.
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub cache_read_input_tokens: Option<u64>,
    pub cache_creation_input_tokens: Option<u64>,
    /// The part of `cache_creation_input_tokens` that the cache stores for one hour, not for five minutes. It has a
    /// higher price.
    pub one_hour_cache_creation_input_tokens: Option<u64>,
}

/// A number of tokens as a service or an agent wrote it. Fractions are rounded up; negative numbers
/// and other types count as absent.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the number is not negative, and the cast saturates"
)]
pub fn token_count(value: &Value) -> Option<u64> {
    let fraction = || value.as_f64().filter(|count| *count >= 0.0);
    value
        .as_u64()
        .or_else(|| fraction().map(|count| count.ceil() as u64))
}

impl UsageAndCost {
    /// The sum. If only one side has a number, the sum has that number.
    pub fn plus(self, other: Self) -> Self {
        let cost_usd = match (self.cost_usd, other.cost_usd) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        let usage = match (self.usage, other.usage) {
            (Some(one), Some(other)) => Some(one.plus(other)),
            (one, other) => one.or(other),
        };
        Self {
            turns: sum(self.turns, other.turns),
            tool_calls: sum(self.tool_calls, other.tool_calls),
            cost_usd,
            usage,
        }
    }

    /// The larger cost and the larger usage: those of the agent (`self`) or those that the model gateway has counted
    /// (`gateway_totals`). The agent's numbers do not include requests since its last report, and the gateway may not
    /// know the cost.
    pub fn or_larger(self, gateway_totals: Self) -> Self {
        let costs = self.cost_usd.into_iter().chain(gateway_totals.cost_usd);
        let usages = gateway_totals.usage.into_iter().chain(self.usage);
        Self {
            turns: self.turns.or(gateway_totals.turns),
            tool_calls: self.tool_calls.or(gateway_totals.tool_calls),
            cost_usd: costs.reduce(f64::max),
            // If both totals are equal, `max_by_key` returns the last one, which is the agent's.
            usage: usages.max_by_key(|usage| usage.total()),
        }
    }
}

impl Usage {
    /// `usage` of the Messages API. A field with an unexpected type counts as absent, and so does a `usage` that is not
    /// an object.
    pub fn of_messages_api(usage: &Value) -> Self {
        let tokens = |name: &str| token_count(&usage[name]);
        Self {
            input_tokens: tokens("input_tokens"),
            output_tokens: tokens("output_tokens"),
            cache_read_input_tokens: tokens("cache_read_input_tokens"),
            cache_creation_input_tokens: tokens("cache_creation_input_tokens"),
            one_hour_cache_creation_input_tokens: token_count(
                &usage["cache_creation"]["ephemeral_1h_input_tokens"],
            ),
        }
    }

    /// The sum. If only one side has a number, the sum has that number.
    pub fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: sum(self.input_tokens, other.input_tokens),
            output_tokens: sum(self.output_tokens, other.output_tokens),
            cache_read_input_tokens: sum(
                self.cache_read_input_tokens,
                other.cache_read_input_tokens,
            ),
            cache_creation_input_tokens: sum(
                self.cache_creation_input_tokens,
                other.cache_creation_input_tokens,
            ),
            one_hour_cache_creation_input_tokens: sum(
                self.one_hour_cache_creation_input_tokens,
                other.one_hour_cache_creation_input_tokens,
            ),
        }
    }

    /// The number of tokens of all kinds together.
    pub fn total(self) -> u64 {
        let counts = [
            self.input_tokens,
            self.output_tokens,
            self.cache_read_input_tokens,
            self.cache_creation_input_tokens,
        ];
        let counts = counts.into_iter().flatten();
        counts.fold(0, u64::saturating_add)
    }

    /// Applies a later report on the same answer: its numbers replace the earlier ones, because each report
    /// counts from the beginning of the answer.
    pub fn updated_by(self, later: Self) -> Self {
        Self {
            input_tokens: later.input_tokens.or(self.input_tokens),
            output_tokens: later.output_tokens.or(self.output_tokens),
            cache_read_input_tokens: later
                .cache_read_input_tokens
                .or(self.cache_read_input_tokens),
            cache_creation_input_tokens: later
                .cache_creation_input_tokens
                .or(self.cache_creation_input_tokens),
            one_hour_cache_creation_input_tokens: later
                .one_hour_cache_creation_input_tokens
                .or(self.one_hour_cache_creation_input_tokens),
        }
    }

    /// All input tokens and the output tokens in a short form: `12k/3k`.
    pub fn short_text(self) -> String {
        let cached = sum(
            self.cache_read_input_tokens,
            self.cache_creation_input_tokens,
        );
        let input = sum(self.input_tokens, cached).unwrap_or(0);
        format!(
            "{}/{}",
            short(input),
            short(self.output_tokens.unwrap_or(0))
        )
    }
}

fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}

/// A number of tokens in thousands (`k`) or millions (`M`), if it is large.
fn short(tokens: u64) -> String {
    match tokens {
        0..1_000 => tokens.to_string(),
        1_000..1_000_000 => format!("{}k", tokens / 1_000),
        _ => format!("{}.{}M", tokens / 1_000_000, tokens / 100_000 % 10),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fractions_of_tokens_are_rounded_up_and_malformed_counts_are_absent() {
        for (value, expected) in [
            (json!(7), Some(7)),
            (json!(7.0), Some(7)),
            (json!(7.2), Some(8)),
            (json!(1e300), Some(u64::MAX)),
            (json!(-1), None),
            (json!(-0.5), None),
            (json!("7"), None),
            (json!(null), None),
        ] {
            assert_eq!(token_count(&value), expected, "{value}");
        }
    }
}
