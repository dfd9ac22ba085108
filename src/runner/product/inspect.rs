//! Finds what must not be pushed: files that are too large, and objects with a secret that the worker knows.
//!
//! Reads every object that a push would send, so it also finds a file that one commit adds and the next one removes. It
//! finds accidents only: an agent that wants to hide a secret can encode it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};

use super::entries::Entry;
use super::errors::{AfterOutput, io_failure, run_stream, run_stream_until};
use super::lfs::{MAX_POINTER_SIZE, Pointer, PointerFile};
use super::records::Records;
use super::repository::PrivateRepository;
use crate::git::{Git, UnnamedFile};
use crate::redact::{Redactor, StreamMasker};
use crate::task::Failure;

/// The largest file that is committed, in bytes. Forges reject larger files, and most of them are build products.
pub const MAX_FILE_SIZE: u64 = 50 * 1024 * 1024;
/// The maximum length of a header line that is read, in bytes: the line contains a path, which can have any length.
const MAX_LINE: usize = 64 * 1024;
/// The maximum number of names in a message.
const MAX_NAMES: usize = 10;
/// If more files than this are new Git LFS pointers, nothing is pushed.
const MAX_POINTERS: usize = 100_000;

/// What the inspection found.
#[derive(Debug, Default)]
pub struct Inspection {
    /// The files because of which nothing may be pushed, with the reason; `None` if everything may be pushed. Completes
    /// a sentence that ends with "because of files".
    pub unpushable_files: Option<String>,
    /// A sentence about conflict markers, which may be pushed.
    pub warning: Option<String>,
    /// The new files that are Git LFS pointers.
    pub pointers: BTreeSet<PointerFile>,
}

/// The objects that a push would send to a remote that has the commit `base`.
#[derive(Debug)]
pub struct PushedObjects<'a> {
    pub base: &'a str,
    pub tips: &'a [&'a str],
    /// The entries in which the only tip differs from the base, directories included, if the base is its only parent.
    pub entries: Option<&'a [Entry]>,
}

/// Inspects every object that a push would send.
///
/// The objects of the changed entries are known without asking git, but the base may have some of them, for example those
/// of a renamed file. So if anything is found in these objects, git lists the new ones, and only those are inspected.
pub async fn inspect(
    git: &Git<'_>,
    repository: &PrivateRepository,
    objects: &PushedObjects<'_>,
) -> Result<Inspection, Failure> {
    if let Some(entries) = objects.entries {
        let list = list_objects_of_entries(objects.tips, entries);
        let list = list.map_err(|error| io_failure(&error))?;
        let contents = read_contents(git, repository, &list).await?;
        if contents.is_some_and(|contents| contents.is_unremarkable()) {
            return Ok(Inspection::default());
        }
    }
    let list = list_objects(git, repository, objects).await?;
    let Some(contents) = read_contents(git, repository, &list).await? else {
        let large = list_large_files(git, repository, &list).await?;
        return Ok(Inspection {
            unpushable_files: Some(format!("larger than 50 MiB: {}", join_names(&large))),
            ..Inspection::default()
        });
    };
    let BatchReader {
        with_secret,
        conflicts,
        pointers,
        ..
    } = contents;
    let unpushable_files = if !with_secret.is_empty() {
        Some(format!(
            "holding a secret that the worker knows: {}",
            join_names(&with_secret)
        ))
    } else if pointers.len() > MAX_POINTERS {
        Some(format!(
            "kept in Git LFS, of which more than {MAX_POINTERS} are new"
        ))
    } else {
        None
    };
    Ok(Inspection {
        unpushable_files,
        pointers,
        warning: (!conflicts.is_empty())
            .then(|| format!("conflict markers are left in: {}", join_names(&conflicts))),
    })
}

/// The new objects, one per line, files and directories with their path. In a file, because there
/// may be millions.
async fn list_objects(
    git: &Git<'_>,
    repository: &PrivateRepository,
    PushedObjects { base, tips, .. }: &PushedObjects<'_>,
) -> Result<File, Failure> {
    let mut list = UnnamedFile::new();
    let mut written = Ok(());
    let call = repository.call(["rev-list", "--objects"]);
    let call = tips.iter().fold(call, |call, tip| call.arg(*tip));
    run_stream(git, call.arg(format!("^{base}")), &mut |bytes| {
        if written.is_ok() {
            written = list.write_all(bytes);
        }
    })
    .await?;
    let list = written.and_then(|()| list.into_file());
    list.map_err(|error| io_failure(&error))
}

/// The commits `tips`, their trees and the new sides of the entries, in the same format as [`list_objects`], without objects
/// that are the old side of an entry.
fn list_objects_of_entries(tips: &[&str], entries: &[Entry]) -> io::Result<File> {
    let mut list = UnnamedFile::new();
    for tip in tips {
        writeln!(list, "{tip}\n{tip}^{{tree}}")?;
    }
    // The base has these, so a push does not send them.
    let old_entries = entries.iter().filter(|entry| entry.has_old_object());
    let mut listed: BTreeSet<&String> = old_entries.map(|entry| &entry.old_object).collect();
    for entry in entries.iter().filter(|entry| entry.has_new_object()) {
        if listed.insert(&entry.new_object) {
            // Like git, ends the path before a line feed in it.
            let path = entry.path.split(|byte| *byte == b'\n').next();
            write!(list, "{} ", entry.new_object)?;
            list.write_all(path.unwrap_or_default())?;
            list.write_all(b"\n")?;
        }
    }
    list.into_file()
}

/// The names of the files that are too large.
async fn list_large_files(
    git: &Git<'_>,
    repository: &PrivateRepository,
    list: &File,
) -> Result<BTreeSet<String>, Failure> {
    let mut large = BTreeSet::new();
    let mut records = Records::new(b'\n');
    let call = repository
        .call([
            "cat-file",
            "--batch-check=%(objecttype) %(objectsize) %(rest)",
        ])
        .input_file(list)
        .map_err(|error| io_failure(&error))?;
    run_stream(git, call, &mut |bytes| {
        records.push(bytes, |record| {
            if let Some((header, path)) = Header::read(record)
                && header.is_too_large()
                && large.len() <= MAX_NAMES
            {
                large.insert(path);
            }
        });
    })
    .await?;
    Ok(large)
}

/// Reads every object. `None` if a file is too large: then the rest is not read.
async fn read_contents<'a>(
    git: &Git<'a>,
    repository: &PrivateRepository,
    list: &File,
) -> Result<Option<BatchReader<'a>>, Failure> {
    let mut batch = BatchReader::new(git.redactor);
    let call = repository
        .call(["cat-file", "--batch=%(objecttype) %(objectsize) %(rest)"])
        .input_file(list)
        .map_err(|error| io_failure(&error))?;
    let mut on_output = |bytes: &[u8]| {
        batch.push(bytes);
        if batch.is_too_large {
            AfterOutput::Stop
        } else {
            AfterOutput::ReadMore
        }
    };
    run_stream_until(git, call, &mut on_output).await?;
    Ok((!batch.is_too_large).then_some(batch))
}

/// The first names, separated by commas.
fn join_names(found: &BTreeSet<String>) -> String {
    let names: Vec<&str> = found.iter().map(String::as_str).take(MAX_NAMES).collect();
    let more = if found.len() > MAX_NAMES {
        ", and more"
    } else {
        ""
    };
    names.join(", ") + more
}

/// The line that git prints before an object.
struct Header {
    kind: String,
    size: u64,
    path: Vec<u8>,
}

impl Header {
    /// Reads the line; also returns the name with which messages describe the object.
    fn read(line: &[u8]) -> Option<(Self, String)> {
        let text = String::from_utf8_lossy(line);
        let raw_path = line.splitn(3, |byte| *byte == b' ').nth(2);
        let mut words = text.splitn(3, ' ');
        let header = Self {
            kind: words.next()?.to_owned(),
            size: words.next()?.parse().ok()?,
            path: raw_path.unwrap_or_default().to_vec(),
        };
        let path = words.next().unwrap_or_default();
        let name = match (header.kind.as_str(), path) {
            ("commit", _) => "a commit's message".to_owned(),
            ("tree", "") => "a file's name".to_owned(),
            (_, path) => path.escape_debug().to_string(),
        };
        Some((header, name))
    }

    fn is_too_large(&self) -> bool {
        self.kind == "blob" && self.size > MAX_FILE_SIZE
    }
}

/// Reads the output of `git cat-file --batch`: for each object a header line, the content, and a line feed.
struct BatchReader<'a> {
    /// Whether there was a file that is too large. Everything after it is ignored.
    is_too_large: bool,
    /// Whether git could not read an object.
    has_missing_object: bool,
    redactor: &'a Redactor,
    /// The beginning of a header line.
    line: Vec<u8>,
    /// The name of the current object, for messages.
    name: String,
    /// How many bytes of the current object have not been read yet, including the line feed after it.
    unread: u64,
    /// Finds secrets in the current object.
    scan: StreamMasker,
    /// Finds conflict markers in the current object.
    markers: Markers,
    /// The names of objects with secrets.
    with_secret: BTreeSet<String>,
    /// The names of files with conflict markers.
    conflicts: BTreeSet<String>,
    /// If the current object may be a Git LFS pointer: its path, and the part of its content that was read.
    possible_pointer: Option<(Vec<u8>, Vec<u8>)>,
    pointers: BTreeSet<PointerFile>,
}

impl<'a> BatchReader<'a> {
    fn new(redactor: &'a Redactor) -> Self {
        Self {
            is_too_large: false,
            has_missing_object: false,
            redactor,
            line: Vec::new(),
            name: String::new(),
            unread: 0,
            scan: redactor.stream(),
            markers: Markers::default(),
            with_secret: BTreeSet::new(),
            conflicts: BTreeSet::new(),
            possible_pointer: None,
            pointers: BTreeSet::new(),
        }
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_too_large {
            if self.unread > 0 {
                let length = usize::try_from(self.unread).unwrap_or(usize::MAX);
                let length = length.min(bytes.len());
                self.read_content(&bytes[..length]);
                bytes = &bytes[length..];
                continue;
            }
            let end = memchr::memchr(b'\n', bytes);
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let room = MAX_LINE - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            bytes = &bytes[end.map_or(bytes.len(), |end| end + 1)..];
            if end.is_some() {
                self.begin_object();
            }
        }
    }

    /// Begins the object whose header is in `line`.
    fn begin_object(&mut self) {
        let line = std::mem::take(&mut self.line);
        if let Some((header, name)) = Header::read(&line) {
            self.is_too_large = header.is_too_large();
            self.name = name;
            self.unread = header.size + 1;
            let may_be_pointer = header.kind == "blob" && header.size < MAX_POINTER_SIZE;
            self.possible_pointer = may_be_pointer.then_some((header.path, Vec::new()));
            self.scan = self.redactor.stream();
            self.markers = Markers::default();
        } else {
            self.has_missing_object = true;
        }
    }

    /// Whether every object was read, and nothing was found in them.
    fn is_unremarkable(&self) -> bool {
        !self.has_missing_object
            && self.with_secret.is_empty()
            && self.conflicts.is_empty()
            && self.pointers.is_empty()
    }

    fn read_content(&mut self, bytes: &[u8]) {
        self.unread -= bytes.len() as u64;
        self.scan.push(bytes, &mut |_| {});
        self.markers.push(bytes);
        if let Some((_, content)) = &mut self.possible_pointer {
            content.extend_from_slice(bytes);
        }
        if self.unread == 0 {
            self.add_pointer();
            self.scan.finish(&mut |_| {});
        }
        if self.scan.has_masked() && self.with_secret.len() <= MAX_NAMES {
            self.with_secret.insert(self.name.clone());
        }
        if self.unread == 0 && self.markers.are_complete() && self.conflicts.len() <= MAX_NAMES {
            self.conflicts.insert(self.name.clone());
        }
    }

    fn add_pointer(&mut self) {
        if let Some((path, content)) = self.possible_pointer.take()
            && let Some(pointer) = Pointer::parse(&content)
            && self.pointers.len() <= MAX_POINTERS
        {
            self.pointers.insert(PointerFile { path, pointer });
        }
    }
}

/// Finds the conflict markers that a merge writes into a file.
#[derive(Debug, Default)]
struct Markers {
    /// The first 8 bytes of the current line; a marker is not longer.
    line: Vec<u8>,
    /// How many members of `ALL` were found, in the order of `ALL`.
    found_count: usize,
}

impl Markers {
    const ALL: [&[u8]; 3] = [b"<<<<<<< ", b"=======", b">>>>>>> "];

    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.line.clear();
            } else if self.line.len() < 8 {
                self.line.push(*byte);
                let next = Self::ALL.get(self.found_count);
                if next.is_some_and(|marker| self.line == *marker) {
                    self.found_count += 1;
                }
            }
        }
    }

    fn are_complete(&self) -> bool {
        self.found_count == Self::ALL.len()
    }
}
