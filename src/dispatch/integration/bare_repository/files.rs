//! Reads files from trees, and writes trees with a changed file.

use super::{BareRepository, with_input};
use crate::dispatch::integration::error::IntegrationError;
use crate::environment::variable;
use crate::git::Git;

/// The entry at a path of a tree.
#[derive(Debug)]
pub enum TreeEntry {
    File(Blob),
    Missing,
    Directory,
    /// A symbolic link.
    NotRegular,
    /// A file that is larger than the limit.
    TooLarge,
}

/// A file in a tree.
#[derive(Debug)]
pub struct Blob {
    /// The mode in octal digits, for example `100644`.
    pub mode: String,
    pub content: Vec<u8>,
}

impl BareRepository {
    /// The content of a file in a commit or tree, or the target of a symbolic link; `None` if there is neither at the
    /// path.
    pub async fn read_content(
        &self,
        git: &Git<'_>,
        tree: &str,
        path: &str,
    ) -> Result<Option<Vec<u8>>, IntegrationError> {
        let what = format!("{path} cannot be read from {tree}");
        let call = self.call(["cat-file", "--batch"]);
        let call = with_input(call, format!("{tree}:{path}\n").as_bytes())?;
        let finished = self.run_allowing_exit_code_1(git, &what, call).await?;
        let output = finished
            .require_success()
            .map_err(IntegrationError::git(what))?;
        // The output is `<id> blob <size>`, the content and a line break. Without such a file, it is one line that
        // describes the problem.
        let Some(end) = output.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let (head, content) = (String::from_utf8_lossy(&output[..end]), &output[end + 1..]);
        let mut words = head.split(' ').skip(1);
        Ok(match (words.next(), content.strip_suffix(b"\n")) {
            (Some("blob"), Some(content)) => Some(content.to_owned()),
            _ => None,
        })
    }

    /// A file in a commit or tree; `None` if there is no such file.
    pub async fn read_file(
        &self,
        git: &Git<'_>,
        tree: &str,
        path: &str,
    ) -> Result<Option<Blob>, IntegrationError> {
        match self.read_entry(git, tree, path, u64::MAX).await? {
            TreeEntry::File(blob) => Ok(Some(blob)),
            TreeEntry::Missing
            | TreeEntry::Directory
            | TreeEntry::NotRegular
            | TreeEntry::TooLarge => Ok(None),
        }
    }

    /// The entry at a path of a commit or tree. A file of more than `limit` bytes is not read.
    pub async fn read_entry(
        &self,
        git: &Git<'_>,
        tree: &str,
        path: &str,
        limit: u64,
    ) -> Result<TreeEntry, IntegrationError> {
        let what = format!("{path} cannot be read from {tree}");
        let list = self.call(["ls-tree", "-z", "--long", "--full-tree", tree, "--", path]);
        let entry = self.run(git, &what, list).await?;
        // `<mode> blob <id> <size>\t<path>`, with several spaces before the size
        let mut words = entry.split([' ', '\t']).filter(|word| !word.is_empty());
        let (mode, kind, id, size) = (words.next(), words.next(), words.next(), words.next());
        let (mode, id) = match (mode, kind, id) {
            (None, ..) => return Ok(TreeEntry::Missing),
            // A submodule is a directory in a clone.
            (_, Some("tree" | "commit"), _) => return Ok(TreeEntry::Directory),
            (Some(mode @ ("100644" | "100755")), Some("blob"), Some(id)) => (mode, id),
            _ => return Ok(TreeEntry::NotRegular),
        };
        if size.and_then(|size| size.parse().ok()) > Some(limit) {
            return Ok(TreeEntry::TooLarge);
        }
        let finished = self
            .run_allowing_exit_code_1(git, &what, self.call(["cat-file", "blob", id]))
            .await?;
        let content = finished
            .require_success()
            .map_err(IntegrationError::git(what))?;
        Ok(TreeEntry::File(Blob {
            mode: mode.to_owned(),
            content,
        }))
    }

    /// Writes a tree in which a file has the content of `blob`; returns the id of the tree. Adds the file if the tree
    /// does not have it. Replaces entries that are in its way: a file or link in the place of a parent directory, or a
    /// directory in the place of the file.
    pub async fn replace_file(
        &self,
        git: &Git<'_>,
        tree: &str,
        path: &str,
        blob: &Blob,
    ) -> Result<String, IntegrationError> {
        let what = format!("{path} cannot be changed in {tree}");
        let write = self.call(["hash-object", "-w", "--stdin", "--no-filters"]);
        let write = with_input(write, &blob.content)?;
        let id = self.run(git, &what, write).await?;
        let dir = tempfile::tempdir().map_err(|source| IntegrationError::File {
            what: "made",
            path: "a temporary directory".into(),
            source,
        })?;
        let index = vec![variable("GIT_INDEX_FILE", dir.path().join("index"))];
        let read = self.call(["read-tree", tree]).variables(&index);
        self.run(git, &what, read).await?;
        let entry = format!("{},{id},{path}", blob.mode);
        let update = self.call(["update-index", "--add", "--replace", "--cacheinfo", &entry]);
        self.run(git, &what, update.variables(&index)).await?;
        let write = self.call(["write-tree"]).variables(&index);
        self.run(git, &what, write).await
    }
}
