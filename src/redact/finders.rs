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

/// How much of a base64 form at the end of a chunk is held back across a line end, in bytes. A shorter
/// beginning would hold back half of all lines; the forms without their first bytes find the rest.
const MIN_BROKEN_PREFIX: usize = 4;

/// Longer secrets are not searched across line ends, which would need too much memory.
const MAX_BROKEN_FORM: usize = 16 * 1024;
/// A line end counts as one inside base64 after at least this many of its characters.
const MIN_BROKEN_LINE: usize = 16;

impl Finders {
    pub fn of(secrets: &[SecretString]) -> Self {
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

    /// Whether there is no secret.
    pub fn are_empty(&self) -> bool {
        self.plain.is_none()
    }

    pub fn number_of_forms(&self) -> usize {
        self.plain.as_ref().map_or(0, Forms::len)
    }

    /// The ranges of secrets, sorted by their beginning.
    pub fn spans(&self, bytes: &[u8]) -> Vec<Range<usize>> {
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
    pub fn unfinished(&self, bytes: &[u8]) -> usize {
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
    let is_line_end = |(place, byte): &(usize, &u8)| match **byte {
        b'\n' => true,
        b'\r' => place + 1 == bytes.len(),
        _ => false,
    };
    let mut line_ends = bytes.iter().enumerate().filter(is_line_end);
    line_ends.any(|(place, _)| {
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
        let kept = bytes.iter().enumerate();
        let kept = kept.filter(|(_, byte)| !matches!(byte, b'\n' | b'\r'));
        let (places, bytes) = kept.map(|(place, byte)| (place, *byte)).unzip();
        Self { bytes, places }
    }
}
