//! The journal of a dispatch: a file to which JSON lines are appended, one for each thing that the dispatch does.
//!
//! An entry is on disk before its side effect happens, and before the answer 2xx that depends on it is sent. Only the
//! process that holds the lock writes. A last line that was cut off by a crash is removed when the file is
//! opened. Any other malformed line is an error, because without it the later entries would be misunderstood.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use eyre::{WrapErr, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::file_lock::{FileLock, LockError};

/// The name of the journal in the state directory.
const JOURNAL_FILE: &str = "journal.jsonl";
/// The name of the lock file in the state directory.
const LOCK_FILE: &str = "lock";

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When the entry was made, in milliseconds since 1970.
    pub at: i64,
    #[serde(flatten)]
    pub entry: Entry,
}

/// The content of a line. The names are API, because users and their programs read the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// A new dispatch: the first line.
    Created { dispatch: String, branch: String },
    /// A dispatcher has started.
    Begun {
        version: String,
        listen: String,
        /// The engines that the dispatcher uses. The next dispatcher searches them for runs whose handle was not
        /// recorded.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        engines: Vec<String>,
    },
    /// A run is about to be started.
    Intent {
        run: String,
        /// `phase:id`; `None` for a run that only checks a commit.
        task: Option<String>,
        attempt: u32,
        /// The commit on which the run works.
        base: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// The memory limit in bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory: Option<u64>,
    },
    /// A run is about to be started on this engine. A start that is repeated must not go to another one.
    Placed { run: String, engine: String },
    /// The engine has started a run.
    Handle { run: String, handle: Handle },
    /// The engine could not start a run.
    NotStarted {
        run: String,
        why: String,
        /// Whether the reason concerns all runs, so that no other run could start either.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_refused: bool,
        /// Whether the start was given up because the run was not needed any more. Then the run does not count as an attempt.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_given_up: bool,
    },
    /// A worker has claimed the task of its run.
    Granted {
        run: String,
        lease_ms: u64,
        /// When the worker made the claim. Two workers of one run have made claims at different times.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        claimed_at: Option<String>,
    },
    /// A terminal event, as it arrived.
    Reported { run: String, event: Value },
    /// A run was lost, but its finished work was found on its branch.
    Harvested {
        run: String,
        branch: String,
        commit: String,
    },
    /// A run may not work on its task any longer.
    Fenced {
        run: String,
        why: String,
        /// The exit code of the worker, if the engine knows it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        /// Whether the worker was killed because it ran out of memory.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_out_of_memory: bool,
        /// Whether the run was given up before it claimed its task. Then it does not count as an attempt.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_given_up: bool,
    },
    /// The work of a run is on the integration branch.
    Merged { run: String, commit: String },
    /// The work of a run conflicts with merged work.
    Conflict { run: String, note: String },
    /// The merged work of this run was rejected: the checks failed on it, or workers could not use the files in it.
    Red {
        run: String,
        note: String,
        /// Which workers could not use which files, and why; `None` if the checks failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unusable: Option<String>,
    },
    /// A user has given a command.
    Asked {
        what: UserCommand,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<String>,
    },
    /// The dispatcher has ended: done, blocked or stopped.
    Ended { how: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
/// A command that a user gives to the dispatch.
pub enum UserCommand {
    Retry,
    Skip,
    Cancel,
}

/// The identity with which an engine finds a run again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "engine", rename_all = "snake_case")]
pub enum Handle {
    /// A process of this machine. The start time distinguishes it from a later process with the same id.
    Local { pid: i32, start_time: u64 },
    /// A container, by its id.
    Docker { container: String },
    /// The last line that the engine's command `start` has printed.
    Command { id: String },
    /// A machine of Fly, by its id.
    Fly { machine: String },
}

/// The open journal of one dispatcher.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    /// Held while this exists.
    _lock: FileLock,
}

impl Journal {
    /// Opens or creates the journal in a directory; returns it with its records.
    ///
    /// # Errors
    /// If another dispatcher works in the directory, or the file is malformed.
    pub fn open(dir: &Path) -> eyre::Result<(Self, Vec<Record>)> {
        fs::create_dir_all(dir)
            .wrap_err_with(|| format!("cannot create the state directory {}", dir.display()))?;
        let lock = lock(dir)?;
        let path = dir.join(JOURNAL_FILE);
        let context = || format!("cannot use the journal {}", path.display());
        let mut file = private_file().open(&path).wrap_err_with(context)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).wrap_err_with(context)?;
        let (records, complete_length) =
            parse(&bytes).wrap_err_with(|| format!("{} is malformed", path.display()))?;
        if complete_length < bytes.len() {
            file.set_len(complete_length as u64)
                .wrap_err_with(context)?;
        }
        file.seek(SeekFrom::Start(complete_length as u64))
            .wrap_err_with(context)?;
        file.sync_all().wrap_err_with(context)?;
        sync_directory(dir).wrap_err_with(context)?;
        let journal = Self {
            file,
            path,
            _lock: lock,
        };
        Ok((journal, records))
    }

    /// Writes records; they are on disk when this returns.
    pub fn append(&mut self, records: &[Record]) -> eyre::Result<()> {
        let mut lines = Vec::new();
        for record in records {
            serde_json::to_writer(&mut lines, record)?;
            lines.push(b'\n');
        }
        let written = self.file.write_all(&lines);
        written
            .and_then(|()| self.file.sync_data())
            .wrap_err_with(|| format!("cannot write to the journal {}", self.path.display()))
    }
}

/// Reads a journal without taking its lock.
pub fn read(dir: &Path) -> eyre::Result<Vec<Record>> {
    let path = dir.join(JOURNAL_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).wrap_err_with(|| format!("cannot read {}", path.display()));
        }
    };
    let (records, _) =
        parse(&bytes).wrap_err_with(|| format!("{} is malformed", path.display()))?;
    Ok(records)
}

/// Another process has the journal.
#[derive(Debug, thiserror::Error)]
#[error(
    "another dispatcher (process {process}) works on this project; `descartes-worker dispatch status` shows its state"
)]
pub struct InUse {
    pub process: String,
}

/// The journal of an earlier dispatch that was renamed.
pub struct PutAside {
    pub path: PathBuf,
    /// The id of the dispatch, if the journal can be read.
    pub dispatch: Option<String>,
    /// The engines that its last dispatcher used, without `local`.
    pub engines: Vec<String>,
}

/// Renames the journal of an earlier dispatch; `None` if there is no journal.
pub fn put_aside(dir: &Path, suffix: &str) -> eyre::Result<Option<PutAside>> {
    let _lock = lock(dir)?;
    let (mut dispatch, mut engines) = (None, Vec::new());
    // A journal that cannot be read is put aside too.
    for record in read(dir).unwrap_or_default() {
        match record.entry {
            Entry::Created { dispatch: id, .. } => dispatch = Some(id),
            Entry::Begun { engines: used, .. } => engines = used,
            _ => {}
        }
    }
    engines.retain(|engine| engine != "local");
    let (from, to) = (
        dir.join(JOURNAL_FILE),
        dir.join(format!("journal-{suffix}.jsonl")),
    );
    match fs::rename(&from, &to) {
        Ok(()) => Ok(Some(PutAside {
            path: to,
            dispatch,
            engines,
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).wrap_err_with(|| format!("cannot rename {}", from.display())),
    }
}

/// The records, and the length of their lines in bytes. An incomplete last line is left out.
fn parse(bytes: &[u8]) -> eyre::Result<(Vec<Record>, usize)> {
    let (mut records, mut complete_length) = (Vec::new(), 0);
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        let parsed = serde_json::from_slice(line);
        match parsed {
            Ok(record) if line.ends_with(b"\n") => records.push(record),
            // An incomplete last line.
            Ok(_) => break,
            Err(_) if is_last && !line.ends_with(b"\n") => break,
            Err(error) => bail!(
                "line {}: {error}; was it written by a newer version? --fresh starts a new dispatch",
                records.len() + 1
            ),
        }
        complete_length += line.len();
    }
    Ok((records, complete_length))
}

/// Options for a file that only this user can read.
fn private_file() -> fs::OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(0o600);
    options
}

/// Takes the lock of a state directory.
fn lock(dir: &Path) -> eyre::Result<FileLock> {
    let path = dir.join(LOCK_FILE);
    let cannot_lock = || format!("cannot lock {}", path.display());
    fs::create_dir_all(dir).wrap_err_with(cannot_lock)?;
    match FileLock::take(&path, "") {
        Ok(lock) => Ok(lock),
        Err(LockError::Held(process)) => Err(InUse { process }.into()),
        Err(LockError::File(error)) => Err(error).wrap_err_with(cannot_lock),
    }
}

/// Writes the directory to disk: a new file survives a crash only if its directory entry does.
fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
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
        let whole = fs::read(dir.path().join(JOURNAL_FILE)).unwrap();
        for length in 0..=whole.len() {
            fs::write(dir.path().join(JOURNAL_FILE), &whole[..length]).unwrap();
            let (mut journal, found) = Journal::open(dir.path()).unwrap();
            let lines = whole[..length].iter().filter(|byte| **byte == b'\n');
            assert_eq!(found, records(3)[..lines.count()], "cut at {length}");
            journal.append(&records(1)).unwrap();
            drop(journal);
            let (_, again) = Journal::open(dir.path()).unwrap();
            assert_eq!(again.len(), found.len() + 1, "cut at {length}");
        }
    }

    #[test]
    fn a_last_line_of_a_newer_version_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(JOURNAL_FILE);
        let line = "{\"at\":1,\"entry\":\"from_the_future\"}\n";
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
        text.push_str("{\"at\":1,\"entry\":\"from_the_future\"}\n");
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
}
