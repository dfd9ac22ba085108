//! The counts of changed files and lines, and the patch for the report.
//!
//! Compares commits only. The patch can be applied with `git apply`, unless it is marked as truncated.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;

use super::entries::{Entry, entries_of_raw_diff};
use super::errors::{AfterOutput, io_failure, run_stream, run_stream_until};
use super::records::Records;
use super::repository::PrivateRepository;
use crate::git::Git;
use crate::redact::StreamMasker;
use crate::task::{Failure, Patch};

/// The maximum size of a patch in bytes, as it is written in the JSON of a report (the protocol says 128 KiB; a line
/// feed takes two bytes).
const MAX_PATCH_SIZE: usize = 128 * 1024;

/// The largest file whose changes are in the patch, in bytes: git keeps several copies of both sides in memory.
const MAX_COMPARED_SIZE: u64 = 16 * 1024 * 1024;
/// If there are more large files than this, there is no patch.
const MAX_EXCLUDED: usize = 100;

/// The counts of changed files and lines.
#[derive(Debug, Default)]
pub struct ChangeCount {
    pub files: u64,
    /// Binary files have no lines.
    pub insertions: u64,
    pub deletions: u64,
    /// The changed path, if exactly one path changed.
    pub only_path: Option<String>,
    /// Whether git treats any changed file as binary, as it does every file above `core.bigFileThreshold`.
    has_binary: bool,
}

/// The changes between two commits.
#[derive(Debug, Default)]
pub struct Changes {
    pub count: ChangeCount,
    /// The changed files, and the changed directories above them.
    pub entries: Vec<Entry>,
    /// Whether every record that git printed is one of `entries`.
    pub has_all_entries: bool,
}

/// Counts and lists the differences between two commits. Does not make the patch in the same command: git would read and
/// compare large files for it before it prints that they are binary.
pub async fn changes(
    git: &Git<'_>,
    repository: &PrivateRepository,
    base: &str,
    head: &str,
) -> Result<Changes, Failure> {
    let (mut records, mut raw) = (Records::new(0), Vec::new());
    let mut count = ChangeCount::default();
    let call = repository
        .call(diff_args(["--raw", "-t", "--no-abbrev", "--numstat", "-z"]))
        // Counts larger files as binary, by their size alone.
        .configuration(&[("core.bigFileThreshold".to_owned(), "16m".to_owned())])
        .arg(base)
        .arg(head);
    run_stream(git, call, &mut |bytes| {
        records.push(bytes, |record| {
            // git prints all raw entries first. Each has two records: a header, which begins with a colon, and the
            // path.
            let is_path = raw.len() % 2 == 1;
            if is_path || record.starts_with(b":") {
                raw.push(record.to_vec());
            } else {
                count.add(record);
            }
        });
    })
    .await?;
    let entries = entries_of_raw_diff(&raw);
    Ok(Changes {
        count,
        has_all_entries: entries.len() * 2 == raw.len(),
        entries,
    })
}

impl ChangeCount {
    /// Adds a record of `--numstat -z`: the added lines, a tab, the deleted lines, a tab, the path.
    fn add(&mut self, record: &[u8]) {
        let text = String::from_utf8_lossy(record);
        let mut fields = text.splitn(3, '\t');
        // A hyphen stands for the lines of a binary file.
        let mut next = || fields.next().and_then(|number| number.parse::<u64>().ok());
        let (insertions, deletions) = (next(), next());
        self.files += 1;
        self.has_binary |= insertions.is_none() || deletions.is_none();
        self.insertions += insertions.unwrap_or(0);
        self.deletions += deletions.unwrap_or(0);
        self.only_path = fields.next().filter(|_| self.files == 1).map(str::to_owned);
    }
}

/// The redacted patch in git's format, with binary files; cut if it is too long.
pub async fn patch(
    git: &Git<'_>,
    repository: &PrivateRepository,
    base: &str,
    head: &str,
    changes: &Changes,
) -> Result<Option<Patch>, Failure> {
    let large = if changes.count.has_binary {
        large_paths(git, repository, &changes.entries).await?
    } else {
        Vec::new()
    };
    if large.len() > MAX_EXCLUDED {
        return Ok(None);
    }
    let mut patch = patch_bytes(git, repository, base, head, &large).await?;
    let text = match std::str::from_utf8(&patch.bytes) {
        Ok(text) => text,
        // A truncated text may end with a part of a character.
        Err(error) if patch.is_truncated && error.error_len().is_none() => {
            std::str::from_utf8(&patch.bytes[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => {
            // A report is UTF-8, and these files are not. git writes binary files as ASCII.
            let attributes = repository.dir().join("info/attributes");
            let written = fs::create_dir_all(repository.dir().join("info"))
                .and_then(|()| fs::write(attributes, "* -diff\n"));
            written.map_err(|error| io_failure(&error))?;
            patch = patch_bytes(git, repository, base, head, &large).await?;
            std::str::from_utf8(&patch.bytes).unwrap_or_default()
        }
    };
    let beginning = beginning_that_fits(text);
    Ok((!text.is_empty()).then(|| Patch {
        text: beginning.to_owned(),
        truncated: patch.is_truncated || !large.is_empty() || beginning.len() < text.len(),
    }))
}

/// The changed paths with a file, before or after, that is too large to be compared.
async fn large_paths(
    git: &Git<'_>,
    repository: &PrivateRepository,
    entries: &[Entry],
) -> Result<Vec<OsString>, Failure> {
    let mut question = String::new();
    let entries: Vec<&Entry> = entries
        .iter()
        .filter(|entry| !entry.is_directory())
        .collect();
    for entry in &entries {
        for object in [&entry.old_object, &entry.new_object] {
            question.push_str(object);
            question.push('\n');
        }
    }
    if question.is_empty() {
        return Ok(Vec::new());
    }
    // An object that does not exist has no size: an added file has no old object.
    let call = repository.call(["cat-file", "--batch-check=%(objectsize)"]);
    let call = call
        .input(question.as_bytes())
        .map_err(|error| io_failure(&error))?;
    let (mut records, mut sizes) = (Records::new(b'\n'), Vec::new());
    let mut on_output = |bytes: &[u8]| {
        records.push(bytes, |record| {
            let size = std::str::from_utf8(record)
                .ok()
                .and_then(|size| size.parse().ok());
            sizes.push(size.unwrap_or(0_u64));
        });
    };
    run_stream(git, call, &mut on_output).await?;
    let large = entries.iter().zip(sizes.chunks(2));
    let large = large.filter(|(_, sizes)| sizes.iter().any(|size| *size > MAX_COMPARED_SIZE));
    Ok(large
        .map(|(entry, _)| OsString::from_vec(entry.path.clone()))
        .collect())
}

/// A patch as git printed it, without secrets.
struct PatchBytes {
    /// The patch, or its beginning with one byte more than [`MAX_PATCH_SIZE`].
    bytes: Vec<u8>,
    /// Whether the rest of the patch was cut off, or secrets were masked.
    is_truncated: bool,
}

/// Masks secrets in a patch, and keeps its beginning.
struct PatchReader {
    kept: Vec<u8>,
    redacted: StreamMasker,
}

impl PatchReader {
    fn new(git: &Git<'_>) -> Self {
        Self {
            kept: Vec::new(),
            redacted: git.redactor.stream(),
        }
    }

    /// Reads a part of the patch. The rest of a patch that is too long would be cut off, so it is not read.
    fn push(&mut self, bytes: &[u8]) -> AfterOutput {
        let kept = &mut self.kept;
        self.redacted.push(bytes, &mut |clean| keep(kept, clean));
        if self.kept.len() > MAX_PATCH_SIZE {
            AfterOutput::Stop
        } else {
            AfterOutput::ReadMore
        }
    }

    fn finish(mut self, is_complete: bool) -> PatchBytes {
        if is_complete {
            let kept = &mut self.kept;
            self.redacted.finish(&mut |clean| keep(kept, clean));
        }
        PatchBytes {
            bytes: self.kept,
            is_truncated: !is_complete || self.redacted.has_masked(),
        }
    }
}

/// Appends the bytes for which there is room.
fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = MAX_PATCH_SIZE + 1 - kept.len();
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// Makes the patch between two commits, without the paths `large`.
async fn patch_bytes(
    git: &Git<'_>,
    repository: &PrivateRepository,
    base: &str,
    head: &str,
    large: &[OsString],
) -> Result<PatchBytes, Failure> {
    let call = repository.call(diff_args(["--binary", "--full-index"]));
    let mut call = call.arg(base).arg(head).arg("--").arg(".");
    for path in large {
        let mut pathspec = OsString::from(":(exclude,top,literal)");
        pathspec.push(path);
        call = call.arg(pathspec);
    }
    let mut patch = PatchReader::new(git);
    let is_complete = run_stream_until(git, call, &mut |bytes| patch.push(bytes)).await?;
    Ok(patch.finish(is_complete))
}

/// The arguments of `git diff` with these additional options.
fn diff_args<const N: usize>(options: [&'static str; N]) -> Vec<&'static str> {
    // No renames: every path is one record, and more programs can apply the patch.
    let common = [
        "--no-renames",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
    ];
    ["diff"].into_iter().chain(options).chain(common).collect()
}

/// The beginning of a text that takes at most [`MAX_PATCH_SIZE`] bytes as a string in JSON.
fn beginning_that_fits(text: &str) -> &str {
    let mut size = 0;
    let end = text.char_indices().find(|(_, c)| {
        size += match c {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            c if c.is_ascii_control() && *c != '\u{7f}' => 6,
            c => c.len_utf8(),
        };
        size > MAX_PATCH_SIZE
    });
    end.map_or(text, |(end, _)| &text[..end])
}
