//! Patches in git's format: finds the changed files, and shows the lines in colors.

use maud::{Markup, html};

use super::model::File;
use super::text::{Cleaner, Text};

/// The maximum number of files in the list.
const MAX_FILES: usize = 200;

/// The files that a patch changes, at most [`MAX_FILES`].
pub fn changed_files(patch: &str, cleaner: &Cleaner) -> Vec<File> {
    let mut files: Vec<File> = Vec::new();
    let mut is_in_hunk = false;
    for line in patch.lines() {
        if let Some(paths) = line.strip_prefix("diff --git ") {
            if files.len() == MAX_FILES {
                break;
            }
            is_in_hunk = false;
            files.push(File {
                path: cleaner.line(path_of(paths)),
                insertions: 0,
                deletions: 0,
                is_binary: false,
            });
            continue;
        }
        let Some(file) = files.last_mut() else {
            continue;
        };
        match line.as_bytes().first() {
            Some(b'@') if line.starts_with("@@ ") => is_in_hunk = true,
            Some(b'+') if is_in_hunk => file.insertions += 1,
            Some(b'-') if is_in_hunk => file.deletions += 1,
            _ if line == "GIT binary patch" => file.is_binary = true,
            _ => {}
        }
    }
    files
}

/// The path after `diff --git`, which has it twice: `a/path b/path`.
fn path_of(paths: &str) -> &str {
    let half = paths.split_at_checked(paths.len() / 2);
    let twice = half.and_then(|(first, second)| {
        let (first, second) = (first.strip_prefix("a/")?, second.strip_prefix(" b/")?);
        (first == second).then_some(second)
    });
    // A renamed file has two paths; the new one counts.
    let renamed = paths.split_once(" b/").map(|(_, path)| path);
    twice.or(renamed).unwrap_or(paths)
}

/// The kind of a line of a patch, which decides its color.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LineKind {
    Header,
    Hunk,
    Added,
    Removed,
    /// A line that the patch does not change.
    Context,
}

impl LineKind {
    fn class(self) -> Option<&'static str> {
        match self {
            Self::Header => Some("head"),
            Self::Hunk => Some("hunk"),
            Self::Added => Some("add"),
            Self::Removed => Some("del"),
            Self::Context => None,
        }
    }
}

/// Renders a patch with colored lines. Adjacent lines of one kind share an element.
pub fn render_colored(patch: &Text) -> Markup {
    let mut pieces: Vec<(LineKind, String)> = Vec::new();
    let mut is_in_hunk = false;
    for line in patch.as_str().lines() {
        let kind = match line.as_bytes().first() {
            Some(b'd') if line.starts_with("diff --git ") => {
                is_in_hunk = false;
                LineKind::Header
            }
            Some(b'@') if line.starts_with("@@ ") => {
                is_in_hunk = true;
                LineKind::Hunk
            }
            _ if !is_in_hunk => LineKind::Header,
            Some(b'+') => LineKind::Added,
            Some(b'-') => LineKind::Removed,
            _ => LineKind::Context,
        };
        match pieces.last_mut() {
            Some((last, text)) if *last == kind => {
                text.push('\n');
                text.push_str(line);
            }
            _ => pieces.push((kind, line.to_owned())),
        }
    }
    html! {
        pre.patch {
            @for (kind, text) in &pieces {
                @if let Some(class) = kind.class() {
                    span.(class) { (text) }
                } @else {
                    (text)
                }
                "\n"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Redactor;

    const PATCH: &str = "diff --git a/a b/a b/a b/a\n--- a/a b/a\n+++ b/a b/a\n@@ -1,2 +1,2 @@\n-old\n--- still old\n+new\n same\n\
        diff --git a/from b/to\nsimilarity index 100%\nrename from from\nrename to to\n\
        diff --git a/picture b/picture\nGIT binary patch\nliteral 3\nKcmZ\n";

    #[test]
    fn insertions_and_deletions_are_counted_only_in_hunks() {
        let cleaner = Cleaner::new(&Redactor::new(&[]));
        let files = changed_files(PATCH, &cleaner);
        let found: Vec<_> = files
            .iter()
            .map(|file| {
                (
                    file.path.as_str(),
                    file.insertions,
                    file.deletions,
                    file.is_binary,
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("a b/a", 1, 2, false),
                ("to", 0, 0, false),
                ("picture", 0, 0, true)
            ]
        );
    }

    #[test]
    fn adjacent_lines_of_one_kind_share_an_element() {
        let cleaner = Cleaner::new(&Redactor::new(&[]));
        let html = render_colored(&cleaner.code(PATCH, 10_000)).into_string();
        assert!(
            html.contains("<span class=\"del\">-old\n--- still old</span>"),
            "{html}"
        );
        assert_eq!(html.matches("class=\"add\"").count(), 1, "{html}");
    }
}
