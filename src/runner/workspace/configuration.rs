//! Reads and writes files of a new clone directly, before the agent starts. Each function avoids the start of a git
//! process.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Adds values to the configuration of a new clone. Each has a section, a key and a value. The clone must not have
/// these sections yet.
pub fn append(clone: &Path, values: &[(&str, &str, &String)]) -> io::Result<()> {
    let mut text = String::new();
    for (section, key, value) in values {
        text += &["[", section, "]\n\t", key, " = ", &quote(value), "\n"].concat();
    }
    let mut file = File::options()
        .append(true)
        .open(clone.join(".git/config"))?;
    file.write_all(text.as_bytes())
}

/// A value in quotes, so that git reads exactly this value.
fn quote(value: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in value.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// The commit of the branch that was just checked out; `None` if the file of the branch has no hash.
pub fn commit_of_branch(clone: &Path, branch: &str) -> Option<String> {
    let text = fs::read_to_string(clone.join(".git/refs/heads").join(branch)).ok()?;
    let commit = text.trim_end();
    let is_hash =
        matches!(commit.len(), 40 | 64) && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| commit.to_owned())
}

/// The largest index that is searched here, in bytes: about 10,000 files. Git searches a larger one.
const MAX_INDEX_SIZE: u64 = 1 << 20;

/// Whether the index may contain a `.gitattributes` file. Index files of the versions 2 and 3 contain each path as a
/// whole; in other versions a path can be divided. The worker's git makes no split index, which would have the path in
/// another file.
pub fn may_have_attributes(clone: &Path) -> bool {
    let path = clone.join(".git/index");
    let is_small = fs::metadata(&path).is_ok_and(|index| index.len() <= MAX_INDEX_SIZE);
    if !is_small {
        return true;
    }
    let Ok(index) = fs::read(path) else {
        return true;
    };
    let has_whole_names = matches!(index.get(4..8), Some([0, 0, 0, 2 | 3]));
    !has_whole_names || memchr::memmem::find(&index, b".gitattributes").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::samples::git;

    #[test]
    fn git_reads_back_every_value_exactly() {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "--quiet"]);
        let names = [
            "plain",
            " spaces at both ends ",
            "a \"quoted\" name",
            "back\\slash",
            "# hash ; semicolon",
            "two\nlines\tand a tab",
            "Zoë",
            "",
        ];
        for name in names {
            append(dir.path(), &[("user", "name", &name.to_owned())]).unwrap();
            assert_eq!(
                git(dir.path(), &["config", "--null", "user.name"]),
                format!("{name}\0")
            );
        }
    }

    #[test]
    fn attributes_in_any_directory_are_found_in_the_index() {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "--quiet"]);
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        for name in ["a/file", "a/b/file", "gitattributes"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        git(dir.path(), &["add", "."]);
        assert!(!may_have_attributes(dir.path()));
        fs::write(dir.path().join("a/b/.gitattributes"), "").unwrap();
        git(dir.path(), &["add", "."]);
        assert!(may_have_attributes(dir.path()));
        git(
            dir.path(),
            &["rm", "--quiet", "--cached", "a/b/.gitattributes"],
        );
        assert!(!may_have_attributes(dir.path()));
        git(dir.path(), &["update-index", "--index-version=4"]);
        assert!(may_have_attributes(dir.path()));
    }
}
