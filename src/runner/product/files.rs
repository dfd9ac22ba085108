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

/// The relative paths and the texts of all files below a directory. `None` if it has more than `max_entries` files and
/// directories or a file of more than `max_size` bytes, or if anything else is in it.
pub fn texts_below(dir: &Path, max_entries: usize, max_size: u64) -> Option<Vec<(String, String)>> {
    let (mut dirs, mut texts, mut count) = (vec![String::new()], Vec::new(), 0);
    while let Some(parent) = dirs.pop() {
        for entry in fs::read_dir(dir.join(&parent)).ok()? {
            let entry = entry.ok()?;
            count += 1;
            if count > max_entries {
                return None;
            }
            let name = entry.file_name().into_string().ok()?;
            let name = format!("{parent}{name}");
            if entry.file_type().ok()?.is_dir() {
                dirs.push(format!("{name}/"));
                continue;
            }
            let mut text = String::new();
            let file = open_regular(&entry.path(), max_size).ok()?;
            file.take(max_size).read_to_string(&mut text).ok()?;
            texts.push((name, text));
        }
    }
    Some(texts)
}

/// Whether a path is a directory and no link to one.
pub fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_from_all_directories_unless_there_are_too_many_too_large_ones_or_links() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/deep"), "1").unwrap();
        fs::write(dir.path().join("top"), "22").unwrap();
        let read = |entries, size| texts_below(dir.path(), entries, size);
        let mut found = read(4, 2).unwrap();
        found.sort();
        let text = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        assert_eq!(found, [text("a/b/deep", "1"), text("top", "22")]);
        assert_eq!(read(3, 2), None);
        assert_eq!(read(4, 1), None);
        std::os::unix::fs::symlink("top", dir.path().join("a/link")).unwrap();
        assert_eq!(read(9, 9), None);
    }
}
