//! Entries of git's raw diff format.

/// A path at which two trees differ, with both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: Vec<u8>,
    old_mode: String,
    new_mode: String,
    pub old_object: String,
    pub new_object: String,
}

/// A file of a commit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommittedFile {
    pub path: Vec<u8>,
    /// The hash of the object with the content.
    pub object: String,
}

impl Entry {
    /// The file on the new side.
    pub fn new_file(&self) -> CommittedFile {
        CommittedFile {
            path: self.path.clone(),
            object: self.new_object.clone(),
        }
    }

    /// Whether either side is a directory. git lists directories only if it is asked to.
    pub fn is_directory(&self) -> bool {
        [&self.old_mode, &self.new_mode]
            .iter()
            .any(|mode| *mode == "040000")
    }

    /// Whether the new side is a file, a symbolic link or a directory, so that its object is in the repository.
    pub fn has_new_object(&self) -> bool {
        !matches!(self.new_mode.as_str(), "000000" | "160000")
    }

    /// Whether the old side is a file, a symbolic link or a directory, so that its object is in the repository.
    pub fn has_old_object(&self) -> bool {
        !matches!(self.old_mode.as_str(), "000000" | "160000")
    }

    /// Whether the new side is a regular file.
    pub fn is_file(&self) -> bool {
        self.new_mode.starts_with("100")
    }

    /// Whether the old side is a regular file.
    pub fn was_file(&self) -> bool {
        self.old_mode.starts_with("100")
    }

    /// Whether the path is a `.gitattributes` file.
    pub fn is_attributes_file(&self) -> bool {
        let name = self.path.rsplit(|byte| *byte == b'/').next();
        name.is_some_and(|name| name.eq_ignore_ascii_case(b".gitattributes"))
    }

    /// Whether both sides are a submodule.
    pub fn is_submodule(&self) -> bool {
        self.new_mode == "160000" && self.old_mode == "160000"
    }

    /// The commit that the new side names, if it is a submodule whose commit changed.
    pub fn new_gitlink(&self) -> Option<&str> {
        (self.new_mode == "160000" && self.new_object != self.old_object)
            .then_some(self.new_object.as_str())
    }

    /// The line for `git update-index -z --index-info` that restores the old side in the index.
    pub fn index_info_of_old(&self) -> Vec<u8> {
        // Mode 0 removes the path.
        let mode = if self.old_mode == "000000" {
            "0"
        } else {
            &self.old_mode
        };
        let mut line = format!("{mode} {}\t", self.old_object).into_bytes();
        line.extend_from_slice(&self.path);
        line.push(0);
        line
    }
}

/// Reads the output of `git diff-tree --raw -z`, which has two records for each entry: a header, then the path.
pub fn entries_of_raw_diff(records: &[Vec<u8>]) -> Vec<Entry> {
    let entries = records.chunks_exact(2).filter_map(|pair| {
        let header = String::from_utf8_lossy(&pair[0]);
        let mut words = header.strip_prefix(':')?.split(' ');
        let mut next = || words.next().map(str::to_owned);
        Some(Entry {
            old_mode: next()?,
            new_mode: next()?,
            old_object: next()?,
            new_object: next()?,
            path: pair[1].clone(),
        })
    });
    entries.collect()
}
