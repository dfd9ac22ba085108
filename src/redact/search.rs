//! Finds many byte strings ("forms") in one pass.
//!
//! This is the algorithm of Wu and Manber: usually three bytes show that as many bytes as the shortest form
//! has can be skipped. An automaton would read each byte, and needs many times the memory of the forms.

use std::collections::HashMap;
use std::ops::Range;

/// The number of bytes that decide how far to skip. Shorter forms are not searched.
const BLOCK_SIZE: usize = 3;
/// The number of bits of a block's hash.
const HASH_BITS: u32 = 16;

/// The byte strings to find.
pub(super) struct Forms {
    /// Sorted, without duplicates.
    forms: Vec<Vec<u8>>,
    /// The length of the longest form, in bytes.
    longest: usize,
    /// The length of the shortest form: the search compares this many bytes of each form first.
    window_size: usize,
    /// For the hash of each block: how far a window that ends with this block can move without missing a form.
    shifts: Vec<u8>,
    /// For the hash of each block: the indexes of the forms whose window (their first `window_size` bytes) ends with
    /// this block.
    forms_by_last_block: HashMap<usize, Vec<usize>>,
    /// One bit for each pair of bytes: whether a form begins with it.
    first_pairs: Vec<u64>,
}

impl Forms {
    /// `None` if no form is long enough to be searched.
    pub(super) fn new(mut forms: Vec<Vec<u8>>) -> Option<Self> {
        forms.retain(|form| form.len() >= BLOCK_SIZE);
        forms.sort_unstable();
        forms.dedup();
        let shortest = forms.iter().map(Vec::len).min()?;
        let window_size = shortest.min(usize::from(u8::MAX));
        let farthest = u8::try_from(window_size - BLOCK_SIZE + 1).unwrap_or(u8::MAX);
        let mut search = Self {
            longest: forms.iter().map(Vec::len).max()?,
            window_size,
            shifts: vec![farthest; 1 << HASH_BITS],
            forms_by_last_block: HashMap::new(),
            first_pairs: vec![0; (1 << 16) / 64],
            forms: Vec::new(),
        };
        for (index, form) in forms.iter().enumerate() {
            let (index_of_pair, bit) = pair_bit(form[0], form[1]);
            search.first_pairs[index_of_pair] |= bit;
            // The shift grows by one for each byte between a block and the end of the window.
            for (shift, block) in (0..).zip(form[..window_size].windows(BLOCK_SIZE).rev()) {
                let stored_shift = &mut search.shifts[hash([block[0], block[1], block[2]])];
                *stored_shift = shift.min(*stored_shift);
            }
            let last_block = &form[window_size - BLOCK_SIZE..window_size];
            let last_block = hash([last_block[0], last_block[1], last_block[2]]);
            search
                .forms_by_last_block
                .entry(last_block)
                .or_default()
                .push(index);
        }
        Some(Self { forms, ..search })
    }

    pub(super) fn len(&self) -> usize {
        self.forms.len()
    }

    /// The ranges of the forms in `bytes`, sorted; ranges that overlap or touch are joined.
    pub(super) fn spans(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut spans: Vec<Range<usize>> = Vec::new();
        let mut end = self.window_size;
        while let Some(&[first, second, third]) = bytes.get(end - BLOCK_SIZE..end) {
            let hash = hash([first, second, third]);
            let shift = self.shifts[hash];
            if shift > 0 {
                end += usize::from(shift);
                continue;
            }
            let start = end - self.window_size;
            let forms = self
                .forms_by_last_block
                .get(&hash)
                .map_or(&[][..], Vec::as_slice);
            let found = forms.iter().map(|index| &self.forms[*index]);
            let found = found.filter(|form| bytes[start..].starts_with(form));
            if let Some(longest) = found.map(Vec::len).max() {
                match spans.last_mut() {
                    Some(last) if start <= last.end => last.end = last.end.max(start + longest),
                    _ => spans.push(start..start + longest),
                }
            }
            end += 1;
        }
        spans
    }

    /// The beginning of the longest suffix of `bytes` that is a prefix of a form.
    pub(super) fn start_of_unfinished_form(&self, bytes: &[u8]) -> usize {
        let first = bytes.len().saturating_sub(self.longest - 1);
        (first..bytes.len())
            .find(|from| self.begins_a_form(&bytes[*from..]))
            .unwrap_or(bytes.len())
    }

    /// Whether a longer form begins with these bytes.
    fn begins_a_form(&self, end: &[u8]) -> bool {
        if let [first, second, ..] = end {
            let (index, bit) = pair_bit(*first, *second);
            if self.first_pairs[index] & bit == 0 {
                return false;
            }
        }
        // In the sorted list, the longer forms with this prefix directly follow the position of `end`.
        let next = self.forms.partition_point(|form| form.as_slice() <= end);
        let next = self.forms.get(next);
        next.is_some_and(|form| form.starts_with(end))
    }
}

/// The hash of a block. Always inlined, because the search calls it for every few bytes of all output, and the program
/// is otherwise optimized for size.
#[expect(
    clippy::inline_always,
    reason = "measured: otherwise a tenth of the time of masking is spent on the calls"
)]
#[inline(always)]
fn hash([first, second, third]: [u8; BLOCK_SIZE]) -> usize {
    let mixed = u32::from_le_bytes([first, second, third, 0]).wrapping_mul(0x9E37_79B1);
    (mixed >> (u32::BITS - HASH_BITS)) as usize
}

/// The index in [`Forms::first_pairs`] and the bit for a pair of bytes.
fn pair_bit(first: u8, second: u8) -> (usize, u64) {
    let pair = usize::from(first) << 8 | usize::from(second);
    (pair / 64, 1 << (pair % 64))
}
