//! Copies LFS objects from a repository that the agent could write, and verifies them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ring::digest::{Context, SHA256};

use super::pointer::{Pointer, PointerFile};
use crate::git::Git;
use crate::redact::Redactor;
use crate::runner::product::errors::io_failure;
use crate::runner::product::files::{is_directory, open_regular};
use crate::task::Failure;

/// How many bytes are read at once.
const CHUNK_SIZE: usize = 64 * 1024;
/// The limit for all objects together, in bytes. A sparse file of any size costs the agent nothing, but its copy would
/// fill the disk.
const MAX_TOTAL_SIZE: u64 = 32 * 1024 * 1024 * 1024;

/// The result of the copy.
#[derive(Debug, Default)]
pub struct CopyReport {
    /// The objects that are now in the worker's store.
    pub oids: BTreeSet<String>,
    /// Files whose object is in no store, or has another hash or size than the pointer says.
    pub missing: Vec<PointerFile>,
    /// Files whose object would exceed the limit for all objects together.
    pub too_large: Vec<PointerFile>,
    /// Files whose object contains a secret.
    pub with_secret: Vec<PointerFile>,
}

/// Stops the copying thread when no future waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Copies the objects of `files` from `stores` into `target`.
pub async fn copy(
    git: &Git<'_>,
    stores: &[PathBuf],
    target: PathBuf,
    files: BTreeSet<PointerFile>,
) -> Result<CopyReport, Failure> {
    let stopped = StopOnDrop(Arc::default());
    let copier = Copier {
        stores: stores.to_owned(),
        target,
        redactor: git.redactor.clone(),
        is_stopped: Arc::clone(&stopped.0),
    };
    let result = tokio::task::spawn_blocking(move || copier.copy_all(files)).await;
    result
        .map_err(io::Error::other)
        .and_then(|report| report)
        .map_err(|error| io_failure(&error))
}

/// Copies objects in a thread.
struct Copier {
    stores: Vec<PathBuf>,
    target: PathBuf,
    redactor: Redactor,
    is_stopped: Arc<AtomicBool>,
}

/// The result of copying one object.
enum CopyResult {
    /// The object was copied, and has the hash and the size that the pointer says.
    Verified { has_secret: bool },
    /// The object would exceed the limit for all objects together.
    TooLarge,
    /// No store has the object.
    NotFound,
}

impl Copier {
    fn copy_all(&self, files: BTreeSet<PointerFile>) -> io::Result<CopyReport> {
        let (mut copied, mut room) = (CopyReport::default(), MAX_TOTAL_SIZE);
        for file in files {
            if copied.oids.contains(&file.pointer.oid) {
                continue;
            }
            match self.copy_one(&file.pointer, room)? {
                CopyResult::Verified { has_secret } => {
                    room = room.saturating_sub(file.pointer.size);
                    copied.oids.insert(file.pointer.oid.clone());
                    if has_secret {
                        copied.with_secret.push(file);
                    }
                }
                CopyResult::TooLarge => copied.too_large.push(file),
                CopyResult::NotFound => copied.missing.push(file),
            }
        }
        Ok(copied)
    }

    fn copy_one(&self, pointer: &Pointer, room: u64) -> io::Result<CopyResult> {
        let target = path_in(&self.target, &pointer.oid);
        for store in &self.stores {
            let found = path_in(store, &pointer.oid);
            // A link below the store could lead anywhere.
            let is_plain = [found.parent().and_then(Path::parent), found.parent()]
                .into_iter()
                .flatten()
                .chain([store.as_path()])
                .chain(store.parent())
                .all(is_directory);
            let Ok(mut source) = open_regular(&found, pointer.size) else {
                continue;
            };
            if !is_plain {
                continue;
            }
            if pointer.size > room {
                return Ok(CopyResult::TooLarge);
            }
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            if let Some(verified) = self.copy_and_verify(&mut source, &target, pointer)? {
                return Ok(verified);
            }
            fs::remove_file(&target)?;
        }
        Ok(CopyResult::NotFound)
    }

    /// Copies a file; returns `None` if it is not the pointer's object.
    fn copy_and_verify(
        &self,
        source: &mut File,
        target: &Path,
        pointer: &Pointer,
    ) -> io::Result<Option<CopyResult>> {
        let mut target = File::create(target)?;
        let (mut digest, mut scan) = (Context::new(&SHA256), self.redactor.stream());
        let (mut chunk, mut size) = (vec![0; CHUNK_SIZE], 0_u64);
        loop {
            if self.is_stopped.load(Ordering::Relaxed) {
                return Err(io::Error::other("the copy was stopped"));
            }
            let length = source.read(&mut chunk)?;
            if length == 0 {
                break;
            }
            let bytes = &chunk[..length];
            digest.update(bytes);
            scan.push(bytes, &mut |_| {});
            target.write_all(bytes)?;
            size += length as u64;
        }
        scan.finish(&mut |_| {});
        let is_object = size == pointer.size && pointer.has_digest(digest);
        Ok(is_object.then(|| CopyResult::Verified {
            has_secret: scan.has_masked(),
        }))
    }
}

/// The path at which git-lfs stores an object.
fn path_in(store: &Path, oid: &str) -> PathBuf {
    store.join(&oid[..2]).join(&oid[2..4]).join(oid)
}
