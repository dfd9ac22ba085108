//! Reads the maximum cost of a request from its body. No I/O.

use serde::Deserialize;

use super::ledger::RequestCost;
use crate::model::UpperBound;

/// The longest answer that is assumed if the request sets no limit, in tokens.
const MAX_OUTPUT_TOKENS: u64 = 128_000;

/// The fields that are read from a request. A field that occurs twice is an error, because some servers use its
/// first value and others the last.
#[derive(Deserialize)]
struct RequestFields {
    model: String,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    /// The number of requested answers.
    n: Option<u64>,
}

/// Reads the maximum cost of a request.
///
/// # Errors
/// If the body is not a JSON object or names no model, or if one of its fields has a wrong type or occurs twice.
pub fn read(body: &[u8]) -> Result<RequestCost, String> {
    let fields: RequestFields = serde_json::from_slice(body).map_err(|error| {
        format!("the request cannot be read, so its cost cannot be limited: {error}")
    })?;
    let limits = [
        fields.max_tokens,
        fields.max_completion_tokens,
        fields.max_output_tokens,
    ];
    let largest_limit = limits.into_iter().flatten().max();
    let output_tokens = largest_limit
        .unwrap_or(MAX_OUTPUT_TOKENS)
        .saturating_mul(fields.n.unwrap_or(1).max(1));
    Ok(RequestCost {
        model: fields.model,
        upper_bound: UpperBound::of_request(body.len(), output_tokens),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_costs_at_most_its_bytes_and_the_longest_answer_it_allows() {
        let output = |body: &str| read(body.as_bytes()).unwrap().upper_bound.output_tokens;
        assert_eq!(output(r#"{"model":"m","max_tokens":7}"#), 7);
        assert_eq!(output(r#"{"model":"m","max_output_tokens":8,"n":3}"#), 24);
        assert_eq!(output(r#"{"model":"m"}"#), MAX_OUTPUT_TOKENS);
        let cost = read(br#"{"messages":[{"max_tokens":1}],"model":"m","max_tokens":7}"#).unwrap();
        assert_eq!(
            (cost.model.as_str(), cost.upper_bound.input_tokens),
            ("m", 5_058)
        );
    }

    #[test]
    fn a_body_that_is_ambiguous_or_not_a_request_is_rejected() {
        for body in [
            r#"{"model":"cheap","model":"expensive"}"#,
            r#"{"model":"m","max_tokens":1,"max_tokens":9}"#,
            r#"{"max_tokens":1}"#,
            r#"{"model":"m","max_tokens":"many"}"#,
            r#"{"model":"m"} {}"#,
            "",
        ] {
            let error = read(body.as_bytes()).unwrap_err();
            assert!(error.starts_with("the request cannot be read"), "{error}");
        }
    }
}
