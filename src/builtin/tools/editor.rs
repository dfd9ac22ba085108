//! The `str_replace_based_edit_tool`: shows files and directories, and changes text files.
//!
//! Paths that lead out of the workspace, by `..` or by a symbolic link, are rejected, so that a
//! mistake of the model changes nothing else. This is not a security boundary: the shell can reach
//! everything. A file is written completely or not at all.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::arguments::string_argument;
use crate::atomic_file;

/// The largest file that is shown or changed, in bytes. The model can use the shell for a larger file.
const MAX_FILE_SIZE: u64 = 8 * 1024 * 1024;
/// How many entries the view of a directory has at most.
const MAX_ENTRIES: usize = 500;
/// How many levels the view of a directory has; the API's documentation says two.
const MAX_DEPTH: usize = 2;
/// How many occurrences of a text that must be unique are reported.
const MAX_OCCURRENCES: usize = 10;
/// How many lines before and after a change are shown.
const CONTEXT_LINES: usize = 4;
/// Directories whose entries are not listed.
const UNLISTED_DIRS: [&str; 1] = ["node_modules"];

/// The editor for one workspace.
#[derive(Debug)]
pub struct Editor {
    /// The workspace: an absolute path without symbolic links.
    root: PathBuf,
}

impl Editor {
    pub fn new(root: &Path) -> io::Result<Self> {
        let root = fs::canonicalize(root)?;
        Ok(Self { root })
    }

    /// Executes one call of the tool.
    pub fn call(&self, input: &Value) -> Result<String, String> {
        let command = string_argument(input, "command")?;
        let path_argument = string_argument(input, "path")?;
        let path = self.resolve(path_argument)?;
        match command {
            "view" if path.is_dir() => view_directory(&path, path_argument),
            "view" => view(&read(&path, path_argument)?, &input["view_range"]),
            "create" => create(&path, path_argument, string_argument(input, "file_text")?),
            "str_replace" => {
                let new = match &input["new_str"] {
                    Value::Null => "",
                    _ => string_argument(input, "new_str")?,
                };
                replace(
                    &path,
                    path_argument,
                    string_argument(input, "old_str")?,
                    new,
                )
            }
            "insert" => {
                // The argument's name in earlier versions of the tool, which models still use.
                let name = match &input["insert_text"] {
                    Value::Null => "new_str",
                    _ => "insert_text",
                };
                let new_text = string_argument(input, name).map_err(|_| missing_text_error())?;
                insert(&path, path_argument, &input["insert_line"], new_text)
            }
            _ => Err(format!(
                "there is no command {command:?}; there are view, create, str_replace and insert"
            )),
        }
    }

    /// The path without symbolic links; an error if it is outside of the workspace. The file may be missing.
    fn resolve(&self, path_argument: &str) -> Result<PathBuf, String> {
        let outside = || {
            format!(
                "{path_argument} is not in the project's directory {}; this tool only views and changes files in that directory",
                self.root.display()
            )
        };
        let path = self.root.join(path_argument);
        // Only the part that exists can contain symbolic links.
        let (mut existing, mut missing) = (path.as_path(), Vec::new());
        let real = loop {
            match fs::canonicalize(existing) {
                Ok(real) => break real,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // Writing to a dangling link would create its target.
                    if existing.is_symlink() {
                        return Err(format!(
                            "{path_argument} is a symbolic link to a file that does not exist"
                        ));
                    }
                    match (existing.parent(), existing.components().next_back()) {
                        (Some(parent), Some(Component::Normal(name))) => {
                            missing.push(name.to_owned());
                            existing = parent;
                        }
                        _ => return Err(outside()),
                    }
                }
                Err(error) => return Err(format!("{path_argument} cannot be reached: {error}")),
            }
        };
        if !real.starts_with(&self.root) {
            return Err(outside());
        }
        Ok(missing
            .iter()
            .rev()
            .fold(real, |path, name| path.join(name)))
    }
}

fn missing_text_error() -> String {
    "`insert_text` must be a string".to_owned()
}

/// The text of a file.
fn read(path: &Path, path_argument: &str) -> Result<String, String> {
    let read_error = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no file {path_argument}"),
        _ => format!("{path_argument} cannot be read: {error}"),
    };
    let metadata = fs::metadata(path).map_err(read_error)?;
    if metadata.is_dir() {
        return Err(format!("{path_argument} is a directory"));
    }
    if !metadata.is_file() {
        return Err(format!("{path_argument} is not a regular file"));
    }
    if metadata.len() > MAX_FILE_SIZE {
        let size = metadata.len();
        return Err(format!(
            "{path_argument} is {size} bytes long, which is too large for this tool; use bash"
        ));
    }
    let bytes = fs::read(path).map_err(read_error)?;
    String::from_utf8(bytes).map_err(|_| format!("{path_argument} is not text in UTF-8; use bash"))
}

/// Writes a file. After an error, the file has its old content, never a part of the new one.
fn write(path: &Path, path_argument: &str, content: &str) -> Result<(), String> {
    let written = match fs::metadata(path) {
        Ok(metadata) if metadata.permissions().readonly() => {
            return Err(format!("{path_argument} is read-only"));
        }
        Ok(metadata) => {
            atomic_file::replace(path, content.as_bytes(), Some(metadata.permissions()))
        }
        // An incomplete new file is removed.
        Err(_) => fs::write(path, content).inspect_err(|_| drop(fs::remove_file(path))),
    };
    written.map_err(|error| format!("{path_argument} cannot be written: {error}"))
}

/// Lines with their numbers, in the format of `cat -n`. `first` is the number of the first line.
fn with_line_numbers(lines: &[&str], first: usize) -> String {
    let mut text = String::new();
    for (number, line) in (first..).zip(lines) {
        let _ = writeln!(text, "{number:>6}\t{line}");
    }
    text
}

/// The numbered lines of a file, or of a range of its lines.
fn view(content: &str, range: &Value) -> Result<String, String> {
    let lines: Vec<&str> = content.lines().collect();
    if lines.is_empty() {
        return Ok("[the file is empty]".to_owned());
    }
    let (first, last) = match range {
        Value::Null => (1, lines.len()),
        range => {
            let ends = (range[0].as_u64(), range[1].as_i64());
            let (Some(first), Some(last)) = ends else {
                return Err(
                    "`view_range` must be two line numbers, like [11, 20] or [11, -1]".to_owned(),
                );
            };
            let first = usize::try_from(first).unwrap_or(usize::MAX);
            let last = match last {
                -1 => lines.len(),
                last => usize::try_from(last).unwrap_or(0).min(lines.len()),
            };
            if first == 0 || first > lines.len() || last < first {
                return Err(format!(
                    "`view_range` is {range}: the first line must be from 1 to {}, and the last line must not be before it",
                    lines.len()
                ));
            }
            (first, last)
        }
    };
    Ok(with_line_numbers(&lines[first - 1..last], first))
}

/// The entries of a directory, [`MAX_DEPTH`] levels deep.
fn view_directory(path: &Path, path_argument: &str) -> Result<String, String> {
    let mut text = format!("{path_argument}/\n");
    // Becomes 0 at the first entry that is left out.
    let mut entries_left = MAX_ENTRIES + 1;
    list(path, 1, &mut text, &mut entries_left)
        .map_err(|error| format!("{path_argument} cannot be read: {error}"))?;
    if entries_left == 0 {
        let _ = writeln!(
            text,
            "[... more entries are left out; view a subdirectory, or use bash]"
        );
    }
    Ok(text)
}

/// Adds the entries of a directory to `text`, except hidden entries.
fn list(path: &Path, depth: usize, text: &mut String, entries_left: &mut usize) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(path)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        *entries_left = entries_left.saturating_sub(1);
        if *entries_left == 0 {
            return Ok(());
        }
        // Links to directories are not followed: they may lead out of the workspace.
        let is_dir = entry.file_type()?.is_dir();
        let slash = if is_dir { "/" } else { "" };
        let _ = writeln!(text, "{}{name}{slash}", "  ".repeat(depth));
        if is_dir && depth < MAX_DEPTH && !UNLISTED_DIRS.contains(&name.as_str()) {
            // A directory that cannot be read is listed without entries.
            let _ = list(&entry.path(), depth + 1, text, entries_left);
        }
    }
    Ok(())
}

/// Creates or overwrites a file.
fn create(path: &Path, path_argument: &str, content: &str) -> Result<String, String> {
    let existed = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => true,
        Ok(_) => return Err(format!("{path_argument} exists and is not a regular file")),
        Err(_) => false,
    };
    if let (false, Some(parent)) = (existed, path.parent()) {
        fs::create_dir_all(parent).map_err(|error| {
            format!("the directory of {path_argument} cannot be created: {error}")
        })?;
    }
    write(path, path_argument, content)?;
    let change = if existed { "overwritten" } else { "created" };
    Ok(format!(
        "{path_argument} is {change}: {} lines",
        content.lines().count()
    ))
}

/// Replaces a text that occurs exactly once.
fn replace(path: &Path, path_argument: &str, old: &str, new: &str) -> Result<String, String> {
    if old.is_empty() {
        return Err("`old_str` is empty; use insert or create".to_owned());
    }
    let content = read(path, path_argument)?;
    let (mut old, mut new) = (old.to_owned(), new.to_owned());
    // The view does not show line ends, so the model cannot know that the file has carriage returns.
    // A file with both kinds of line ends is changed as the model wrote, if that is possible.
    let crlf_count = content.matches("\r\n").count();
    let is_crlf = crlf_count > 0 && crlf_count == content.matches('\n').count();
    if is_crlf || crlf_count > 0 && !content.contains(&old) {
        old = old.replace("\r\n", "\n").replace('\n', "\r\n");
        new = new.replace("\r\n", "\n").replace('\n', "\r\n");
    }
    let positions = content.match_indices(&old).map(|(at, _)| at);
    let positions: Vec<usize> = positions.take(MAX_OCCURRENCES).collect();
    let line = |at: usize| content[..at].matches('\n').count() + 1;
    match positions.as_slice() {
        [] => Err(format!(
            "`old_str` is not in {path_argument}; it must match exactly, white space included"
        )),
        [at] => {
            let changed = format!("{}{new}{}", &content[..*at], &content[at + old.len()..]);
            write(path, path_argument, &changed)?;
            let first = line(*at);
            Ok(format!(
                "{path_argument} is changed:\n{}",
                with_line_numbers_and_context(&changed, first, first + new.matches('\n').count())
            ))
        }
        several => {
            let lines: Vec<String> = several.iter().map(|at| line(*at).to_string()).collect();
            let least = if several.len() == MAX_OCCURRENCES {
                "at least "
            } else {
                ""
            };
            Err(format!(
                "`old_str` occurs {least}{} times in {path_argument} (lines {}); it must occur once, so include more of the text around it",
                several.len(),
                lines.join(", ")
            ))
        }
    }
}

/// Inserts lines after the line number `after`.
fn insert(
    path: &Path,
    path_argument: &str,
    after: &Value,
    new_text: &str,
) -> Result<String, String> {
    let content = read(path, path_argument)?;
    let lines = content.lines().count();
    let after = after.as_u64().and_then(|line| usize::try_from(line).ok());
    let Some(after) = after.filter(|after| *after <= lines) else {
        return Err(format!(
            "`insert_line` must be a line number from 0 to {lines}, the line after which the text is inserted"
        ));
    };
    let end = if content.contains("\r\n") {
        "\r\n"
    } else {
        "\n"
    };
    let at = content
        .split_inclusive('\n')
        .take(after)
        .map(str::len)
        .sum::<usize>();
    let (before, rest) = content.split_at(at);
    // Both the last line of the file and the inserted text may lack a newline.
    let before_end = if before.is_empty() || before.ends_with('\n') {
        ""
    } else {
        end
    };
    let new_text = new_text.replace("\r\n", "\n");
    let new_text = new_text
        .strip_suffix('\n')
        .unwrap_or(&new_text)
        .replace('\n', end);
    let new_text_end = if rest.is_empty() && !content.is_empty() && !content.ends_with('\n') {
        ""
    } else {
        end
    };
    let changed = format!("{before}{before_end}{new_text}{new_text_end}{rest}");
    write(path, path_argument, &changed)?;
    let last = after + 1 + new_text.matches('\n').count();
    Ok(format!(
        "{path_argument} is changed:\n{}",
        with_line_numbers_and_context(&changed, after + 1, last)
    ))
}

/// The lines from `first` to `last` with [`CONTEXT_LINES`] before and after them.
fn with_line_numbers_and_context(content: &str, first: usize, last: usize) -> String {
    let lines: Vec<&str> = content.lines().collect();
    let begin = first.saturating_sub(CONTEXT_LINES + 1).min(lines.len());
    let end = (last + CONTEXT_LINES).min(lines.len()).max(begin);
    with_line_numbers(&lines[begin..end], begin + 1)
}

#[cfg(test)]
mod tests;
