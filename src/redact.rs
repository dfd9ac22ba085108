//! Masks secrets in everything that leaves the worker: output, logs, reports.
//!
//! Only known secrets are masked, with their parts (lines, values inside JSON), also in URL, JSON and base64
//! encoding. A text that only looks like a secret stays, with one exception: [`Redactor::text`] masks the user
//! part of URLs.

pub mod names;
mod parts;
mod search;

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use search::Forms;
use secrecy::{ExposeSecret, SecretString};

/// The characters that form data and URLs (WHATWG) encode.
const URL: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'*');

/// Replaces a secret.
const MASK: &str = "***";

/// Masks a set of secrets; cheap to clone.
#[derive(Clone)]
pub struct Redactor(Arc<RwLock<Secrets>>);

/// The secrets, and the finders of their forms.
struct Secrets {
    secrets: Vec<SecretString>,
    finders: Arc<Finders>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let forms = self.finders().plain.as_ref().map_or(0, Forms::len);
        write!(f, "Redactor({forms} forms)")
    }
}

impl Redactor {
    pub fn new(secrets: &[SecretString]) -> Self {
        Self(Arc::new(RwLock::new(Secrets {
            secrets: secrets.to_vec(),
            finders: Arc::new(Finders::of(secrets)),
        })))
    }

    /// Masks one more secret from now on, also in streams that have begun.
    pub fn add(&self, secret: SecretString) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.secrets.push(secret);
        known.finders = Arc::new(Finders::of(&known.secrets));
    }

    fn finders(&self) -> Arc<Finders> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.finders.clone()
    }

    /// A text without secrets, and without the user part of any URL in it.
    pub fn text(&self, text: &str) -> String {
        let mut clean = Vec::with_capacity(text.len());
        let mut stream = self.stream();
        stream.push(text.as_bytes(), &mut |bytes| clean.extend_from_slice(bytes));
        stream.finish(&mut |bytes| clean.extend_from_slice(bytes));
        without_url_users(&String::from_utf8_lossy(&clean))
    }

    /// Masks the strings of a JSON value one by one: a secret of digits must not break a number.
    pub fn json(&self, value: &mut serde_json::Value) {
        use serde_json::Value;
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.json(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.json(value)),
            _ => {}
        }
    }

    /// Masks a stream of output that arrives in chunks.
    pub fn stream(&self) -> Stream {
        Stream {
            redactor: self.clone(),
            held_back: Vec::new(),
            secret_bytes: 0,
            has_just_masked: false,
            has_masked: false,
        }
    }
}

/// Masks one stream. Holds back only bytes that may be the beginning of a secret.
pub struct Stream {
    redactor: Redactor,
    /// The last bytes of the input: a proper prefix of a form of a secret.
    held_back: Vec<u8>,
    /// How many bytes at the beginning of `held_back` belong to a secret that was already found.
    secret_bytes: usize,
    /// The last output was a mask, and the masked bytes directly precede those in `held_back`.
    has_just_masked: bool,
    /// The stream contained a secret.
    has_masked: bool,
}

impl Stream {
    /// Whether the stream contained a secret so far.
    pub fn masked(&self) -> bool {
        self.has_masked
    }

    /// Reads the next bytes and passes the safe ones to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) {
        let finders = self.redactor.finders();
        if finders.plain.is_none() {
            return out(bytes);
        }
        if self.held_back.is_empty() {
            self.pass(&finders, bytes, finders.unfinished(bytes), out);
        } else {
            let mut joined = std::mem::take(&mut self.held_back);
            joined.extend_from_slice(bytes);
            self.pass(&finders, &joined, finders.unfinished(&joined), out);
        }
    }

    /// Ends the stream: the bytes that were held back are not the beginning of a secret.
    pub fn finish(&mut self, out: &mut dyn FnMut(&[u8])) {
        let finders = self.redactor.finders();
        let held = std::mem::take(&mut self.held_back);
        self.pass(&finders, &held, held.len(), out);
        self.has_just_masked = false;
    }

    /// Passes on the bytes before `hold` and holds back the rest; `bytes` begin with the held bytes.
    fn pass(&mut self, finders: &Finders, bytes: &[u8], hold: usize, out: &mut dyn FnMut(&[u8])) {
        // Bytes before `at` have been passed on; bytes before `secret_end` belong to a secret.
        let (mut at, mut secret_end) = (0, self.secret_bytes);
        for span in finders.spans(bytes) {
            // A secret that begins in the held part is found again when that part is passed on.
            if span.start >= hold {
                break;
            }
            if span.start > secret_end {
                self.emit(&bytes[at..span.start], secret_end.saturating_sub(at), out);
                at = span.start;
            }
            secret_end = secret_end.max(span.end);
        }
        self.emit(
            &bytes[at..hold],
            secret_end.min(hold).saturating_sub(at),
            out,
        );
        self.secret_bytes = secret_end.saturating_sub(hold);
        self.held_back = bytes[hold..].to_vec();
    }

    /// Passes on `bytes`; the first `secret_end` of them belong to a secret.
    fn emit(&mut self, bytes: &[u8], secret_end: usize, out: &mut dyn FnMut(&[u8])) {
        if secret_end > 0 && !self.has_just_masked {
            out(MASK.as_bytes());
            self.has_just_masked = true;
            self.has_masked = true;
        }
        if secret_end < bytes.len() {
            out(&bytes[secret_end..]);
            self.has_just_masked = false;
        }
    }
}

/// Finds the forms of secrets, also in base64 texts that are broken into lines.
struct Finders {
    /// `None` if there is no secret.
    plain: Option<Forms>,
    /// The base64 forms, for bytes without line ends.
    base64: Option<Forms>,
}

/// How much of a base64 form at the end of a chunk is held back across a line end, in bytes. A shorter
/// beginning would hold back half of all lines; the forms without their first bytes find the rest.
const MIN_BROKEN_PREFIX: usize = 4;

/// Longer secrets are not searched across line ends, which would need too much memory.
const MAX_BROKEN_FORM: usize = 16 * 1024;
/// A line end counts as one inside base64 after at least this many of its characters.
const MIN_BROKEN_LINE: usize = 16;

impl Finders {
    fn of(secrets: &[SecretString]) -> Self {
        let secrets = secrets.iter().map(ExposeSecret::expose_secret);
        let (mut plain, mut base64) = (Vec::new(), Vec::new());
        for part in secrets.flat_map(parts::parts) {
            plain.extend(plain_forms(&part));
            let forms = base64_forms(&part);
            let searchable = 3 * MIN_BROKEN_PREFIX..=MAX_BROKEN_FORM;
            for form in forms.iter().filter(|form| searchable.contains(&form.len())) {
                // What follows a line end after the first few bytes, which were passed on.
                let rests = (1..MIN_BROKEN_PREFIX).map(|from| form[from..].to_vec());
                plain.extend(rests.clone());
                base64.push(form.clone());
                base64.extend(rests);
            }
            plain.extend(forms);
        }
        Self {
            plain: Forms::new(plain),
            base64: Forms::new(base64),
        }
    }

    /// The ranges of secrets, sorted by their beginning.
    fn spans(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut spans = self
            .plain
            .as_ref()
            .map_or_else(Vec::new, |forms| forms.spans(bytes));
        if let Some((forms, text)) = self.unbroken(bytes) {
            let broken = forms.spans(&text.bytes).into_iter();
            spans.extend(broken.map(|span| text.places[span.start]..text.places[span.end - 1] + 1));
            spans.sort_by_key(|span| span.start);
        }
        spans
    }

    /// The position of the last bytes, which may be the beginning of a secret.
    fn unfinished(&self, bytes: &[u8]) -> usize {
        let plain = self.plain.as_ref();
        let plain = plain.map_or(bytes.len(), |forms| forms.unfinished(bytes));
        let Some((forms, text)) = self.unbroken(bytes) else {
            return plain;
        };
        let from = forms.unfinished(&text.bytes);
        if text.bytes.len() - from < MIN_BROKEN_PREFIX {
            return plain;
        }
        plain.min(text.places[from])
    }

    /// The bytes without line ends, if they have any line ends.
    fn unbroken(&self, bytes: &[u8]) -> Option<(&Forms, Unbroken)> {
        let forms = self.base64.as_ref()?;
        has_broken_base64(bytes).then(|| (forms, Unbroken::of(bytes)))
    }
}

/// Whether one of the lines could be a line of a base64 text. The bytes may begin in the middle of a line.
fn has_broken_base64(bytes: &[u8]) -> bool {
    let is_base64 = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    // A line feed may follow a carriage return at the end.
    let last = bytes.len().saturating_sub(1);
    let last_return = bytes.ends_with(b"\r").then_some(last);
    let mut line_ends = memchr::memchr_iter(b'\n', bytes).chain(last_return);
    line_ends.any(|place| {
        let line = bytes[..place]
            .strip_suffix(b"\r")
            .unwrap_or(&bytes[..place]);
        let end = line.iter().rev().take(MIN_BROKEN_LINE);
        let length = end.take_while(is_base64).count();
        length == line.len().min(MIN_BROKEN_LINE)
    })
}

/// Bytes without line ends.
struct Unbroken {
    bytes: Vec<u8>,
    /// The original position of each byte.
    places: Vec<usize>,
}

impl Unbroken {
    fn of(bytes: &[u8]) -> Self {
        let mut unbroken = Self {
            bytes: Vec::with_capacity(bytes.len()),
            places: Vec::with_capacity(bytes.len()),
        };
        let mut from = 0;
        for end in memchr::memchr2_iter(b'\n', b'\r', bytes).chain([bytes.len()]) {
            unbroken.bytes.extend_from_slice(&bytes[from..end]);
            unbroken.places.extend(from..end);
            from = end + 1;
        }
        unbroken
    }
}

/// The encodings in which a secret may appear, without base64.
fn plain_forms(secret: &str) -> Vec<Vec<u8>> {
    let json = |text: &str| {
        let quoted = serde_json::Value::from(text).to_string();
        quoted[1..quoted.len() - 1].to_owned()
    };
    let all = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    let url = utf8_percent_encode(secret, URL).to_string();
    // JSON and shells escape quotes and line ends; JSON inside JSON does it twice.
    let quoted = json(secret);
    let twice = json(&quoted);
    let slashes = quoted.replace('/', "\\/");
    let slashes_twice = json(&slashes);
    let texts = [
        secret.to_owned(),
        lower_case_escapes(&all),
        lower_case_escapes(&url),
        all,
        url,
        quoted,
        twice,
        slashes,
        slashes_twice,
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

/// The parts of a base64 text that show that the text contains the secret: for each offset and both alphabets.
fn base64_forms(secret: &str) -> Vec<Vec<u8>> {
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

/// `https://user:password@host` becomes `https://***@host`. A user without password is masked for http
/// and https only, because it is a token there; the user in `ssh://git@host` is not secret.
fn without_url_users(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let authority = after
            .find(|c: char| c.is_whitespace() || "/?#\"'<>`".contains(c))
            .unwrap_or(after.len());
        let http = before.ends_with("http://") || before.ends_with("https://");
        match after[..authority].rfind('@') {
            Some(user) if http || after[..user].contains(':') => {
                clean.push_str(MASK);
                rest = &after[user..];
            }
            _ => rest = after,
        }
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        let secrets: Vec<SecretString> = secrets
            .iter()
            .map(|secret| SecretString::from(*secret))
            .collect();
        Redactor::new(&secrets)
    }

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
        let shown = redactor.text(&format!(
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
                    for n in [1, 7, 4096] {
                        let chunks: Vec<&[u8]> = text.as_bytes().chunks(n).collect();
                        let clean = mask_chunks(&redactor, &chunks);
                        let clean = String::from_utf8(clean).unwrap().replace(['\n', '\r'], "");
                        // A line end after fewer than four of its characters may leave those.
                        let core =
                            &encoded[(offset + 3) * 4 / 3 + 2..(offset + secret.len()) * 4 / 3];
                        for piece in core.as_bytes().windows(8) {
                            let piece = str::from_utf8(piece).unwrap();
                            assert!(
                                !clean.contains(piece),
                                "{piece} of {text:?} in {clean} offset {offset} column {column} chunks {n}"
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
            let shown = redactor.text(text);
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
        redactor.add(SecretString::from("later-secret"));
        stream.push(b"later-secret ", &mut |bytes| {
            clean.extend_from_slice(bytes);
        });
        stream.finish(&mut |bytes| clean.extend_from_slice(bytes));
        assert_eq!(clean, b"later-secret *** ");
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
        let pem =
            format!("-----BEGIN PRIVATE KEY-----\n{line}\nshort=\n-----END PRIVATE KEY-----\n");
        let redactor = redactor(&[&pem]);
        assert_eq!(redactor.text(&format!("key:\n{pem}.")), "key:\n***.");
        assert_eq!(redactor.text(&format!("  {line}\r\n")), "  ***\r\n");
        assert_eq!(
            redactor.text("-----BEGIN PRIVATE KEY-----"),
            "-----BEGIN PRIVATE KEY-----"
        );
    }

    #[test]
    fn a_value_inside_a_json_secret_is_masked_when_it_is_printed_decoded() {
        let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nqhkiG9w0\n-----END PRIVATE KEY-----\n";
        let secret = serde_json::json!({"type": "service_account", "private_key": key}).to_string();
        let redactor = redactor(&[&secret]);
        assert_eq!(redactor.text(&format!("<{key}>")), "<***>");
        assert_eq!(
            redactor.text("<MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nqhkiG9w0>"),
            "<***>"
        );
        assert_eq!(
            redactor.text("<MIIEvQIBADANBgkqhkiG9w0BAQEFAASCqhkiG9w0>"),
            "<***>"
        );
        assert_eq!(redactor.text("service_account"), "service_account");
    }

    #[test]
    fn a_secret_is_masked_without_the_white_space_around_it() {
        assert_eq!(redactor(&["hunter2!\n"]).text("<hunter2!>"), "<***>");
    }

    #[test]
    fn an_empty_secret_masks_nothing() {
        for nothing in ["", " ", "\n\n", "ab"] {
            assert_eq!(redactor(&[nothing]).text("a b\n\nab"), "a b\n\nab");
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
        let shown = redactor
            .text("clone https://bot:pw@git.example/x failed, see https://git.example/@user:x");
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
            prop_assert_eq!(whole, masked_naively(&text, &secrets));
        }
    }

    /// A slow implementation to compare with: masks every byte that belongs to a secret, each run once.
    fn masked_naively(text: &str, secrets: &[&str]) -> String {
        let mut secret_end = vec![false; text.len()];
        for start in 0..text.len() {
            for secret in secrets {
                if text[start..].starts_with(secret) {
                    secret_end[start..start + secret.len()].fill(true);
                }
            }
        }
        let mut clean = String::new();
        for (index, letter) in text.char_indices() {
            if !secret_end[index] {
                clean.push(letter);
            } else if index == 0 || !secret_end[index - 1] {
                clean.push_str(MASK);
            }
        }
        clean
    }
}
