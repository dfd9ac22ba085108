//! The redactor, against a slow model of it.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::SecretString;

use crate::redact::Redactor;
use crate::secrets::parts_of;

/// Masks a text that consists of arbitrary bytes and of secrets in their forms. The result must be that
/// of the model, wherever the text is cut.
pub fn redactor(data: &[u8]) {
    // Fails if there is too little data.
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
    let typed: Vec<SecretString> = secrets
        .iter()
        .map(|secret| SecretString::from(secret.as_str()))
        .collect();
    let redactor = Redactor::new(&typed);
    let mask = |chunk: usize| {
        let (mut stream, mut clean) = (redactor.stream(), Vec::new());
        for bytes in text.chunks(chunk) {
            stream.push(bytes, &mut |bytes| clean.extend_from_slice(bytes));
        }
        stream.finish(&mut |bytes| clean.extend_from_slice(bytes));
        (clean, stream.masked())
    };
    let whole = mask(text.len().max(1));
    assert_eq!(whole, masked_by_the_model(&text, &forms), "{secrets:?}");
    for chunk in [1, 3, input.int_in_range(1..=40).unwrap_or(2)] {
        assert_eq!(whole, mask(chunk), "{secrets:?} in chunks of {chunk}");
    }
    // The mask itself may belong to a secret with stars.
    if !forms.iter().any(|form| form.contains(&b'*')) {
        let clean = redactor.text(&String::from_utf8_lossy(&text));
        assert_eq!(
            clean,
            redactor.text(&clean),
            "nothing is left to be masked: {secrets:?}"
        );
    }
    Ok(())
}

fn secret(input: &mut Unstructured<'_>) -> Result<String> {
    let text = input.arbitrary::<&str>()?.to_owned();
    Ok(match input.int_in_range(0..=3)? {
        0 => serde_json::json!({ "password": text, "other": [text] }).to_string(),
        1 => format!("-----BEGIN KEY-----\n{text}\n{text}{text}\n-----END KEY-----\n"),
        _ => text,
    })
}

/// Some bytes, a secret, a form of it, or the beginning of one.
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

/// The encodings of a secret, by other means than the redactor's.
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
            forms.push(unchanging_base64(&engine, offset, part));
        }
    }
    forms
}

/// The characters of a base64 text that do not depend on the bytes around the secret.
fn unchanging_base64(engine: &impl Engine, offset: usize, part: &str) -> Vec<u8> {
    let encode = |around: u8| {
        let bytes = [&vec![around; offset][..], part.as_bytes(), &[around; 3]].concat();
        engine.encode(bytes).into_bytes()
    };
    let (one, other) = (encode(0), encode(0xFF));
    // The bytes before the secret change a prefix, the bytes after it a suffix.
    let first = (0..one.len())
        .find(|at| (offset * 8) <= at * 6)
        .unwrap_or(0);
    let last = (first..one.len())
        .find(|at| one[*at] != other[*at])
        .unwrap_or(one.len());
    one[first..last].to_vec()
}

/// Masks every byte that belongs to a form, each run once; and says whether there was one.
fn masked_by_the_model(text: &[u8], forms: &[Vec<u8>]) -> (Vec<u8>, bool) {
    let mut covered = vec![false; text.len()];
    for form in forms.iter().filter(|form| form.len() >= 3) {
        for at in 0..text.len() {
            if text[at..].starts_with(form) {
                covered[at..at + form.len()].fill(true);
            }
        }
    }
    let mut clean = Vec::new();
    for (at, byte) in text.iter().enumerate() {
        if !covered[at] {
            clean.push(*byte);
        } else if at == 0 || !covered[at - 1] {
            clean.extend_from_slice(b"***");
        }
    }
    (clean, covered.contains(&true))
}
