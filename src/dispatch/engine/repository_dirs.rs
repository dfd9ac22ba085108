//! Finds the directories from which a repository borrows objects (`objects/info/alternates`).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use eyre::{WrapErr, bail};

/// How far borrowing goes: git itself follows five steps.
const MAX_DEPTH: usize = 5;

/// The directories of objects that a bare repository borrows from, directly or indirectly.
pub fn borrowed(repository: &Path) -> eyre::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    collect(&repository.join("objects"), MAX_DEPTH, &mut found)?;
    Ok(found)
}

fn collect(objects: &Path, depth: usize, found: &mut Vec<PathBuf>) -> eyre::Result<()> {
    let list = objects.join("info/alternates");
    let text = match fs::read_to_string(&list) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).wrap_err_with(|| format!("cannot read {}", list.display()));
        }
    };
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if line.starts_with('"') {
            bail!(
                "the path {line} in {} has unusual characters, so containers cannot get the repository: move the project, or use --repo",
                list.display()
            );
        }
        let dir = objects.join(line);
        if !found.contains(&dir) && depth > 0 {
            found.push(dir.clone());
            collect(&dir, depth - 1, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borrowed_directories_are_followed_and_circles_end() {
        let dir = tempfile::tempdir().unwrap();
        let objects = |name: &str| dir.path().join(name).join("objects");
        for (from, to) in [
            ("bare", "project"),
            ("project", "shared"),
            ("shared", "project"),
        ] {
            let info = objects(from).join("info");
            fs::create_dir_all(&info).unwrap();
            let text = format!("# comment\n{}\n", objects(to).display());
            fs::write(info.join("alternates"), text).unwrap();
        }
        let found = borrowed(&dir.path().join("bare")).unwrap();
        assert_eq!(found, [objects("project"), objects("shared")]);
        assert!(borrowed(&dir.path().join("none")).unwrap().is_empty());
    }
}
