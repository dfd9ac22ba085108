//! Git's output: records, raw diffs, error messages.

use crate::git::error_kind::GitErrorKind;
use crate::git::error_output::{most_useful_lines, without_progress};
use crate::runner::product::entries::entries_of_raw_diff;
use crate::runner::product::left_behind::LeftBehind;
use crate::runner::product::lfs::pointer::Pointer;
use crate::runner::product::records::Records;

pub fn git_output(data: &[u8]) {
    check_records(data);
    check_messages(&String::from_utf8_lossy(data));
    if let Some(pointer) = Pointer::parse(data) {
        assert_eq!(pointer.oid.len(), 64);
    }
}

/// The size of the chunks does not change the records. Joined, they are the input up to the last separator.
fn check_records(data: &[u8]) {
    let read = |chunk_size: usize| {
        let (mut records, mut found) = (Records::new(0), Vec::new());
        for bytes in data.chunks(chunk_size) {
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

fn check_messages(text: &str) {
    let messages = without_progress(text);
    assert!(messages.lines().all(|line| !line.is_empty()));
    assert_eq!(
        messages,
        without_progress(&messages),
        "a second call leaves out nothing more"
    );
    let kind = GitErrorKind::of(&messages);
    let names_cause = |line: &str| !GitErrorKind::of(line).is_transient();
    let quote = most_useful_lines(&messages, names_cause);
    assert_eq!(quote.is_empty(), messages.is_empty(), "{messages:?}");
    assert!(!quote.contains('\n'));
    assert!(!kind.is_transient() || kind.phrase().is_none());
    let mut left_behind = LeftBehind::default();
    left_behind.add_errors_of_git_add(text);
    assert!(
        left_behind.incomplete_reason().is_none(),
        "these words name no changed file"
    );
    assert!(left_behind.notes().iter().all(|note| !note.is_empty()));
}
