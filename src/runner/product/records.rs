//! Records between separators, from a stream that is cut anywhere.
//!
//! Knows nothing of what they hold. The one writer is git, whose records are paths and numbers, so
//! there is no cap but the longest path.

#[derive(Debug)]
pub struct Records {
    separator: u8,
    partial: Vec<u8>,
}

impl Records {
    pub fn new(separator: u8) -> Self {
        Self {
            separator,
            partial: Vec::new(),
        }
    }

    pub fn push(&mut self, bytes: &[u8], mut record: impl FnMut(&[u8])) {
        let mut parts = bytes.split(|byte| *byte == self.separator);
        self.partial
            .extend_from_slice(parts.next().unwrap_or_default());
        for part in parts {
            record(&std::mem::replace(&mut self.partial, part.to_vec()));
        }
    }
}
