//! Reads files that an agent could have replaced: never follows a link, never waits for a FIFO.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

/// Opens a regular file of at most `max_size` bytes.
pub fn open_regular(path: &Path, max_size: u64) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty())?);
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other(format!(
            "{} is not a file",
            path.display()
        )));
    }
    if found.len() > max_size {
        return Err(io::Error::other(format!("{} is too large", path.display())));
    }
    Ok(file)
}

/// Copies a regular file with its modification time, by which git knows which files it must read
/// again. A file that does not exist is not copied.
pub fn copy_regular(from: &Path, to: &Path, max_size: u64) -> io::Result<()> {
    let source = match open_regular(from, max_size) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let modified = source.metadata()?.modified()?;
    let mut target = File::create_new(to)?;
    io::copy(&mut source.take(max_size), &mut target)?;
    target.set_modified(modified)
}

/// Whether a path is a directory and no link to one.
pub fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}
