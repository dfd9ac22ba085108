//! What git prints: records, raw diffs, words.

use crate::git::trouble::Trouble;
use crate::git::words::{quote, without_progress};
use crate::runner::product::entries::entries_of_raw_diff;
use crate::runner::product::left_behind::LeftBehind;
use crate::runner::product::lfs::pointer::Pointer;
use crate::runner::product::records::Records;

pub fn git_output(data: &[u8]) {
    check_records(data);
    check_words(&String::from_utf8_lossy(data));
    if let Some(pointer) = Pointer::parse(data) {
        assert_eq!(pointer.oid.len(), 64);
    }
}

/// The size of the chunks does not change the records. Joined, they are the input up to the last separator.
fn check_records(data: &[u8]) {
    let read = |chunk: usize| {
        let (mut records, mut found) = (Records::new(0), Vec::new());
        for bytes in data.chunks(chunk) {
            records.push(bytes, |record: &[u8]| found.push(record.to_vec()));
        }
        found
    };
    let whole = read(data.len().max(1));
    assert_eq!(whole, read(1));
    assert_eq!(whole, read(5));
    let joined: Vec<u8> = whole
        .iter()
        .flat_map(|record| [record, &[0][..]].concat())
        .collect();
    assert!(data.starts_with(&joined));
    for entry in entries_of_raw_diff(&whole) {
        assert!(whole.contains(&entry.path));
        // One record for `git update-index -z`: a second one would change another file.
        let line = entry.index_info_of_old();
        assert_eq!(line.iter().filter(|byte| **byte == 0).count(), 1);
        assert!(line.ends_with(&[&entry.path[..], &[0]].concat()));
        let _ = (entry.is_file(), entry.is_submodule(), entry.new_gitlink());
    }
}

fn check_words(text: &str) {
    let words = without_progress(text);
    assert!(words.lines().all(|line| !line.is_empty()));
    assert_eq!(
        words,
        without_progress(&words),
        "a second call leaves out nothing more"
    );
    let trouble = Trouble::of(&words);
    let names_trouble = |line: &str| !Trouble::of(line).is_transient();
    let quote = quote(&words, names_trouble);
    assert_eq!(quote.is_empty(), words.is_empty(), "{words:?}");
    assert!(!quote.contains('\n'));
    assert!(!trouble.is_transient() || trouble.phrase().is_none());
    let mut left = LeftBehind::default();
    left.add_words(text);
    assert!(
        left.incomplete().is_none(),
        "these words name no changed file"
    );
    assert!(left.notes().iter().all(|note| !note.is_empty()));
}
