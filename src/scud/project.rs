//! The directory of a project. The other files of this folder add the methods of [`Project`].

use std::path::PathBuf;

/// A project that keeps its tasks with SCUD.
#[derive(Debug, Clone)]
pub struct Project {
    pub(super) root: PathBuf,
}

impl Project {
    /// The project whose `.scud` directory lies directly below `root`. Reads nothing.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn path(&self, components: &[&str]) -> PathBuf {
        let mut path = self.root.clone();
        path.extend(components);
        path
    }
}
