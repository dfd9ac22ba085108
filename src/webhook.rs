//! Signatures of HTTP messages as Standard Webhooks 1.0.0 specifies them: made and verified.
//!
//! The worker signs what it sends; the receiver verifies what it gets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// What Standard Webhooks writes before a symmetric secret.
const PREFIX: &str = "whsec_";
/// The allowed length of a secret, in bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret of Standard Webhooks; its bytes cannot be printed.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

impl SigningKey {
    /// `whsec_` and base64; the error says what would be right, and nothing of the secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let encoded = text
            .strip_prefix(PREFIX)
            .ok_or("does not begin with whsec_")?;
        let bytes = STANDARD
            .decode(encoded)
            .map_err(|_| "is not base64 after whsec_")?;
        if !SECRET_BYTES.contains(&bytes.len()) {
            return Err(format!("is {} bytes long; 24 to 64 are right", bytes.len()));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The value of the `webhook-signature` header for one message; `timestamp` is Unix time in seconds.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_that_standard_webhooks_gives_as_its_example() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = key.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_is_none_says_what_would_be_right() {
        let error = |text: &str| SigningKey::parse(text).unwrap_err();
        assert_eq!(error("hunter2"), "does not begin with whsec_");
        assert_eq!(error("whsec_???"), "is not base64 after whsec_");
        assert_eq!(
            error("whsec_c2hvcnQ="),
            "is 5 bytes long; 24 to 64 are right"
        );
    }
}
