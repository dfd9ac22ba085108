//! Signatures of HTTP messages as Standard Webhooks 1.0.0 specifies them.
//!
//! The worker signs its requests; the receiver verifies them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// The prefix of a secret.
const SECRET_PREFIX: &str = "whsec_";
/// The prefix of an HMAC signature. Signatures with other prefixes use public keys; they are ignored.
const SIGNATURE_PREFIX: &str = "v1,";
/// The allowed length of a decoded secret, in bytes.
const SECRET_LENGTH: std::ops::RangeInclusive<usize> = 24..=64;
/// How to make a secret, for error messages.
const HOW_TO_MAKE_A_SECRET: &str =
    "make one with: printf 'whsec_%s\\n' \"$(openssl rand -base64 32)\"";

/// A secret of Standard Webhooks. Its bytes cannot be printed.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

impl SigningKey {
    /// Reads `whsec_` and base64. The error says what is expected and shows nothing of the secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let encoded = text
            .strip_prefix(SECRET_PREFIX)
            .ok_or_else(|| format!("must begin with whsec_; {HOW_TO_MAKE_A_SECRET}"))?;
        let bytes = STANDARD
            .decode(encoded)
            .map_err(|_| format!("must be base64 after whsec_; {HOW_TO_MAKE_A_SECRET}"))?;
        if !SECRET_LENGTH.contains(&bytes.len()) {
            let length = bytes.len();
            return Err(format!(
                "has {length} bytes after whsec_, but must have 24 to 64; {HOW_TO_MAKE_A_SECRET}"
            ));
        }
        Ok(Self::new(&bytes))
    }

    /// A key from decoded bytes, of any length.
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The value of the header `webhook-signature`; `timestamp` is Unix time in seconds.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signature = hmac::sign(&self.0, &signed_content(id, timestamp, body));
        format!("{SIGNATURE_PREFIX}{}", STANDARD.encode(signature))
    }

    /// Whether one of the signatures in a header `webhook-signature` (separated by spaces) was made
    /// with this key. Compares in constant time. The caller checks the age of the timestamp.
    pub fn verify(&self, id: &str, timestamp: i64, body: &[u8], signatures: &str) -> bool {
        let content = signed_content(id, timestamp, body);
        let signatures = signatures.split(' ');
        let mut signatures = signatures.filter_map(|text| text.strip_prefix(SIGNATURE_PREFIX));
        signatures.any(|encoded| {
            let signature = STANDARD.decode(encoded);
            signature.is_ok_and(|signature| hmac::verify(&self.0, &content, &signature).is_ok())
        })
    }
}

/// The bytes that a signature covers.
fn signed_content(id: &str, timestamp: i64, body: &[u8]) -> Vec<u8> {
    let mut content = format!("{id}.{timestamp}.").into_bytes();
    content.extend_from_slice(body);
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn the_example_of_the_specification_gets_the_signature_that_it_shows() {
        let key = SigningKey::parse(SECRET).unwrap();
        assert_eq!(key.sign(ID, TIME, BODY), SIGNATURE);
    }

    #[test]
    fn one_valid_signature_among_several_is_enough() {
        let key = SigningKey::parse(SECRET).unwrap();
        let wrong = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        for signatures in [
            SIGNATURE.to_owned(),
            format!("{wrong} {SIGNATURE}"),
            format!("v1a,{wrong} v1,??? {SIGNATURE} {wrong}"),
        ] {
            assert!(key.verify(ID, TIME, BODY, &signatures), "{signatures}");
        }
    }

    #[test]
    fn a_signature_of_another_message_or_with_another_key_is_rejected() {
        let key = SigningKey::parse(SECRET).unwrap();
        assert!(!key.verify("msg_other", TIME, BODY, SIGNATURE));
        assert!(!key.verify(ID, TIME + 1, BODY, SIGNATURE));
        assert!(!key.verify(ID, TIME, b"{}", SIGNATURE));
        let unprefixed = &SIGNATURE["v1,".len()..];
        for signatures in ["", "v1,", "v1", unprefixed, &SIGNATURE.replace("v1", "v2")] {
            assert!(!key.verify(ID, TIME, BODY, signatures), "{signatures}");
        }
        let other = SigningKey::parse("whsec_YW5vdGhlciBzZWNyZXQgb2YgYSBnb29kIGxlbmd0aA==");
        assert!(!other.unwrap().verify(ID, TIME, BODY, SIGNATURE));
    }

    #[test]
    fn the_error_for_a_malformed_secret_says_what_is_wrong() {
        let error = |text: &str| SigningKey::parse(text).unwrap_err();
        assert_eq!(
            error("hunter2"),
            "must begin with whsec_; make one with: printf 'whsec_%s\\n' \"$(openssl rand -base64 32)\""
        );
        assert!(error("whsec_???").starts_with("must be base64 after whsec_; "));
        assert!(
            error("whsec_c2hvcnQ=")
                .starts_with("has 5 bytes after whsec_, but must have 24 to 64; ")
        );
    }
}
