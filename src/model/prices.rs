//! List prices of models, from `prices.toml`.
//!
//! Prices change: the table has a date, and models that it does not list have no known price.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::usage::Usage;

/// The text of the table.
const TABLE: &str = include_str!("prices.toml");

static PRICES: LazyLock<Table> =
    LazyLock::new(|| toml::from_str(TABLE).expect("a test parses the table"));

/// The price of tokens that the cache stores for one hour, as a multiple of the price of input tokens.
const ONE_HOUR_CACHE_WRITE_FACTOR: f64 = 2.0;

/// The content of `prices.toml`.
#[derive(Deserialize)]
struct Table {
    /// The date of the prices, in ISO 8601.
    as_of: String,
    aliases: BTreeMap<String, String>,
    models: BTreeMap<String, Price>,
}

/// US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Price {
    input: f64,
    output: f64,
    cache_write: f64,
    cache_read: f64,
}

impl Price {
    /// The price of a model, by its name with or without a date.
    pub fn of(model: &str) -> Option<Self> {
        let named = |name: &str| PRICES.models.get(name).copied();
        named(model).or_else(|| named(without_date(model)?))
    }

    /// The cost in US dollars.
    #[expect(
        clippy::cast_precision_loss,
        reason = "no conversation has 2^53 tokens"
    )]
    pub fn cost(self, usage: Usage) -> f64 {
        let written = usage.cache_creation_input_tokens.unwrap_or(0);
        let written_for_one_hour = usage.one_hour_cache_creation_input_tokens.unwrap_or(0);
        let written_for_five_minutes = written.saturating_sub(written_for_one_hour);
        let parts = [
            (usage.input_tokens.unwrap_or(0), self.input),
            (usage.output_tokens.unwrap_or(0), self.output),
            (written_for_five_minutes, self.cache_write),
            (
                written_for_one_hour,
                self.input * ONE_HOUR_CACHE_WRITE_FACTOR,
            ),
            (usage.cache_read_input_tokens.unwrap_or(0), self.cache_read),
        ];
        let parts = parts.map(|(tokens, price)| tokens as f64 * price / 1e6);
        parts.iter().sum()
    }
}

/// The full name of the model for a family name such as `opus`. Other names are returned unchanged.
pub fn full_name(model: String) -> String {
    PRICES.aliases.get(&model).cloned().unwrap_or(model)
}

/// The date of the prices.
pub fn price_date() -> &'static str {
    &PRICES.as_of
}

/// A model's name without the date at its end: `claude-haiku-4-5` for `claude-haiku-4-5-20251001`.
fn without_date(model: &str) -> Option<&str> {
    let (name, date) = model.rsplit_once('-')?;
    (date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_model_has_a_price_and_the_table_a_date() {
        assert!(Price::of(super::super::DEFAULT_MODEL).is_some());
        assert!(
            price_date().parse::<jiff::civil::Date>().is_ok(),
            "{}",
            price_date()
        );
    }

    #[test]
    fn a_model_name_with_a_date_has_the_price_of_the_name_without_it() {
        let price = Price::of("claude-haiku-4-5");
        assert!(price.is_some());
        assert_eq!(Price::of("claude-haiku-4-5-20251001"), price);
        assert_eq!(Price::of("claude-haiku-4"), None);
        assert_eq!(Price::of("claude-haiku-4-5-tomorrow"), None);
        assert_eq!(Price::of("gpt"), None);
    }

    #[test]
    fn every_family_name_stands_for_a_model_that_has_a_price() {
        for full in PRICES.aliases.values() {
            assert!(PRICES.models.contains_key(full), "{full}");
        }
        assert_eq!(full_name("sonnet".to_owned()), "claude-sonnet-5-5");
        assert_eq!(full_name("gpt".to_owned()), "gpt");
    }

    #[test]
    fn the_cost_of_a_million_tokens_of_each_kind_is_the_sum_of_the_prices() {
        let usage = Usage {
            input_tokens: Some(1_000_000),
            output_tokens: Some(1_000_000),
            cache_creation_input_tokens: Some(1_000_000),
            cache_read_input_tokens: Some(1_000_000),
            ..Usage::default()
        };
        let price = Price::of("claude-sonnet-5-5").unwrap();
        assert!((price.cost(usage) - 14.6).abs() < 1e-9);
        let partly_for_one_hour = Usage {
            one_hour_cache_creation_input_tokens: Some(500_000),
            ..usage
        };
        // 0.5 x 2.5 and 0.5 x 4 dollars instead of 2.5 dollars.
        assert!((price.cost(partly_for_one_hour) - 15.35).abs() < 1e-9);
    }
}
