//! The journal of a dispatch: a file to which JSON lines are appended, one for each step of the dispatch.
//!
//! The intent of a start is on disk before the start, and a worker's event is on disk before the worker gets the answer
//! 2xx. Only the process that holds the lock writes. A last line that was cut off by a crash is removed when the file
//! is opened. Any other malformed line is an error: skipping it could give a wrong state.

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

/// The content of a line. Users and their programs read the file, so the names must not change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// A new dispatch; the first entry of a journal.
    Created { dispatch: String, branch: String },
    /// A dispatcher has started.
    Begun {
        /// The version of this program.
        version: String,
        /// The address that the dispatcher listens on.
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
        /// The number of the attempt, counted from 1.
        attempt: u32,
        /// The commit on which the run works.
        base: String,
        /// The text about the last attempt for the agent's prompt.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// The memory limit in bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory: Option<u64>,
    },
    /// A run is about to be started on this engine. A repeated start must go to the same engine.
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
        /// Whether the start was given up because the run was not needed any more. Then the run does not count as an
        /// attempt.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_given_up: bool,
    },
    /// A worker has claimed the task of its run.
    Granted {
        run: String,
        /// A worker without events for this long counts as lost, in milliseconds.
        lease_ms: u64,
        /// When the worker made the claim. This distinguishes two workers of one run: their claims have the same id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        claimed_at: Option<String>,
    },
    /// The worker of a run has sent or printed its terminal event.
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
    Merged {
        run: String,
        /// The tip of the integration branch.
        commit: String,
    },
    /// The work of a run conflicts with merged work.
    Conflict {
        run: String,
        /// The text for the prompt of the next attempt.
        note: String,
    },
    /// The merged work of this run was rejected: the checks failed on it, or workers could not use the files in it.
    Red {
        run: String,
        /// The text for the prompt of the next attempt.
        note: String,
        /// Which workers could not use which files, and why; `None` if the checks failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unusable: Option<String>,
    },
    /// A user has given a command.
    Asked {
        /// The command.
        what: UserCommand,
        /// The key of the task; `None` for all tasks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<String>,
    },
    /// The dispatcher has ended. `how` is `done`, `blocked` or `stopped`.
    Ended { how: String },
}

/// A command that a user gives to the dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// A machine of the engine `command`: the last line that its command `start` has printed.
    Command { id: String },
    /// A machine of Fly, by its id.
    Fly { machine: String },
}

/// The open journal of one dispatcher.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    /// Held as long as the journal is open.
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

/// Reads a journal without taking its lock; empty if there is no journal.
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

/// The error if another process holds the lock of the journal.
#[derive(Debug, thiserror::Error)]
#[error(
    "another dispatcher (process {process}) works on this project; `descartes-worker dispatch status` shows its state"
)]
pub struct JournalInUse {
    /// The id of the process.
    pub process: String,
}

/// The journal of an earlier dispatch, which was renamed.
pub struct RenamedJournal {
    /// The new path.
    pub path: PathBuf,
    /// The id of the dispatch, if the journal can be read.
    pub dispatch: Option<String>,
    /// The engines that its last dispatcher used, without `local`.
    pub engines: Vec<String>,
}

/// Renames the journal of an earlier dispatch to `journal-<suffix>.jsonl`; `None` if there is no journal.
pub fn rename_journal(dir: &Path, suffix: &str) -> eyre::Result<Option<RenamedJournal>> {
    let _lock = lock(dir)?;
    let (mut dispatch, mut engines) = (None, Vec::new());
    // A journal that cannot be read is renamed too.
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
        Ok(()) => Ok(Some(RenamedJournal {
            path: to,
            dispatch,
            engines,
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).wrap_err_with(|| format!("cannot rename {}", from.display())),
    }
}

/// The records, and the length of their lines in bytes. Skips an incomplete last line.
fn parse(bytes: &[u8]) -> eyre::Result<(Vec<Record>, usize)> {
    let (mut records, mut complete_length) = (Vec::new(), 0);
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        let parsed = serde_json::from_slice(line);
        match parsed {
            Ok(record) if line.ends_with(b"\n") => records.push(record),
            // A last line without a line break is incomplete, even if it is valid JSON.
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
        Err(LockError::Held(process)) => Err(JournalInUse { process }.into()),
        Err(LockError::File(error)) => Err(error).wrap_err_with(cannot_lock),
    }
}

/// Writes the directory to disk: a new file survives a crash only if its directory entry does.
fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests;
