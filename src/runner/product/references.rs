//! Reads the references of the agent's repository from its files, if there are only a few in the usual format.

use std::path::Path;

use super::files::{open_regular, texts_below};

/// If `refs` has more files and directories than this, git is asked instead.
const MAX_ENTRIES: usize = 64;
/// The largest file of a reference, in bytes: the name in `HEAD` can have a few hundred.
const MAX_SIZE: u64 = 1024;

/// The references of a repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct References {
    /// The commit of HEAD, if it has one.
    pub head: Option<String>,
    /// The full name of each reference, and the hash of its object.
    pub all: Vec<(String, String)>,
}

impl References {
    /// Reads the references. `None` if git must be asked: some are packed or in a reftable, there are further working
    /// trees, a name is unusual, a file contains anything but one hash, or HEAD names a branch without a commit.
    pub fn read(git_dir: &Path) -> Option<Self> {
        let is_absent = |name| std::fs::symlink_metadata(git_dir.join(name)).is_err();
        if !is_absent("packed-refs") || !is_absent("reftable") || !is_absent("worktrees") {
            return None;
        }
        let mut all = Vec::new();
        for (name, text) in texts_below(&git_dir.join("refs"), MAX_ENTRIES, MAX_SIZE)? {
            if !is_plain_name(&name) {
                return None;
            }
            all.push((format!("refs/{name}"), hash(&text)?.to_owned()));
        }
        all.sort();
        let head = std::io::read_to_string(open_regular(&git_dir.join("HEAD"), MAX_SIZE).ok()?);
        let head = head.ok()?;
        let head = match head.strip_prefix("ref: ") {
            Some(name) => {
                let name = name.strip_suffix('\n')?;
                // A branch without a commit has no file.
                let found = all.iter().find(|(known, _)| known == name)?;
                found.1.clone()
            }
            None => hash(&head)?.to_owned(),
        };
        Some(Self {
            head: Some(head),
            all,
        })
    }
}

/// The hash in the file of a reference.
fn hash(text: &str) -> Option<&str> {
    let hash = text.strip_suffix('\n')?;
    let is_hash = matches!(hash.len(), 40 | 64)
        && hash
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && hash.bytes().any(|byte| byte != b'0');
    is_hash.then_some(hash)
}

/// Whether git certainly allows a name. This is stricter than git's rules.
fn is_plain_name(name: &str) -> bool {
    let is_plain = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphanumeric())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
            && !part.contains("..")
            && !part.ends_with('.')
            && !part.to_ascii_lowercase().ends_with(".lock")
    };
    name.contains('/') && name.split('/').all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::samples::git;
    use std::fs;

    /// A repository with a commit on the branch `main`.
    fn repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "--quiet", "--initial-branch=main"]);
        git(
            dir.path(),
            &["commit", "--quiet", "--allow-empty", "--message=first"],
        );
        dir
    }

    /// The references that `git show-ref` prints.
    fn listed_by_git(dir: &Path) -> References {
        let mut found = References::default();
        for line in git(dir, &["show-ref", "--head"]).lines() {
            let (object, name) = line.split_once(' ').unwrap();
            match name {
                "HEAD" => found.head = Some(object.to_owned()),
                name => found.all.push((name.to_owned(), object.to_owned())),
            }
        }
        found
    }

    #[test]
    fn branches_tags_and_a_detached_head_are_read_as_git_lists_them() {
        let dir = repository();
        let git_dir = dir.path().join(".git");
        assert_eq!(References::read(&git_dir), Some(listed_by_git(dir.path())));
        git(dir.path(), &["branch", "feature/a.b_c-1"]);
        git(dir.path(), &["tag", "--annotate", "--message=t", "v1.0"]);
        git(dir.path(), &["checkout", "--quiet", "--detach"]);
        git(
            dir.path(),
            &["commit", "--quiet", "--allow-empty", "--message=second"],
        );
        let read = References::read(&git_dir).unwrap();
        assert_eq!(read, listed_by_git(dir.path()));
        assert_eq!(read.all.len(), 3);
    }

    #[test]
    fn git_is_asked_if_references_are_packed_symbolic_links_broken_or_have_unusual_names() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 7] = [
            ("packed", |dir| drop(git(dir, &["pack-refs", "--all"]))),
            ("symbolic", |dir| {
                drop(git(
                    dir,
                    &["symbolic-ref", "refs/heads/other", "refs/heads/main"],
                ));
            }),
            ("a link", |dir| {
                let heads = dir.join(".git/refs/heads");
                std::os::unix::fs::symlink("main", heads.join("link")).unwrap();
            }),
            ("broken", |dir| {
                fs::write(dir.join(".git/refs/heads/broken"), "123\n").unwrap();
            }),
            ("a lock", |dir| {
                fs::write(dir.join(".git/refs/heads/main.lock"), "").unwrap();
            }),
            ("a space", |dir| {
                let heads = dir.join(".git/refs/heads");
                fs::copy(heads.join("main"), heads.join("a b")).unwrap();
            }),
            ("no commit", |dir| {
                drop(git(dir, &["symbolic-ref", "HEAD", "refs/heads/none"]));
            }),
        ];
        for (name, change) in changes {
            let dir = repository();
            change(dir.path());
            assert_eq!(References::read(&dir.path().join(".git")), None, "{name}");
        }
    }
}
