//! Tests that secrets are masked in all encodings, in chunks of any size.

use proptest::prelude::*;

use base64::Engine;
use secrecy::SecretString;

use super::{MASK, MAX_SHORT_LIVED_SECRETS, Redactor};

fn redactor(secrets: &[&str]) -> Redactor {
    let secrets: Vec<SecretString> = secrets
        .iter()
        .map(|secret| SecretString::from(*secret))
        .collect();
    Redactor::new(&secrets)
}

/// Masks a stream that arrives in these chunks.
fn mask_chunks(redactor: &Redactor, chunks: &[&[u8]]) -> Vec<u8> {
    let mut clean = Vec::new();
    let mut stream = redactor.stream();
    for chunk in chunks {
        stream.push(chunk, &mut |bytes| clean.extend_from_slice(bytes));
    }
    stream.finish(&mut |bytes| clean.extend_from_slice(bytes));
    clean
}

#[test]
fn a_secret_is_masked_in_all_its_forms() {
    let redactor = redactor(&["hunter/2+zwölf\"x"]);
    let base64 = base64::engine::general_purpose::STANDARD;
    let encoded = base64.encode("user:hunter/2+zwölf\"x");
    let shown = redactor.mask(&format!(
        "a hunter/2+zwölf\"x b hunter%2F2%2Bzw%C3%B6lf%22x c {encoded} d {}",
        serde_json::json!({"k": "hunter/2+zwölf\"x"})
    ));
    let user = base64.encode("user:");
    assert!(shown.starts_with("a *** b *** c "), "{shown}");
    assert!(shown.ends_with(r#"d {"k":"***"}"#), "{shown}");
    assert!(shown.contains(&user[..6]), "{shown}");
    assert!(!shown.contains(&encoded[8..]), "{shown}");
}

#[test]
fn a_secret_is_masked_in_base64_that_is_broken_into_lines_at_any_column_and_offset() {
    let secret = "sk-ant-0123456789-abcdefghijklmnop";
    let redactor = redactor(&[secret]);
    let base64 = base64::engine::general_purpose::STANDARD;
    for offset in 0..60 {
        let encoded = base64.encode(format!("{}{secret} and more", "x".repeat(offset)));
        for column in [20, 64, 76] {
            let lines: Vec<String> = encoded
                .as_bytes()
                .chunks(column)
                .map(|line| String::from_utf8(line.to_vec()).unwrap())
                .collect();
            for separator in ["\n", "\r\n"] {
                let text = lines.join(separator) + separator;
                for chunk_size in [1, 7, 4096] {
                    let chunks: Vec<&[u8]> = text.as_bytes().chunks(chunk_size).collect();
                    let clean = mask_chunks(&redactor, &chunks);
                    let clean = String::from_utf8(clean).unwrap().replace(['\n', '\r'], "");
                    // Fewer than four characters before or after a line end may stay.
                    let core = &encoded[(offset + 3) * 4 / 3 + 2..(offset + secret.len()) * 4 / 3];
                    for piece in core.as_bytes().windows(8) {
                        let piece = str::from_utf8(piece).unwrap();
                        assert!(
                            !clean.contains(piece),
                            "{piece} of {text:?} in {clean} offset {offset} column {column} chunks of {chunk_size}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_secret_is_masked_with_lower_case_escapes_escaped_slashes_and_as_json_in_json() {
    let redactor = redactor(&["pass/word\"+x"]);
    let json = serde_json::json!({"k": "pass/word\"+x"}).to_string();
    let twice = serde_json::json!({"body": json}).to_string();
    for text in [
        "pass%2fword%22%2bx",
        r#"pass\/word\"+x"#,
        json.as_str(),
        twice.as_str(),
    ] {
        let shown = redactor.mask(text);
        assert!(shown.contains("***") && !shown.contains("word"), "{shown}");
    }
}

#[test]
fn a_secret_that_is_added_later_is_masked_in_streams_that_have_begun() {
    let redactor = redactor(&["first-secret"]);
    let mut stream = redactor.stream();
    let mut clean = Vec::new();
    stream.push(b"later-secret ", &mut |bytes| {
        clean.extend_from_slice(bytes);
    });
    redactor.add_short_lived(SecretString::from("later-secret"));
    stream.push(b"later-secret ", &mut |bytes| {
        clean.extend_from_slice(bytes);
    });
    stream.finish(&mut |bytes| clean.extend_from_slice(bytes));
    assert_eq!(clean, b"later-secret *** ");
}

#[test]
fn the_newest_short_lived_secrets_are_masked_and_the_number_of_forms_is_bounded() {
    let redactor = redactor(&["long-lived-secret"]);
    let token = |number: usize| format!("identity-token-{number:06}");
    let add = |number| redactor.add_short_lived(SecretString::from(token(number)));
    (0..MAX_SHORT_LIVED_SECRETS).for_each(add);
    let forms = redactor.finders().number_of_forms();
    let last = 3 * MAX_SHORT_LIVED_SECRETS;
    (MAX_SHORT_LIVED_SECRETS..=last).for_each(add);
    // Tokens of one length can have different numbers of forms.
    assert!(redactor.finders().number_of_forms() < 2 * forms);
    for number in last + 1 - MAX_SHORT_LIVED_SECRETS..=last {
        assert_eq!(redactor.mask(&token(number)), MASK);
    }
    assert_eq!(redactor.mask("long-lived-secret"), MASK);
}

#[test]
fn text_that_is_not_a_secret_is_passed_on_at_once() {
    let redactor = redactor(&["secret-value"]);
    let mut stream = redactor.stream();
    let mut clean = Vec::new();
    stream.push(b"hello\n", &mut |bytes| clean.extend_from_slice(bytes));
    assert_eq!(clean, b"hello\n");
    stream.push(b"my se", &mut |bytes| clean.extend_from_slice(bytes));
    assert_eq!(clean, b"hello\nmy ");
    stream.push(b"al!", &mut |bytes| clean.extend_from_slice(bytes));
    assert_eq!(clean, b"hello\nmy seal!");
}

#[test]
fn overlapping_secrets_are_masked_as_one() {
    let redactor = redactor(&["abcdef", "abcdefghijkl", "efghij"]);
    assert_eq!(mask_chunks(&redactor, &[b"xabcdef", b"ghijklx"]), b"x***x");
    assert_eq!(mask_chunks(&redactor, &[b"abcdefghijx"]), b"***x");
}

#[test]
fn a_secret_of_several_lines_is_masked_line_by_line() {
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC";
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{line}\nshort=\n-----END PRIVATE KEY-----\n");
    let redactor = redactor(&[&pem]);
    assert_eq!(redactor.mask(&format!("key:\n{pem}.")), "key:\n***.");
    assert_eq!(redactor.mask(&format!("  {line}\r\n")), "  ***\r\n");
    assert_eq!(
        redactor.mask("-----BEGIN PRIVATE KEY-----"),
        "-----BEGIN PRIVATE KEY-----"
    );
}

#[test]
fn a_value_inside_a_json_secret_is_masked_when_it_is_printed_decoded() {
    let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nqhkiG9w0\n-----END PRIVATE KEY-----\n";
    let secret = serde_json::json!({"type": "service_account", "private_key": key}).to_string();
    let redactor = redactor(&[&secret]);
    assert_eq!(redactor.mask(&format!("<{key}>")), "<***>");
    assert_eq!(
        redactor.mask("<MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nqhkiG9w0>"),
        "<***>"
    );
    assert_eq!(
        redactor.mask("<MIIEvQIBADANBgkqhkiG9w0BAQEFAASCqhkiG9w0>"),
        "<***>"
    );
    assert_eq!(redactor.mask("service_account"), "service_account");
}

#[test]
fn a_secret_is_masked_without_the_white_space_around_it() {
    assert_eq!(redactor(&["hunter2!\n"]).mask("<hunter2!>"), "<***>");
}

#[test]
fn a_secret_with_a_terminal_code_in_it_is_masked_in_a_text() {
    let redactor = redactor(&["supersecretvalue123"]);
    for text in [
        "key supersecret\x1b[0mvalue123 end",
        // As `excerpt::visible` shows it.
        "key supersecret\u{241b}[0mvalue123 end",
        "\u{9b}1mkey \x1b[32msupersecret\x1b[0m\x1b[Kvalue123\x1b[0m end",
    ] {
        assert_eq!(redactor.mask(text), "key *** end", "{text:?}");
    }
}

#[test]
fn terminal_codes_stay_if_no_secret_is_hidden_by_them() {
    let redactor = redactor(&["supersecretvalue123"]);
    let text = "\x1b[31mred\x1b[0m \u{241b}[0m \x1b supersecret value123";
    assert_eq!(redactor.mask(text), text);
    let text = redactor.mask("\x1b[31msupersecretvalue123\x1b[0m");
    assert_eq!(text, "\x1b[31m***\x1b[0m");
    // The result has no control characters that the text did not have.
    let text = redactor.mask("\u{241b} supersecret\u{241b}[0mvalue123");
    assert_eq!(text, "\u{241b} ***");
}

#[test]
fn an_empty_or_very_short_secret_masks_nothing() {
    for secret in ["", " ", "\n\n", "ab"] {
        assert_eq!(redactor(&[secret]).mask("a b\n\nab"), "a b\n\nab");
    }
}

#[test]
fn a_huge_secret_is_masked_in_pieces_of_any_size() {
    let huge: String = (0..100_000u32)
        .map(|n| char::from_digit((n.wrapping_mul(n) >> 9) & 31, 36).unwrap())
        .collect();
    let redactor = redactor(&[&huge]);
    for size in [777, 4096, 65_536] {
        let text = format!("<{huge}>{}", &huge[..50_000]);
        let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
        let expected = format!("<***>{}", &huge[..50_000]);
        assert!(
            mask_chunks(&redactor, &chunks) == expected.as_bytes(),
            "{size}"
        );
    }
}

#[test]
fn the_user_part_of_a_url_is_masked() {
    let redactor = redactor(&[]);
    let shown =
        redactor.mask("clone https://bot:pw@git.example/x failed, see https://git.example/@user:x");
    assert_eq!(
        shown,
        "clone https://***@git.example/x failed, see https://git.example/@user:x"
    );
}

proptest! {
    #[test]
    fn a_secret_is_masked_wherever_the_stream_is_cut(
        secrets in prop::collection::vec("[ab]{6,9}", 1..4),
        text in "[abc]{0,60}",
        cuts in prop::collection::vec(0usize..60, 0..8),
    ) {
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let redactor = redactor(&secrets);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
        let split = String::from_utf8(mask_chunks(&redactor, &chunks)).unwrap();
        for secret in &secrets {
            prop_assert!(!split.contains(secret), "{secret} in {split}");
        }
        // The output does not depend on the cuts, and all other bytes stay.
        let whole = String::from_utf8(mask_chunks(&redactor, &[text.as_bytes()])).unwrap();
        prop_assert_eq!(&split, &whole);
        prop_assert_eq!(whole, mask_naively(&text, &secrets));
    }
}

/// A slow implementation to compare with: masks every byte that belongs to a secret, each run once.
fn mask_naively(text: &str, secrets: &[&str]) -> String {
    let mut is_secret = vec![false; text.len()];
    for start in 0..text.len() {
        for secret in secrets {
            if text[start..].starts_with(secret) {
                is_secret[start..start + secret.len()].fill(true);
            }
        }
    }
    let mut clean = String::new();
    for (index, letter) in text.char_indices() {
        if !is_secret[index] {
            clean.push(letter);
        } else if index == 0 || !is_secret[index - 1] {
            clean.push_str(MASK);
        }
    }
    clean
}
