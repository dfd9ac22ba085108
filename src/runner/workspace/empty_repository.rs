//! Makes the empty repository of a clone by writing its files, as `git init --template=` does. That avoids the start of
//! a process.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// The hash function of a repository's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectFormat {
    Sha1,
    Sha256,
}

/// Makes the directory `.git` in `dir`.
pub fn create(dir: &Path, format: ObjectFormat) -> io::Result<()> {
    let git_dir = dir.join(".git");
    for name in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
        fs::create_dir_all(git_dir.join(name))?;
    }
    fs::write(git_dir.join("HEAD"), "ref: refs/heads/main\n")?;
    let config = git_dir.join("config");
    fs::write(&config, "")?;
    let mut text = String::from("[core]\n");
    text += match format {
        ObjectFormat::Sha1 => "\trepositoryformatversion = 0\n",
        ObjectFormat::Sha256 => "\trepositoryformatversion = 1\n",
    };
    text += if stores_executable_bit(&config)? {
        "\tfilemode = true\n"
    } else {
        "\tfilemode = false\n"
    };
    text += "\tbare = false\n\tlogallrefupdates = true\n";
    if !supports_symlinks(&git_dir) {
        text += "\tsymlinks = false\n";
    }
    if fs::symlink_metadata(git_dir.join("CoNfIg")).is_ok() {
        text += "\tignorecase = true\n";
    }
    if cfg!(target_os = "macos") {
        text += if ignores_unicode_composition(&git_dir)? {
            "\tprecomposeunicode = true\n"
        } else {
            "\tprecomposeunicode = false\n"
        };
    }
    if format == ObjectFormat::Sha256 {
        text += "[extensions]\n\tobjectformat = sha256\n";
    }
    fs::write(&config, text)
}

/// Whether the file system stores whether a file is executable.
fn stores_executable_bit(file: &Path) -> io::Result<bool> {
    let mode = || fs::metadata(file).map(|found| found.permissions().mode());
    let before = mode()?;
    if fs::set_permissions(file, Permissions::from_mode(before ^ 0o100)).is_err() {
        return Ok(false);
    }
    let is_stored = mode()? == before ^ 0o100;
    fs::set_permissions(file, Permissions::from_mode(before))?;
    // If the new file is executable already, the file system probably reports every file as executable.
    Ok(is_stored && before & 0o100 == 0)
}

/// Whether the file system has symbolic links.
fn supports_symlinks(git_dir: &Path) -> bool {
    let link = git_dir.join("link");
    let is_made = symlink("testing", &link).is_ok();
    let is_link = fs::symlink_metadata(&link).is_ok_and(|found| found.is_symlink());
    let _ = fs::remove_file(&link);
    is_made && is_link
}

/// Whether the file system treats a composed name ("ä") and its decomposed form ("a" and a mark) as the same name, like
/// the file system of macOS.
fn ignores_unicode_composition(git_dir: &Path) -> io::Result<bool> {
    let composed = git_dir.join("\u{e4}");
    fs::write(&composed, "")?;
    let is_found = fs::symlink_metadata(git_dir.join("a\u{308}")).is_ok();
    fs::remove_file(&composed)?;
    Ok(is_found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::samples::git;
    use std::collections::BTreeMap;

    /// The relative paths of all files and directories, with the contents and modes of the files.
    fn files_below(dir: &Path) -> BTreeMap<String, (u32, String)> {
        let (mut found, mut dirs) = (BTreeMap::new(), vec![dir.to_owned()]);
        while let Some(parent) = dirs.pop() {
            for entry in fs::read_dir(parent).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                let mode = fs::metadata(&path).unwrap().permissions().mode();
                let text = fs::read_to_string(&path).unwrap_or_default();
                found.insert(name, (mode, text));
                if path.is_dir() {
                    dirs.push(path);
                }
            }
        }
        found
    }

    #[test]
    fn the_repository_has_the_files_that_git_init_writes() {
        for (format, name) in [
            (ObjectFormat::Sha1, "sha1"),
            (ObjectFormat::Sha256, "sha256"),
        ] {
            let (written, made_by_git) =
                (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            create(written.path(), format).unwrap();
            let format = format!("--object-format={name}");
            let init = [
                "init",
                "--quiet",
                "--template=",
                "--initial-branch=main",
                &format,
            ];
            git(made_by_git.path(), &init);
            let mut files = [written.path(), made_by_git.path()].map(files_below);
            // The order of sections differs.
            let configs = files
                .each_mut()
                .map(|files| files.remove(".git/config").unwrap().0);
            assert_eq!(configs[0], configs[1]);
            let listed = [written.path(), made_by_git.path()].map(|dir| {
                let text = git(dir, &["config", "--local", "--list"]);
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            });
            assert_eq!(listed[0], listed[1]);
            assert_eq!(files[0], files[1]);
        }
    }
}
