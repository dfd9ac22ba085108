//! The numbers of tokens in `assistant` and `result` lines.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{RawField, object, value};
use crate::model::{Usage, token_count};

/// Numbers of tokens, with the names of the Messages API.
pub fn read_usage(usage: RawField<'_>) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Fields<'a> {
        #[serde(borrow, default)]
        input_tokens: RawField<'a>,
        #[serde(borrow, default)]
        output_tokens: RawField<'a>,
        #[serde(borrow, default)]
        cache_read_input_tokens: RawField<'a>,
        #[serde(borrow, default)]
        cache_creation_input_tokens: RawField<'a>,
    }
    let fields: Fields<'_> = object(usage?.get().as_bytes())?;
    Some(usage_of([
        fields.input_tokens,
        fields.output_tokens,
        fields.cache_read_input_tokens,
        fields.cache_creation_input_tokens,
    ]))
}

/// Usage from four numbers: input tokens, output tokens, tokens read from the cache, tokens written to it.
fn usage_of(numbers: [RawField<'_>; 4]) -> Usage {
    let [input, output, cache_read, cache_creation] =
        numbers.map(|number| token_count(&value(number)?));
    Usage {
        input_tokens: input,
        output_tokens: output,
        cache_read_input_tokens: cache_read,
        cache_creation_input_tokens: cache_creation,
        // Agents report their cost themselves, so no price depends on this number.
        one_hour_cache_creation_input_tokens: None,
    }
}

/// `modelUsage`: numbers of tokens for each model, with Claude Code's names.
pub fn sum_of_models(usage: RawField<'_>) -> Option<Usage> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Fields<'a> {
        #[serde(borrow, default)]
        input_tokens: RawField<'a>,
        #[serde(borrow, default)]
        output_tokens: RawField<'a>,
        #[serde(borrow, default)]
        cache_read_input_tokens: RawField<'a>,
        #[serde(borrow, default)]
        cache_creation_input_tokens: RawField<'a>,
    }
    let models: BTreeMap<String, &RawValue> = serde_json::from_str(usage?.get()).ok()?;
    let usages = models.values().filter_map(|model| {
        let fields: Fields<'_> = object(model.get().as_bytes())?;
        Some(usage_of([
            fields.input_tokens,
            fields.output_tokens,
            fields.cache_read_input_tokens,
            fields.cache_creation_input_tokens,
        ]))
    });
    usages.reduce(Usage::plus)
}
