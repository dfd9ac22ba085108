//! Files that are replaced in one step.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::Builder;

/// Replaces a file, or makes it: readers see the old content or the whole new one, and after an error the file is as it
/// was. A link at `path` is replaced, not followed. Without `permissions`, the new file has those of any new file: the
/// umask decides.
///
/// # Errors
/// If the directory of the file is missing, or if the file cannot be written.
pub fn replace(path: &Path, content: &[u8], permissions: Option<Permissions>) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut builder = Builder::new();
    if permissions.is_none() {
        builder.permissions(Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(dir)?;
    file.write_all(content)?;
    // Until now, only this user could read the file.
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    file.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_replaced_with_its_permissions_and_no_other_file_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for (mode, content) in [(0o640, "first"), (0o600, "second")] {
            replace(
                &path,
                content.as_bytes(),
                Some(Permissions::from_mode(mode)),
            )
            .unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                mode
            );
        }
        replace(&path, b"third", None).unwrap();
        let new = dir.path().join("new");
        fs::write(&new, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&new));
        fs::remove_file(new).unwrap();
        // A directory cannot be replaced by a file.
        let occupied = dir.path().join("occupied");
        fs::create_dir(&occupied).unwrap();
        replace(&occupied, b"fourth", None).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
