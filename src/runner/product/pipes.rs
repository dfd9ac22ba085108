//! Pipes and devices that stand where git would read a file, and would wait for ever.
//!
//! Takes away only what no commit could hold anyway, and only where git itself looks: attributes,
//! ignored files, repositories inside the project. Follows no symbolic link.

use std::fs::{self, DirEntry};
use std::path::Path;

/// Clears a workspace of them; what cannot be looked into, git cannot look into either.
pub fn clear(workspace: &Path) {
    // The repository of the workspace itself is not git's to look at.
    let mut directories = vec![(workspace.to_owned(), false)];
    while let Some((directory, of_git)) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let name = entry.file_name();
            if kind.is_dir() {
                if name == ".git" && directory == workspace {
                    continue;
                }
                directories.push((entry.path(), of_git || name == ".git"));
            } else if !kind.is_file()
                && !kind.is_symlink()
                && (of_git || name == ".gitattributes" || name == ".gitignore")
            {
                take_away(&entry);
            }
        }
    }
}

fn take_away(entry: &DirEntry) {
    let path = entry.path();
    match fs::remove_file(&path) {
        Ok(()) => tracing::warn!(?path, "no file where git reads one; it is taken away"),
        Err(error) => tracing::warn!(?path, %error, "no file where git reads one"),
    }
}
