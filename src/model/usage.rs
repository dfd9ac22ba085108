//! What an agent's work took: answers, tool calls, tokens, US dollars.
//!
//! A number that is not reported is not known: `None`, never zero.

/// What an agent's work took so far, all its rounds together.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spent {
    /// Answers of the model.
    pub turns: Option<u64>,
    pub tool_calls: Option<u64>,
    /// US dollars, as the agent reckons them.
    pub cost_usd: Option<f64>,
    pub usage: Option<Usage>,
}

/// Tokens, in the model service's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// What was neither read from the cache nor written to it.
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub cache_read_input_tokens: Option<u64>,
    pub cache_creation_input_tokens: Option<u64>,
}

impl Spent {
    /// Both together; a number that only one of them knows is that one's.
    pub fn and(self, other: Self) -> Self {
        let cost_usd = match (self.cost_usd, other.cost_usd) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        let usage = match (self.usage, other.usage) {
            (Some(one), Some(other)) => Some(one.and(other)),
            (one, other) => one.or(other),
        };
        Self {
            turns: sum(self.turns, other.turns),
            tool_calls: sum(self.tool_calls, other.tool_calls),
            cost_usd,
            usage,
        }
    }
}

impl Usage {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
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
        }
    }

    /// A later report of the same answer: its numbers replace the earlier ones, because each report
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
        }
    }

    /// All that went in, and what came out: `12k/3k`.
    pub fn in_short(self) -> String {
        let read = sum(
            self.cache_read_input_tokens,
            self.cache_creation_input_tokens,
        );
        let input = sum(self.input_tokens, read).unwrap_or(0);
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

/// A number of tokens as people say it.
fn short(tokens: u64) -> String {
    match tokens {
        0..1_000 => tokens.to_string(),
        1_000..1_000_000 => format!("{}k", tokens / 1_000),
        _ => format!("{}.{}M", tokens / 1_000_000, tokens / 100_000 % 10),
    }
}
