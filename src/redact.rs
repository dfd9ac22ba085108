//! Masks secrets in everything that leaves the worker: output, logs, reports.
//!
//! Only known secrets are masked, with their parts (lines, values inside JSON), also in URL, JSON and base64
//! encoding. A text that only looks like a secret stays, with one exception: [`Redactor::mask`] masks the user
//! part of URLs.

mod encodings;
mod finders;
pub mod names;
mod parts;
mod search;
mod terminal_codes;
#[cfg(test)]
mod tests;
mod url_credentials;

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use secrecy::SecretString;

use finders::Finders;
use terminal_codes::without_terminal_codes;
use url_credentials::without_url_credentials;

/// Replaces a secret.
const MASK: &str = "***";

/// How many short-lived secrets are masked at the same time. A worker gets an identity token a minute at most, and each
/// is valid for about ten minutes.
const MAX_SHORT_LIVED_SECRETS: usize = 20;

/// Masks a set of secrets; cheap to clone.
#[derive(Clone)]
pub struct Redactor(Arc<RwLock<Secrets>>);

/// The secrets, and the finders of their forms: the byte strings in which they may appear.
struct Secrets {
    secrets: Vec<SecretString>,
    /// Secrets that expire soon, the newest last; at most [`MAX_SHORT_LIVED_SECRETS`].
    short_lived: VecDeque<SecretString>,
    finders: Arc<Finders>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let forms = self.finders().number_of_forms();
        write!(f, "Redactor({forms} forms)")
    }
}

impl Redactor {
    pub fn new(secrets: &[SecretString]) -> Self {
        Self(Arc::new(RwLock::new(Secrets {
            secrets: secrets.to_vec(),
            short_lived: VecDeque::new(),
            finders: Arc::new(Finders::of(secrets)),
        })))
    }

    /// Masks one more secret from now on, also in existing streams. Only the last [`MAX_SHORT_LIVED_SECRETS`] of these
    /// are masked, so that memory and time stay bounded.
    pub fn add_short_lived(&self, secret: SecretString) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if state.short_lived.len() == MAX_SHORT_LIVED_SECRETS {
            state.short_lived.pop_front();
        }
        state.short_lived.push_back(secret);
        let secrets = state.secrets.iter().chain(&state.short_lived);
        let finders = Finders::of(secrets);
        state.finders = Arc::new(finders);
    }

    fn finders(&self) -> Arc<Finders> {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        state.finders.clone()
    }

    /// A text without secrets, and without the user part of any URL in it. If a terminal code is in the middle of a
    /// secret, all terminal codes are removed.
    pub fn mask(&self, text: &str) -> String {
        let masked = self.mask_as_stream(text);
        let Some(plain) = without_terminal_codes(&masked) else {
            return masked;
        };
        let masked_plain = self.mask_as_stream(&plain);
        if masked_plain == plain {
            masked
        } else {
            masked_plain
        }
    }

    fn mask_as_stream(&self, text: &str) -> String {
        let mut clean = Vec::with_capacity(text.len());
        let mut stream = self.stream();
        stream.push(text.as_bytes(), &mut |bytes| clean.extend_from_slice(bytes));
        stream.finish(&mut |bytes| clean.extend_from_slice(bytes));
        without_url_credentials(&String::from_utf8_lossy(&clean), MASK)
    }

    /// Masks the strings of a JSON value one by one: a secret of digits must not break a number.
    pub fn mask_json(&self, value: &mut serde_json::Value) {
        use serde_json::Value;
        match value {
            Value::String(text) => *text = self.mask(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.mask_json(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.mask_json(value)),
            _ => {}
        }
    }

    /// Masks a stream of output that arrives in chunks.
    pub fn stream(&self) -> StreamMasker {
        StreamMasker {
            redactor: self.clone(),
            held_back: Vec::new(),
            secret_bytes: 0,
            has_just_masked: false,
            has_masked: false,
        }
    }
}

/// Masks one stream. Holds back only bytes that may be the beginning of a secret.
pub struct StreamMasker {
    redactor: Redactor,
    /// The last bytes of the input: a proper prefix of a form of a secret.
    held_back: Vec<u8>,
    /// How many bytes at the beginning of `held_back` belong to a secret that was already found.
    secret_bytes: usize,
    /// Whether the last output was a mask whose bytes directly precede those in `held_back`. If so, the next bytes of
    /// a secret need no other mask.
    has_just_masked: bool,
    /// Whether the stream contained a secret so far.
    has_masked: bool,
}

impl StreamMasker {
    /// Whether the stream contained a secret so far.
    pub fn has_masked(&self) -> bool {
        self.has_masked
    }

    /// Reads the next bytes and passes the safe ones to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) {
        let finders = self.redactor.finders();
        if finders.are_empty() {
            return out(bytes);
        }
        if self.held_back.is_empty() {
            self.pass_on(
                &finders,
                bytes,
                finders.start_of_unfinished_form(bytes),
                out,
            );
        } else {
            let mut joined = std::mem::take(&mut self.held_back);
            joined.extend_from_slice(bytes);
            self.pass_on(
                &finders,
                &joined,
                finders.start_of_unfinished_form(&joined),
                out,
            );
        }
    }

    /// Ends the stream: the bytes that were held back are not the beginning of a secret.
    pub fn finish(&mut self, out: &mut dyn FnMut(&[u8])) {
        let finders = self.redactor.finders();
        let held_back = std::mem::take(&mut self.held_back);
        self.pass_on(&finders, &held_back, held_back.len(), out);
        self.has_just_masked = false;
    }

    /// Passes on the bytes before the position `hold_from`, and holds back the rest. `bytes` begin with the bytes that
    /// were held back before.
    fn pass_on(
        &mut self,
        finders: &Finders,
        bytes: &[u8],
        hold_from: usize,
        out: &mut dyn FnMut(&[u8]),
    ) {
        // Bytes before `passed_on` have been passed on; bytes between it and `secret_end` belong to a secret.
        let (mut passed_on, mut secret_end) = (0, self.secret_bytes);
        for span in finders.spans(bytes) {
            // A secret that begins in the part that is held back is found again when that part is passed on.
            if span.start >= hold_from {
                break;
            }
            if span.start > secret_end {
                self.emit(
                    &bytes[passed_on..span.start],
                    secret_end.saturating_sub(passed_on),
                    out,
                );
                passed_on = span.start;
            }
            secret_end = secret_end.max(span.end);
        }
        self.emit(
            &bytes[passed_on..hold_from],
            secret_end.min(hold_from).saturating_sub(passed_on),
            out,
        );
        self.secret_bytes = secret_end.saturating_sub(hold_from);
        self.held_back = bytes[hold_from..].to_vec();
    }

    /// Passes on `bytes`, but a mask instead of the first `secret_end` ones, which belong to a secret.
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
