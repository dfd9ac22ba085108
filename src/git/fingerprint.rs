//! Checks that git is still the program that was found before the agent ran: only this program gets a credential.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, access};

/// Facts about a file. If the file is changed, at least one of them changes. The time of the last change (ctime) cannot
/// be set back without root's rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    /// The ctime, in seconds and nanoseconds.
    changed_at: (i64, i64),
    /// Whether the worker's user, which is often the agent's user too, can write the file.
    is_writable: bool,
}

impl Fingerprint {
    /// Reads the facts about the file now.
    pub fn of(program: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(program)?;
        // Root can write everything.
        let is_writable =
            !rustix::process::geteuid().is_root() && access(program, Access::WRITE_OK).is_ok();
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed_at: (metadata.ctime(), metadata.ctime_nsec()),
            is_writable,
        })
    }

    /// An error if the program was changed, or if the agent could have changed it.
    pub fn check(self, program: &Path) -> Result<(), String> {
        let path = program.display();
        if self.is_writable {
            return Err(format!(
                "{path} can be written by the agent's user, so it gets no credential: install git for all users"
            ));
        }
        match Self::of(program) {
            Ok(now) if now == self => Ok(()),
            Ok(_) => Err(format!(
                "{path} was changed since the worker started, so it gets no credential"
            )),
            Err(error) => Err(format!("{path} cannot be looked at: {error}")),
        }
    }
}
