//! The user's repository on this machine: where its objects and its work tree are.

use std::path::{Path, PathBuf};

use super::error::IntegrationError;
use crate::git::{Call, Git, GitError};

/// The user's repository on this machine.
#[derive(Debug)]
pub struct LocalProject {
    /// The directory with the objects and the references.
    pub common_dir: PathBuf,
    /// `sha1` or `sha256`.
    pub object_format: String,
    /// The top directory of the work tree; `None` for a bare repository.
    pub work_tree: Option<PathBuf>,
}

impl LocalProject {
    /// Finds the repository that contains a directory.
    pub async fn find(git: &Git<'_>, dir: &Path) -> Result<Self, IntegrationError> {
        let args = [
            "rev-parse",
            "--path-format=absolute",
            "--git-common-dir",
            "--show-object-format",
        ];
        let output = git
            .run_keeping_children(Call::new(dir, args))
            .await
            .map_err(|error| unreadable_error(dir, error))?;
        let (common_dir, object_format) =
            output
                .rsplit_once('\n')
                .ok_or_else(|| IntegrationError::Unexpected {
                    command: "rev-parse".to_owned(),
                    output: output.clone(),
                })?;
        let partial_clone_setting = Call::new(dir, ["config", "--get", "extensions.partialClone"]);
        if git
            .run_keeping_children(partial_clone_setting)
            .await
            .is_ok()
        {
            return Err(IntegrationError::PartialClone {
                source_name: dir.display().to_string(),
            });
        }
        Ok(Self {
            common_dir: common_dir.into(),
            object_format: object_format.to_owned(),
            work_tree: work_tree_of(git, dir).await,
        })
    }

    /// The line for the file `objects/info/alternates` of another repository. With this line, the other repository
    /// reads the objects of this one.
    pub fn alternates_line(&self) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt;
        let objects = self.common_dir.join("objects");
        let mut line = quote_path(objects.as_os_str().as_bytes());
        line.push(b'\n');
        line
    }
}

/// The error if git finds no repository at a directory, or cannot use it, for example because of its configuration.
fn unreadable_error(dir: &Path, error: GitError) -> IntegrationError {
    let dir = dir.display();
    let what = if error.messages.contains("not a git repository") {
        format!("{dir} is not in a git repository (`git init` makes one; then commit the project)")
    } else {
        format!("the repository of {dir} cannot be read")
    };
    IntegrationError::git(what)(error)
}

/// The top directory of the work tree that a directory is in; `None` if it is in no work tree.
async fn work_tree_of(git: &Git<'_>, dir: &Path) -> Option<PathBuf> {
    let args = ["rev-parse", "--path-format=absolute", "--show-toplevel"];
    let answer = git.run_keeping_children(Call::new(dir, args)).await;
    answer.ok().filter(|top| !top.is_empty()).map(PathBuf::from)
}

/// A path for a file in which git expects one path per line. A path with a quote, `#`, a backslash or a line break is
/// quoted as in C.
fn quote_path(path: &[u8]) -> Vec<u8> {
    if !path
        .iter()
        .any(|byte| matches!(byte, b'"' | b'#' | b'\n' | b'\\'))
    {
        return path.to_vec();
    }
    let mut text = vec![b'"'];
    for byte in path {
        match byte {
            b'\n' => text.extend(b"\\n"),
            b'"' | b'\\' => text.extend([b'\\', *byte]),
            _ => text.push(*byte),
        }
    }
    text.push(b'"');
    text
}
