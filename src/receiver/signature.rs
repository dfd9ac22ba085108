//! Verifies the signature of a request as Standard Webhooks specifies it.

use hyper::HeaderMap;
use jiff::Timestamp;

use crate::webhook::SigningKey;

/// The maximum difference between the timestamp of a request and this machine's clock, in seconds.
const MAX_CLOCK_DIFFERENCE: u64 = 5 * 60;

/// Checks that one of the request's signatures was made with one of the keys, and that its timestamp is recent.
///
/// # Errors
/// If the signature is not accepted; the text says why.
pub fn verify(
    keys: &[SigningKey],
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<(), String> {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| {
            format!(
                "the request is not signed ({name} is missing): set DESCARTES_CALLBACK_SECRET for the worker"
            )
        })
    };
    let (id, signatures) = (header("webhook-id")?, header("webhook-signature")?);
    let timestamp = header("webhook-timestamp")?;
    let timestamp: i64 = timestamp
        .parse()
        .map_err(|_| format!("webhook-timestamp is {timestamp:?}, not a number of seconds"))?;
    let difference = now.as_second().abs_diff(timestamp);
    if difference > MAX_CLOCK_DIFFERENCE {
        return Err(format!(
            "webhook-timestamp differs from this machine's clock by {difference} s; at most {MAX_CLOCK_DIFFERENCE} s are accepted"
        ));
    }
    let is_signed = keys
        .iter()
        .any(|key| key.verify(id, timestamp, body, signatures));
    if is_signed {
        Ok(())
    } else {
        Err("no signature is right: worker and receiver have different secrets, or the body was changed".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: i64 = 1_614_265_330;

    fn verify_at(timestamp: &str, seconds_later: i64) -> Result<(), String> {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let headers = HeaderMap::from_iter([
            ("webhook-id".parse().unwrap(), "id".parse().unwrap()),
            (
                "webhook-timestamp".parse().unwrap(),
                timestamp.parse().unwrap(),
            ),
            (
                "webhook-signature".parse().unwrap(),
                key.sign("id", TIME, b"{}").parse().unwrap(),
            ),
        ]);
        let now = Timestamp::from_second(TIME + seconds_later).unwrap();
        verify(&[key], &headers, b"{}", now)
    }

    #[test]
    fn a_timestamp_may_differ_by_five_minutes_in_both_directions() {
        let time = TIME.to_string();
        for seconds_later in [-300, 0, 300] {
            assert_eq!(verify_at(&time, seconds_later), Ok(()));
        }
        for seconds_later in [-301, 301] {
            let why = verify_at(&time, seconds_later).unwrap_err();
            assert!(why.contains("by 301 s; at most 300 s"), "{why}");
        }
    }

    #[test]
    fn a_timestamp_that_differs_from_the_signed_timestamp_is_rejected() {
        let why = verify_at(&(TIME + 1).to_string(), 0).unwrap_err();
        assert!(why.starts_with("no signature is right"), "{why}");
        let why = verify_at("yesterday", 0).unwrap_err();
        assert!(why.contains("\"yesterday\", not a number"), "{why}");
    }
}
