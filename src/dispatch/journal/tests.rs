//! Tests of the file format: lines that are cut off, malformed, or written by other versions; and of the lock.

use super::*;

fn records(count: i64) -> Vec<Record> {
    let entry = |run: String| Entry::Granted {
        run,
        lease_ms: 1,
        claimed_at: None,
    };
    let record = |at| Record {
        at,
        entry: entry(format!("run-{at}\n\"")),
    };
    (0..count).map(record).collect()
}

#[test]
fn a_journal_that_is_cut_off_at_any_byte_keeps_its_complete_lines() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    journal.append(&records(3)).unwrap();
    drop(journal);
    let complete = fs::read(dir.path().join(JOURNAL_FILE)).unwrap();
    for length in 0..=complete.len() {
        fs::write(dir.path().join(JOURNAL_FILE), &complete[..length]).unwrap();
        let (mut journal, found) = Journal::open(dir.path()).unwrap();
        let lines = complete[..length].iter().filter(|byte| **byte == b'\n');
        assert_eq!(
            found,
            records(3)[..lines.count()],
            "cut off at byte {length}"
        );
        journal.append(&records(1)).unwrap();
        drop(journal);
        let (_, again) = Journal::open(dir.path()).unwrap();
        assert_eq!(again.len(), found.len() + 1, "cut off at byte {length}");
    }
}

#[test]
fn a_last_line_of_a_newer_version_is_an_error_and_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(JOURNAL_FILE);
    let line = "{\"at\":1,\"entry\":\"entry_of_a_newer_version\"}\n";
    fs::write(&path, line).unwrap();
    let error = Journal::open(dir.path()).unwrap_err();
    assert!(format!("{error:#}").contains("newer version"), "{error:#}");
    assert_eq!(fs::read_to_string(&path).unwrap(), line);
}

#[test]
fn a_malformed_line_that_is_not_the_last_one_is_an_error_with_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    journal.append(&records(1)).unwrap();
    drop(journal);
    let path = dir.path().join(JOURNAL_FILE);
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("{\"at\":1,\"entry\":\"entry_of_a_newer_version\"}\n");
    text.push_str(&text.clone());
    fs::write(&path, text).unwrap();
    let error = format!("{:#}", Journal::open(dir.path()).unwrap_err());
    assert!(error.contains("line 2: unknown variant"), "{error}");
}

#[test]
fn a_grant_in_a_journal_of_an_older_version_is_read() {
    let line = br#"{"at":1,"entry":"granted","run":"r","lease_ms":1}
"#;
    let (records, _) = parse(line).unwrap();
    let entry = Entry::Granted {
        run: "r".to_owned(),
        lease_ms: 1,
        claimed_at: None,
    };
    assert_eq!(records, [Record { at: 1, entry }]);
}

#[test]
fn a_second_dispatcher_cannot_open_the_journal_of_a_running_one() {
    let dir = tempfile::tempdir().unwrap();
    let first = Journal::open(dir.path()).unwrap();
    let error = Journal::open(dir.path()).unwrap_err().to_string();
    let process = format!("(process {})", std::process::id());
    assert!(error.contains(&process), "{error}");
    drop(first);
    Journal::open(dir.path()).unwrap();
}
