//! Finds the alternates of a repository: the object directories of other repositories whose objects it uses. Git lists
//! them in `objects/info/alternates`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use eyre::{WrapErr, bail};

/// How many steps from the first repository are followed: an alternate can have alternates. Git has the same limit.
const MAX_DEPTH: usize = 5;

/// The object directories of other repositories that a bare repository uses, directly or through another one.
pub fn alternate_object_dirs(repository: &Path) -> eyre::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    collect(&repository.join("objects"), MAX_DEPTH, &mut found)?;
    Ok(found)
}

/// Adds the alternates of an object directory to `found`, and their alternates, in at most `depth` steps.
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
    fn alternates_of_alternates_are_found_and_cycles_end() {
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
        let found = alternate_object_dirs(&dir.path().join("bare")).unwrap();
        assert_eq!(found, [objects("project"), objects("shared")]);
        assert!(
            alternate_object_dirs(&dir.path().join("none"))
                .unwrap()
                .is_empty()
        );
    }
}
