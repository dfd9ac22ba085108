//! Changes in the workspace that are not committed, and the sentences that name them.

/// The maximum number of names in a sentence.
const MAX_NAMES: usize = 10;

/// The changes that are not in the commit.
#[derive(Debug, Default)]
pub struct LeftBehind {
    /// Repositories that the agent made inside the project.
    nested: Vec<String>,
    /// git's error messages about files and directories that it could not read.
    unreadable: Vec<String>,
    /// Paths whose filter is not configured, or failed.
    unfiltered: Vec<String>,
    /// Submodules with changes that are not committed inside them.
    submodules: Vec<String>,
    /// Tracked files that changed and were not staged.
    unstaged: Vec<String>,
    /// New files that are too large for a commit.
    large: Vec<String>,
    /// Changed files for which the agent set assume-unchanged or skip-worktree.
    flagged: Vec<String>,
    /// Sentences about other changes.
    other_sentences: Vec<String>,
}

impl LeftBehind {
    /// Adds the nested repositories and the unreadable files that `git add` named on standard error.
    pub fn add_errors_of_git_add(&mut self, words: &str) {
        for line in words.lines() {
            let Some(line) = line
                .strip_prefix("error: ")
                .or_else(|| line.strip_prefix("warning: "))
            else {
                continue;
            };
            let without_commit = line.strip_suffix("' does not have a commit checked out");
            if let Some(path) = without_commit {
                let path = path.trim_start_matches('\'').trim_end_matches('/');
                self.nested.push(path.escape_debug().to_string());
            } else if !line.starts_with("external filter")
                && !line.starts_with("adding embedded git repository")
                && !line.starts_with("in the working copy of")
                && !line.starts_with("unable to index file")
                && !line.contains("will be replaced by")
            {
                self.unreadable.push(line.to_owned());
            }
        }
    }

    pub fn add_nested(&mut self, path: &[u8]) {
        self.nested.push(printable(path));
    }

    pub fn add_unfiltered(&mut self, path: &[u8], filter: &str) {
        let named = format!("{} (filter {filter})", printable(path));
        if !self.unfiltered.contains(&named) {
            self.unfiltered.push(named);
        }
    }

    pub fn add_submodule(&mut self, path: &[u8]) {
        self.submodules.push(printable(path));
    }

    pub fn add_unstaged(&mut self, path: &[u8]) {
        self.unstaged.push(printable(path));
    }

    pub fn add_large<'p>(&mut self, paths: impl Iterator<Item = &'p Vec<u8>>) {
        self.large.extend(paths.map(|path| printable(path)));
    }

    pub fn add_flagged(&mut self, path: &[u8]) {
        self.flagged.push(printable(path));
    }

    pub fn add_sentence(&mut self, sentence: String) {
        self.other_sentences.push(sentence);
    }

    /// Why the commit is not the whole work: changes of tracked files are missing, or files whose filter could not be
    /// applied. `None` if the commit is complete.
    pub fn incomplete_reason(&self) -> Option<String> {
        let mut parts = Vec::new();
        if !self.unfiltered.is_empty() {
            let names = join_names(&self.unfiltered);
            parts.push(format!(
                "these changed files need a git filter that is not configured, fails or was not applied, and would be published as plain text: {names}"
            ));
        }
        if !self.large.is_empty() {
            let names = join_names(&self.large);
            parts.push(format!("these new files are larger than 50 MiB: {names}"));
        }
        if !self.unstaged.is_empty() {
            let names = join_names(&self.unstaged);
            parts.push(format!("these changed files could not be added: {names}"));
            parts.extend(self.unreadable.iter().take(MAX_NAMES).cloned());
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Sentences about changes that git itself leaves out of a commit. They don't make the commit incomplete.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for (names, sentence) in [
            (
                &self.nested,
                "left out, because they are repositories of their own",
            ),
            (
                &self.flagged,
                "left out, because the agent told git to take them for unchanged",
            ),
            (
                &self.submodules,
                "left out, because submodules have changes that are not committed inside them",
            ),
        ] {
            if !names.is_empty() {
                notes.push(format!("{sentence}: {}", join_names(names)));
            }
        }
        if !self.unreadable.is_empty() && self.unstaged.is_empty() {
            let words = join_names(&self.unreadable);
            notes.push(format!(
                "left out, because git could not read them: {words}"
            ));
        }
        notes.extend(self.other_sentences.iter().cloned());
        notes
    }
}

/// A path without control characters.
fn printable(path: &[u8]) -> String {
    String::from_utf8_lossy(path).escape_debug().to_string()
}

/// The first names, separated by commas.
fn join_names(names: &[String]) -> String {
    let mut text = names[..names.len().min(MAX_NAMES)].join(", ");
    if names.len() > MAX_NAMES {
        text.push_str(", and more");
    }
    text
}
