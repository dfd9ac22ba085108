//! Finds many byte strings in a stream, at the speed of the stream.
//!
//! Wu and Manber's search: most of the time a look at three bytes allows to skip as many as the
//! shortest form is long. An automaton would look at each byte, and needs many times the memory of
//! the forms. Knows nothing of what the forms mean.

use std::collections::HashMap;
use std::ops::Range;

/// How many bytes are looked at to decide how far to skip; also the shortest form there can be,
/// because shorter ones would be found everywhere.
const BLOCK: usize = 3;
/// A block is hashed to so many bits.
const BITS: u32 = 16;

/// What to look for.
pub(super) struct Forms {
    /// In order, each once.
    forms: Vec<Vec<u8>>,
    longest: usize,
    /// How much of each form the search goes by: the length of the shortest.
    width: usize,
    /// By the hash of a block: how far the end of a window that ends with it may move at least.
    shifts: Vec<u8>,
    /// By the hash of the block that ends their window: the forms.
    ending: HashMap<usize, Vec<usize>>,
    /// One bit for each pair of bytes: whether some form begins with it.
    openings: Vec<u64>,
}

impl Forms {
    /// `None` where there is nothing to look for.
    pub(super) fn new(mut forms: Vec<Vec<u8>>) -> Option<Self> {
        forms.retain(|form| form.len() >= BLOCK);
        forms.sort_unstable();
        forms.dedup();
        let shortest = forms.iter().map(Vec::len).min()?;
        let width = shortest.min(usize::from(u8::MAX));
        let farthest = u8::try_from(width - BLOCK + 1).unwrap_or(u8::MAX);
        let mut search = Self {
            longest: forms.iter().map(Vec::len).max()?,
            width,
            shifts: vec![farthest; 1 << BITS],
            ending: HashMap::new(),
            openings: vec![0; (1 << 16) / 64],
            forms: Vec::new(),
        };
        for (index, form) in forms.iter().enumerate() {
            let (word, bit) = opening(form[0], form[1]);
            search.openings[word] |= bit;
            // From the window's end to its beginning, the shift grows by one.
            for (shift, block) in (0..).zip(form[..width].windows(BLOCK).rev()) {
                let known = &mut search.shifts[hash(block)];
                *known = shift.min(*known);
            }
            let last = hash(&form[width - BLOCK..width]);
            search.ending.entry(last).or_default().push(index);
        }
        Some(Self { forms, ..search })
    }

    pub(super) fn len(&self) -> usize {
        self.forms.len()
    }

    /// Where forms are: by their beginning, joined where they overlap or touch.
    pub(super) fn spans(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut spans: Vec<Range<usize>> = Vec::new();
        let mut end = self.width;
        while let Some(block) = bytes.get(end - BLOCK..end) {
            let hash = hash(block);
            let shift = self.shifts[hash];
            if shift > 0 {
                end += usize::from(shift);
                continue;
            }
            let start = end - self.width;
            let forms = self.ending.get(&hash).map_or(&[][..], Vec::as_slice);
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

    /// Where the longest end of `bytes` begins that is the beginning of some form.
    pub(super) fn unfinished(&self, bytes: &[u8]) -> usize {
        let first = bytes.len().saturating_sub(self.longest - 1);
        (first..bytes.len())
            .find(|from| self.begins_a_form(&bytes[*from..]))
            .unwrap_or(bytes.len())
    }

    fn begins_a_form(&self, end: &[u8]) -> bool {
        if let [first, second, ..] = end {
            let (word, bit) = opening(*first, *second);
            if self.openings[word] & bit == 0 {
                return false;
            }
        }
        // The forms that begin with `end` and are longer stand right behind where it would stand.
        let next = self.forms.partition_point(|form| form.as_slice() <= end);
        let next = self.forms.get(next);
        next.is_some_and(|form| form.starts_with(end))
    }
}

fn hash(block: &[u8]) -> usize {
    let [first, second, third] = [block[0], block[1], block[2]].map(u32::from);
    let mixed = (first | second << 8 | third << 16).wrapping_mul(0x9E37_79B1);
    (mixed >> (u32::BITS - BITS)) as usize
}

/// The word and the bit of a pair of bytes.
fn opening(first: u8, second: u8) -> (usize, u64) {
    let pair = usize::from(first) << 8 | usize::from(second);
    (pair / 64, 1 << (pair % 64))
}
