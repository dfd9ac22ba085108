//! The parts of a secret that programs print without the rest: its lines, the values inside JSON, the
//! body of a PEM file.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::names::is_secret;

/// The shortest secret that is masked, in bytes: shorter ones occur by chance in many texts.
const MIN_SECRET_SIZE: usize = 4;
/// The shortest value under a secret name inside JSON, in bytes.
const MIN_NAMED_VALUE_SIZE: usize = 6;
/// The shortest line, and the shortest other value inside JSON, in bytes: the lines of a PEM body are
/// longer, braces and words like `service_account` are shorter.
const MIN_PART_SIZE: usize = 16;
/// How many levels are decoded: a base64 text that contains JSON that contains a PEM file has three.
const MAX_DEPTH: usize = 4;

/// The secret and all its parts.
pub(super) fn parts(secret: &str) -> BTreeSet<String> {
    let mut parts = BTreeSet::new();
    collect(secret, MIN_SECRET_SIZE, 0, &mut parts);
    parts
}

/// Adds the text as it is, the text without the white space around it, and its parts.
fn collect(text: &str, min_size: usize, depth: usize, parts: &mut BTreeSet<String>) {
    let trimmed = text.trim();
    for whole in [text, trimmed] {
        if whole.len() >= min_size && !whole.trim().is_empty() {
            parts.insert(whole.to_owned());
        }
    }
    if depth == MAX_DEPTH {
        return;
    }
    collect_lines(trimmed, parts);
    match serde_json::from_str(trimmed) {
        // A text that is a number or a word has no parts.
        Ok(value @ (Value::Object(_) | Value::Array(_) | Value::String(_))) => {
            collect_values(&value, MIN_PART_SIZE, depth, parts);
        }
        _ => {
            if let Some(decoded) = decode(trimmed) {
                collect(&decoded, MIN_PART_SIZE, depth + 1, parts);
            }
        }
    }
}

/// Adds the lines of a text, and the whole body of a PEM file. Environment files write line ends as `\n`.
fn collect_lines(text: &str, parts: &mut BTreeSet<String>) {
    collect_lines_as_written(text, parts);
    collect_lines_as_written(&text.replace("\\r", "").replace("\\n", "\n"), parts);
}

/// Like [`collect_lines`], but takes a backslash and a letter as they are.
fn collect_lines_as_written(text: &str, parts: &mut BTreeSet<String>) {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    if lines.len() < 2 {
        return;
    }
    // The first and the last line of a PEM file are the same in every file.
    let is_boundary = |line: &&str| line.starts_with("-----");
    let is_pem = lines.iter().any(is_boundary);
    for block in lines.split(is_boundary) {
        let long_lines = block.iter().filter(|line| line.len() >= MIN_PART_SIZE);
        parts.extend(long_lines.map(|line| (*line).to_owned()));
        if !is_pem || block.len() < 2 {
            continue;
        }
        // Tools print the body with other line ends, or without any. The last line may be too short
        // to be masked alone.
        for separator in ["", "\n", "\r\n", "\\n"] {
            let body = block.join(separator);
            if body.len() >= MIN_PART_SIZE {
                parts.insert(body);
            }
            let last_two = block[block.len() - 2..].join(separator);
            if last_two.len() >= MIN_PART_SIZE {
                parts.insert(last_two);
            }
        }
    }
}

/// Adds the values inside JSON. Every value belongs to the secret, but short ones are masked only under a
/// name that says that they are secret.
fn collect_values(value: &Value, min_size: usize, depth: usize, parts: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.len() >= min_size => collect(text, min_size, depth + 1, parts),
        Value::Number(number) if min_size == MIN_NAMED_VALUE_SIZE => {
            collect(&number.to_string(), min_size, MAX_DEPTH, parts);
        }
        Value::Array(values) => {
            for value in values {
                collect_values(value, min_size, depth, parts);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let min_size = if is_secret(name) {
                    MIN_NAMED_VALUE_SIZE
                } else {
                    min_size
                };
                collect_values(value, min_size, depth, parts);
            }
        }
        _ => {}
    }
}

/// Decodes a base64 secret; `None` if the result is not JSON or PEM.
fn decode(text: &str) -> Option<String> {
    let compact: String = text.split_whitespace().collect();
    let compact = compact.trim_end_matches('=');
    let bytes = STANDARD_NO_PAD.decode(compact);
    let bytes = bytes.or_else(|_| URL_SAFE_NO_PAD.decode(compact)).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let start = text.trim_start();
    (start.starts_with(['{', '[']) || start.starts_with("-----BEGIN")).then_some(text)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const BODY: [&str; 3] = [
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
        "MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu",
        "NMoSfm76oqFvAp8Gy0iz5sxj",
    ];

    fn pem(line_end: &str) -> String {
        let lines = ["-----BEGIN PRIVATE KEY-----"]
            .into_iter()
            .chain(BODY)
            .chain(["short=", "-----END PRIVATE KEY-----", ""]);
        lines.collect::<Vec<_>>().join(line_end)
    }

    #[track_caller]
    fn assert_has(secret: &str, expected: &[&str]) {
        let parts = parts(secret);
        for part in expected {
            assert!(parts.contains(*part), "{part} is not in {parts:#?}");
        }
    }

    #[test]
    fn the_values_inside_json_are_parts() {
        let json = serde_json::json!({
            "type": "service_account",
            "private_key": pem("\n"),
            "client_email": "worker@project-123.iam.gserviceaccount.com",
            "nested": [{"password": "hunter2", "pin_token": 123_456, "name": "short"}],
        });
        let json = json.to_string();
        let key = pem("\n");
        assert_has(
            &json,
            &[
                &json,
                &key,
                BODY[0],
                BODY[2],
                "hunter2",
                "123456",
                "worker@project-123.iam.gserviceaccount.com",
            ],
        );
        let parts = parts(&json);
        assert!(
            !parts.contains("service_account") && !parts.contains("short"),
            "{parts:#?}"
        );
    }

    #[test]
    fn base64_around_json_or_pem_is_decoded() {
        let json = serde_json::json!({"client_secret": "geheim-1"}).to_string();
        assert_has(&STANDARD.encode(&json), &["geheim-1", &json]);
        // The first alphabet has `+` and `/`, and some tools leave out the padding.
        let json = serde_json::json!({"client_secret": "geheim-1~~~???>>>"}).to_string();
        let encoded = STANDARD_NO_PAD.encode(&json);
        assert!(encoded.contains(['+', '/']) && STANDARD.decode(&encoded).is_err());
        assert_has(&encoded, &["geheim-1~~~???>>>", &json]);
        assert_has(&URL_SAFE_NO_PAD.encode(pem("\n")), &[BODY[1]]);
    }

    #[test]
    fn a_line_with_a_backslash_and_an_n_is_a_part_as_it_is_written() {
        let second = r"second\new-0123456789".replace("\\\\", "\\");
        let secret = format!("first-line-0123456789\n{second}");
        assert_has(&secret, &["first-line-0123456789", &second]);
    }

    #[test]
    fn the_body_of_a_pem_file_is_a_part_with_any_line_ends() {
        for line_end in ["\n", "\r\n", "\\n"] {
            let body: Vec<&str> = BODY.into_iter().chain(["short="]).collect();
            assert_has(
                &pem(line_end),
                &[
                    BODY[0],
                    BODY[1],
                    BODY[2],
                    &body.concat(),
                    &body.join("\n"),
                    &body[2..].join("\r\n"),
                ],
            );
            assert!(!parts(&pem(line_end)).contains("-----BEGIN PRIVATE KEY-----"));
        }
    }

    #[test]
    fn json_that_is_nested_in_strings_is_decoded_to_a_maximum_depth() {
        let mut text = "\"x\"".to_owned();
        for _ in 0..10 {
            text = serde_json::Value::from(text).to_string();
        }
        assert!(parts(&text).len() < 20);
    }
}
