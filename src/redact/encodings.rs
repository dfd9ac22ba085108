//! The encodings in which a secret may appear.

use base64::Engine;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The characters that are percent-encoded in form data and URLs (WHATWG).
const ENCODED_IN_URLS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'*');

/// A secret in the encodings in which it may appear, except base64.
pub fn plain_forms(secret: &str) -> Vec<Vec<u8>> {
    let json = |text: &str| {
        let quoted = serde_json::Value::from(text).to_string();
        quoted[1..quoted.len() - 1].to_owned()
    };
    let all_encoded = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    let url_encoded = utf8_percent_encode(secret, ENCODED_IN_URLS).to_string();
    // JSON and shells escape quotes and line ends; JSON inside JSON does it twice.
    let json_encoded = json(secret);
    let json_in_json = json(&json_encoded);
    let slashes_escaped = json_encoded.replace('/', "\\/");
    let slashes_escaped_in_json = json(&slashes_escaped);
    let texts = [
        secret.to_owned(),
        lower_case_escapes(&all_encoded),
        lower_case_escapes(&url_encoded),
        all_encoded,
        url_encoded,
        json_encoded,
        json_in_json,
        slashes_escaped,
        slashes_escaped_in_json,
    ];
    texts.into_iter().map(String::into_bytes).collect()
}

/// A percent-encoded text with `%2f` instead of `%2F`.
fn lower_case_escapes(text: &str) -> String {
    let mut digits = 0;
    let lower = text.chars().map(|c| {
        if c == '%' {
            digits = 2;
            return c;
        }
        if digits == 0 {
            return c;
        }
        digits -= 1;
        c.to_ascii_lowercase()
    });
    lower.collect()
}

/// The parts of base64 texts that depend only on the secret: for each offset of the secret in a group of three bytes,
/// and for both alphabets.
pub fn base64_forms(secret: &str) -> Vec<Vec<u8>> {
    let alphabets = [&alphabet::STANDARD, &alphabet::URL_SAFE];
    let engines =
        alphabets.map(|alphabet| GeneralPurpose::new(alphabet, GeneralPurposeConfig::new()));
    let forms = engines
        .iter()
        .flat_map(|engine| (0..3).map(|offset| base64_core(engine, offset, secret)));
    forms.collect()
}

/// The characters of a base64 text that depend only on the secret, if the secret begins `offset` bytes after the
/// beginning of a group of three bytes.
fn base64_core(engine: &GeneralPurpose, offset: usize, secret: &str) -> Vec<u8> {
    let mut bytes = vec![0; offset];
    bytes.extend_from_slice(secret.as_bytes());
    // The first and the last character may depend on neighbouring bytes too.
    let first = (offset * 8).div_ceil(6);
    let last = bytes.len() * 8 / 6;
    engine.encode(&bytes).as_bytes()[first..last].to_vec()
}
