//! Splits the output of git into records. The output may arrive in pieces of any size.
//!
//! A tree can contain a path of any length, so records longer than [`MAX_RECORD`] are cut off.

/// The longest record, in bytes. The longest path of Linux has 4 KiB.
const MAX_RECORD: usize = 64 * 1024;

/// Collects the parts of an output, and passes on the records in it.
#[derive(Debug)]
pub struct Records {
    separator: u8,
    partial: Vec<u8>,
}

impl Records {
    /// Each record ends with the byte `separator`.
    pub fn new(separator: u8) -> Self {
        Self {
            separator,
            partial: Vec::new(),
        }
    }

    /// Reads a part of the output, and calls `on_record` for each record that ends in it.
    pub fn push(&mut self, bytes: &[u8], mut on_record: impl FnMut(&[u8])) {
        let separator = self.separator;
        let mut parts = bytes.split(|byte| *byte == separator);
        self.extend(parts.next().unwrap_or_default());
        for part in parts {
            on_record(&self.partial);
            self.partial.clear();
            self.extend(part);
        }
    }

    fn extend(&mut self, part: &[u8]) {
        let room = MAX_RECORD - self.partial.len();
        self.partial
            .extend_from_slice(&part[..part.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_longer_than_any_path_is_cut_off_and_the_next_one_is_whole() {
        let (mut records, mut found) = (Records::new(0), Vec::new());
        for _ in 0..100 {
            records.push(&[b'x'; 10_000], |record| found.push(record.to_vec()));
        }
        records.push(b"\0next\0", |record| found.push(record.to_vec()));
        assert!(records.partial.capacity() <= 2 * MAX_RECORD);
        let lengths: Vec<usize> = found.iter().map(Vec::len).collect();
        assert_eq!(lengths, [MAX_RECORD, 4]);
    }
}
