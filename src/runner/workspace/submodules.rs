//! The submodules of a new clone, before the agent starts.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::git::{Call, Git, GitError};

/// The maximum number of submodules; further ones are ignored.
const MAX_SUBMODULES: usize = 1000;

/// The directories of all submodules that were cloned, also those inside other submodules.
pub async fn cloned_submodules(git: &Git<'_>, dir: &Path) -> Result<Vec<PathBuf>, GitError> {
    let (mut found, mut unsearched) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = unsearched.pop() {
        for path in paths(git, &dir).await? {
            let submodule = dir.join(path);
            // A cloned submodule has a file that names its repository.
            let is_cloned = fs::symlink_metadata(submodule.join(".git"));
            if is_cloned.is_ok_and(|file| file.is_file()) && found.len() < MAX_SUBMODULES {
                found.push(submodule.clone());
                unsearched.push(submodule);
            }
        }
    }
    Ok(found)
}

/// The paths that `.gitmodules` names; none if there is no such file.
async fn paths(git: &Git<'_>, dir: &Path) -> Result<Vec<PathBuf>, GitError> {
    let file = ["config", "--null", "--file", ".gitmodules"];
    let call = Call::new(dir, file).arg("--get-regexp");
    let listed = match git.run(call.arg("^submodule\\..*\\.path$")).await {
        Ok(listed) => listed,
        // Exit code 1: nothing matches, or there is no file.
        Err(error) if error.exit_code == Some(1) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths = listed
        .split('\0')
        .filter_map(|entry| entry.split_once('\n'));
    let paths = paths.map(|(_, path)| PathBuf::from(path));
    Ok(paths.filter(|path| is_below(path)).collect())
}

/// Whether a path stays below the directory that it is relative to.
fn is_below(path: &Path) -> bool {
    path.components()
        .all(|component| matches!(component, Component::Normal(_)))
}
