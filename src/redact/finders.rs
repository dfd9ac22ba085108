//! Finds secrets in bytes, also in base64 texts that are broken into lines.

use std::ops::Range;

use secrecy::{ExposeSecret, SecretString};

use super::encodings::{base64_forms, plain_forms};
use super::parts;
use super::search::Forms;

/// Finds the forms of secrets, also in base64 texts that are broken into lines.
pub struct Finders {
    /// `None` if there is no secret.
    plain: Option<Forms>,
    /// The base64 forms, for bytes without line ends.
    base64: Option<Forms>,
}

/// The shortest beginning of a base64 form at the end of a chunk that is held back if it contains a line end, in bytes.
/// With a lower limit, half of all lines would be held back. Forms without their first bytes find the rest of a form
/// whose beginning was passed on.
const MIN_BROKEN_PREFIX_SIZE: usize = 4;

/// Longer base64 forms, in bytes, are not searched across line ends, which would need too much memory.
const MAX_BROKEN_FORM_SIZE: usize = 16 * 1024;
/// How many base64 characters before a line end show that the line may belong to a base64 text. A shorter line must
/// have no other characters.
const MIN_BROKEN_LINE_SIZE: usize = 16;

impl Finders {
    /// The finders of these secrets and of their parts, in every encoding.
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Self {
        let secrets = secrets.into_iter().map(ExposeSecret::expose_secret);
        let (mut plain, mut base64) = (Vec::new(), Vec::new());
        for part in secrets.flat_map(parts::parts) {
            plain.extend(plain_forms(&part));
            let forms = base64_forms(&part);
            let searchable = 3 * MIN_BROKEN_PREFIX_SIZE..=MAX_BROKEN_FORM_SIZE;
            for form in forms.iter().filter(|form| searchable.contains(&form.len())) {
                // A line end may come after the first few bytes of a form, which were passed on by then. The rest of
                // the form follows.
                let tails = (1..MIN_BROKEN_PREFIX_SIZE).map(|from| form[from..].to_vec());
                plain.extend(tails.clone());
                base64.push(form.clone());
                base64.extend(tails);
            }
            plain.extend(forms);
        }
        Self {
            plain: Forms::new(plain),
            base64: Forms::new(base64),
        }
    }

    /// Whether there is no secret to find.
    pub fn are_empty(&self) -> bool {
        self.plain.is_none()
    }

    /// How many byte strings are searched for.
    pub fn number_of_forms(&self) -> usize {
        self.plain.as_ref().map_or(0, Forms::len)
    }

    /// The ranges of secrets, sorted by their beginning.
    pub fn spans(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut spans = self
            .plain
            .as_ref()
            .map_or_else(Vec::new, |forms| forms.spans(bytes));
        if let Some((forms, text)) = self.base64_without_line_ends(bytes) {
            let broken = forms.spans(&text.bytes).into_iter();
            spans.extend(
                broken.map(|span| text.positions[span.start]..text.positions[span.end - 1] + 1),
            );
            spans.sort_by_key(|span| span.start);
        }
        spans
    }

    /// The position of the last bytes, which may be the beginning of a secret.
    pub fn start_of_unfinished_form(&self, bytes: &[u8]) -> usize {
        let plain = self.plain.as_ref();
        let plain = plain.map_or(bytes.len(), |forms| forms.start_of_unfinished_form(bytes));
        let Some((forms, text)) = self.base64_without_line_ends(bytes) else {
            return plain;
        };
        let from = forms.start_of_unfinished_form(&text.bytes);
        if text.bytes.len() - from < MIN_BROKEN_PREFIX_SIZE {
            return plain;
        }
        plain.min(text.positions[from])
    }

    /// The base64 forms, and the bytes without line ends; `None` if the bytes cannot be broken base64.
    fn base64_without_line_ends(&self, bytes: &[u8]) -> Option<(&Forms, WithoutLineEnds)> {
        let forms = self.base64.as_ref()?;
        has_broken_base64(bytes).then(|| (forms, WithoutLineEnds::of(bytes)))
    }
}

/// Whether one of the lines could be a line of a base64 text. The bytes may begin in the middle of a line.
fn has_broken_base64(bytes: &[u8]) -> bool {
    let is_base64 = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    // A line feed may follow a carriage return at the end.
    let last = bytes.len().saturating_sub(1);
    let last_return = bytes.ends_with(b"\r").then_some(last);
    let mut line_ends = memchr::memchr_iter(b'\n', bytes).chain(last_return);
    line_ends.any(|position| {
        let line = bytes[..position]
            .strip_suffix(b"\r")
            .unwrap_or(&bytes[..position]);
        let end = line.iter().rev().take(MIN_BROKEN_LINE_SIZE);
        let length = end.take_while(is_base64).count();
        length == line.len().min(MIN_BROKEN_LINE_SIZE)
    })
}

/// Bytes without line ends.
struct WithoutLineEnds {
    bytes: Vec<u8>,
    /// The original position of each byte.
    positions: Vec<usize>,
}

impl WithoutLineEnds {
    fn of(bytes: &[u8]) -> Self {
        let mut result = Self {
            bytes: Vec::with_capacity(bytes.len()),
            positions: Vec::with_capacity(bytes.len()),
        };
        let mut from = 0;
        for end in memchr::memchr2_iter(b'\n', b'\r', bytes).chain([bytes.len()]) {
            result.bytes.extend_from_slice(&bytes[from..end]);
            result.positions.extend(from..end);
            from = end + 1;
        }
        result
    }
}
