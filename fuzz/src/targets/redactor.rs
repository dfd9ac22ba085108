//! The redactor, against a slow search for the forms that it must know.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::SecretString;

use crate::redact::Redactor;
use crate::secrets::parts_of;

/// Masks a text that consists of arbitrary bytes and of secrets in all their forms. For every size of the chunks, no form may be
/// left, and nothing else may be changed.
pub fn redactor(data: &[u8]) {
    // An error only says that the input is too short.
    let _ = check(&mut Unstructured::new(data));
}

fn check(input: &mut Unstructured<'_>) -> Result<()> {
    let mut secrets = Vec::new();
    for _ in 0..input.int_in_range(1..=3)? {
        secrets.push(secret(input)?);
    }
    let forms: Vec<Vec<u8>> = secrets
        .iter()
        .flat_map(|secret| parts_of(secret))
        .flat_map(|part| forms(&part))
        .collect();
    let mut text = Vec::new();
    for _ in 0..input.int_in_range(0..=8)? {
        text.extend(piece(input, &secrets, &forms)?);
    }
    let secret_strings: Vec<SecretString> = secrets
        .iter()
        .map(|secret| SecretString::from(secret.as_str()))
        .collect();
    let redactor = Redactor::new(&secret_strings);
    for chunk_size in [
        text.len().max(1),
        1,
        3,
        input.int_in_range(1..=40).unwrap_or(2),
    ] {
        let (mut stream, mut clean) = (redactor.stream(), Vec::new());
        for bytes in text.chunks(chunk_size) {
            stream.push(bytes, &mut |bytes| clean.extend_from_slice(bytes));
        }
        stream.finish(&mut |bytes| clean.extend_from_slice(bytes));
        assert!(
            !contains_a_form(&clean, &forms),
            "{secrets:?} in chunks of {chunk_size} bytes: {:?}",
            String::from_utf8_lossy(&clean)
        );
        assert!(
            text.contains(&b'*') || is_masked_text(&clean, &text),
            "{secrets:?} in chunks of {chunk_size} bytes: {:?} is not from {:?}",
            String::from_utf8_lossy(&clean),
            String::from_utf8_lossy(&text)
        );
        let has_masked = stream.has_masked();
        assert!(
            has_masked || clean == text,
            "{secrets:?} in chunks of {chunk_size} bytes"
        );
        assert!(
            has_masked || !contains_a_form(&text, &forms),
            "{secrets:?} in chunks of {chunk_size} bytes"
        );
    }
    Ok(())
}

/// A secret: any text, a JSON object, or a key of several lines.
fn secret(input: &mut Unstructured<'_>) -> Result<String> {
    let text = input.arbitrary::<&str>()?.to_owned();
    Ok(match input.int_in_range(0..=3)? {
        0 => serde_json::json!({ "password": text, "other": [text] }).to_string(),
        1 => format!("-----BEGIN KEY-----\n{text}\n{text}{text}\n-----END KEY-----\n"),
        _ => text,
    })
}

/// Some bytes, a secret, a form of a secret, or the beginning of a form.
fn piece(input: &mut Unstructured<'_>, secrets: &[String], forms: &[Vec<u8>]) -> Result<Vec<u8>> {
    Ok(match input.int_in_range(0..=4)? {
        0 => input.arbitrary::<&[u8]>()?.to_vec(),
        1 => input.choose(secrets)?.clone().into_bytes(),
        2 if !forms.is_empty() => input.choose(forms)?.clone(),
        3 if !forms.is_empty() => {
            let form = input.choose(forms)?;
            form[..input.int_in_range(0..=form.len())?].to_vec()
        }
        _ => input.arbitrary::<&str>()?.as_bytes().to_vec(),
    })
}

/// All forms of a part of a secret, made without the redactor's code.
fn forms(part: &str) -> Vec<Vec<u8>> {
    let quoted = serde_json::to_string(part).expect("JSON");
    let form: String = part
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'*' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect();
    let mut forms = vec![
        part.as_bytes().to_vec(),
        utf8_percent_encode(part, NON_ALPHANUMERIC)
            .to_string()
            .into_bytes(),
        form.into_bytes(),
        quoted[1..quoted.len() - 1].as_bytes().to_vec(),
    ];
    for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        for offset in 0..3 {
            forms.push(base64_of_part_alone(&engine, offset, part));
        }
    }
    forms
}

/// The characters of a base64 text that do not depend on the bytes around the secret.
fn base64_of_part_alone(engine: &impl Engine, offset: usize, part: &str) -> Vec<u8> {
    let encode_between = |filler: u8| {
        let bytes = [&vec![filler; offset][..], part.as_bytes(), &[filler; 3]].concat();
        engine.encode(bytes).into_bytes()
    };
    let (one, other) = (encode_between(0), encode_between(0xFF));
    // The bytes before the secret change a prefix, the bytes after it a suffix.
    let first = (0..one.len())
        .find(|at| (offset * 8) <= at * 6)
        .unwrap_or(0);
    let last = (first..one.len())
        .find(|at| one[*at] != other[*at])
        .unwrap_or(one.len());
    one[first..last].to_vec()
}

/// Whether a text contains a form that the redactor must mask. Forms with stars do not count: the mask itself has stars.
fn contains_a_form(text: &[u8], forms: &[Vec<u8>]) -> bool {
    let mut forms = forms
        .iter()
        .filter(|form| form.len() >= 3 && !form.contains(&b'*'));
    forms.any(|form| text.windows(form.len()).any(|window| window == form))
}

/// Whether `clean` is `text` with some parts replaced by the mask. `text` must have no stars.
fn is_masked_text(clean: &[u8], text: &[u8]) -> bool {
    let clean = clean
        .iter()
        .map(|byte| char::from(*byte))
        .collect::<String>();
    let text = text
        .iter()
        .map(|byte| char::from(*byte))
        .collect::<String>();
    let mut rest = text.as_str();
    clean.split("***").all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}
