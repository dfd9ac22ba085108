//! The file that the report is written to.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use eyre::{WrapErr, bail};

/// Whether the name of a file ends in `.html` or `.htm`.
pub fn is_html(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    extension
        .is_some_and(|extension| matches!(extension.to_ascii_lowercase().as_str(), "html" | "htm"))
}

/// The file of a report. A test has shown that it can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportFile {
    /// Absolute, because the current directory may change.
    path: PathBuf,
    /// Whether the path is a device, which must be written directly and not replaced.
    is_special: bool,
}

impl ReportFile {
    /// Tests whether the report can be written, and leaves no file behind.
    ///
    /// # Errors
    /// If the directory does not exist or cannot be written, or the path is a directory.
    pub fn check(path: &Path) -> eyre::Result<Self> {
        let context = || {
            format!(
                "cannot write the report {}: name another file with --report",
                path.display()
            )
        };
        let mut target = std::path::absolute(path).wrap_err_with(context)?;
        // If the path is a link, the link stays and its target is replaced.
        if let Ok(real) = fs::canonicalize(&target) {
            target = real;
        }
        let existing = fs::metadata(&target).ok();
        if existing.as_ref().is_some_and(fs::Metadata::is_dir) {
            bail!(
                "cannot write the report {}: it is a directory; name a file with --report",
                path.display()
            );
        }
        // Opening a pipe would block until another process reads it.
        let is_pipe = |existing: &fs::Metadata| {
            existing.file_type().is_fifo() || existing.file_type().is_socket()
        };
        if existing.as_ref().is_some_and(is_pipe) {
            bail!(
                "cannot write the report {}: it is a pipe or a socket; name a file with --report",
                path.display()
            );
        }
        let file = Self {
            path: target,
            is_special: existing.is_some_and(|existing| !existing.is_file()),
        };
        if !file.is_special {
            drop(file.temporary().wrap_err_with(context)?);
        }
        Ok(file)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the report. Readers see the old file or the whole new one.
    pub fn write(&self, text: &str) -> eyre::Result<()> {
        let context = || format!("cannot write the report {}", self.path.display());
        if self.is_special {
            return fs::write(&self.path, text).wrap_err_with(context);
        }
        let mut temporary = self.temporary().wrap_err_with(context)?;
        temporary
            .write_all(text.as_bytes())
            .wrap_err_with(context)?;
        temporary.as_file().sync_data().wrap_err_with(context)?;
        temporary.persist(&self.path).wrap_err_with(context)?;
        Ok(())
    }

    /// A temporary file in the directory of the report; it is deleted when it is dropped.
    fn temporary(&self) -> std::io::Result<tempfile::NamedTempFile> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        tempfile::Builder::new()
            .prefix(".report-")
            // The umask reduces these permissions.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_replaces_a_file_and_leaves_no_other_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.html");
        fs::write(&path, "old").unwrap();
        let file = ReportFile::check(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        file.write("new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_and_its_target_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link.html"));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        ReportFile::check(&link).unwrap().write("new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert!(link.is_symlink());
    }

    #[test]
    fn a_path_that_cannot_be_written_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().to_owned(), dir.path().join("absent/out.html")] {
            let error = format!("{:#}", ReportFile::check(&path).unwrap_err());
            assert!(error.contains(path.to_str().unwrap()), "{error}");
            assert!(error.contains("--report"), "{error}");
        }
    }

    #[test]
    fn a_device_is_written_in_place() {
        ReportFile::check(Path::new("/dev/null"))
            .unwrap()
            .write("x")
            .unwrap();
    }

    #[test]
    fn a_pipe_is_rejected_because_it_may_have_no_reader() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe.html");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        let error = ReportFile::check(&path).unwrap_err().to_string();
        assert!(error.contains("it is a pipe or a socket"), "{error}");
    }

    #[test]
    fn the_extension_says_whether_the_report_is_html() {
        let names = ["a.html", "a.HTM", "a.json", "html", "a"];
        assert_eq!(
            names.map(|name| is_html(Path::new(name))),
            [true, true, false, false, false]
        );
    }
}
