//! A temporary file without a name: in memory while it is small, on disk if it grows.
//! Creating a file on ext4 is slow if many files were deleted in the last seconds.

use std::fs::File;
use std::io::{self, Seek, Write};

use tempfile::{SpooledData, SpooledTempFile};

/// The largest file that stays in memory, in bytes. A larger file is on disk.
const MAX_SIZE_IN_MEMORY: usize = 256 * 1024;

/// A file that is being written.
#[derive(Debug)]
pub struct UnnamedFile(SpooledTempFile);

impl UnnamedFile {
    pub fn new() -> Self {
        Self(SpooledTempFile::new(MAX_SIZE_IN_MEMORY))
    }

    /// The written file, at its beginning.
    pub fn into_file(self) -> io::Result<File> {
        let mut file = match self.0.into_inner() {
            SpooledData::OnDisk(file) => file,
            SpooledData::InMemory(content) => {
                let mut file = create_in_memory()?;
                file.write_all(content.get_ref())?;
                file
            }
        };
        file.rewind()?;
        Ok(file)
    }
}

impl Write for UnnamedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// An empty file in memory; on disk if the system has no such files.
fn create_in_memory() -> io::Result<File> {
    #[cfg(target_os = "linux")]
    if let Ok(file) = rustix::fs::memfd_create("descartes-worker", rustix::fs::MemfdFlags::CLOEXEC)
    {
        return Ok(file.into());
    }
    tempfile::tempfile()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_small_file_is_in_memory_a_large_one_on_disk_and_both_are_read_from_the_beginning() {
        let device_on_disk = tempfile::tempfile().unwrap().metadata().unwrap().dev();
        for (size, is_on_disk) in [(0, false), (1000, false), (MAX_SIZE_IN_MEMORY + 1, true)] {
            let mut written = UnnamedFile::new();
            for _ in 0..size {
                written.write_all(b"x").unwrap();
            }
            let mut file = written.into_file().unwrap();
            if cfg!(target_os = "linux") {
                let device = file.metadata().unwrap().dev();
                assert_eq!(device == device_on_disk, is_on_disk, "{size}");
            }
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            assert_eq!(content, vec![b'x'; size]);
        }
    }
}
