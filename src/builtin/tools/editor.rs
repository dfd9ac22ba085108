//! `str_replace_based_edit_tool`: looks at files and directories, and changes text files.
//!
//! Confined to the workspace, so that a slip of the model's changes nothing else: what leads out,
//! by `..` or by a symbolic link, is refused. It is no wall against the agent, whose shell goes
//! wherever its user may. A file is changed as a whole or not at all.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::text;

/// The largest file that is looked at or changed, in bytes; larger ones are for the shell.
const FILE: u64 = 8 * 1024 * 1024;
/// How many entries a directory's view has.
const ENTRIES: usize = 500;
/// How deep a directory is looked into (the API says two levels).
const DEPTH: usize = 2;
/// How many places of a text that should be there once are looked for.
const PLACES: usize = 10;
/// The lines that are shown around a change.
const AROUND: usize = 4;
/// What fills directories and tells nothing.
const NOISE: [&str; 1] = ["node_modules"];

#[derive(Debug)]
pub struct Editor {
    /// Absolute, without symbolic links.
    root: PathBuf,
}

impl Editor {
    pub fn below(root: &Path) -> io::Result<Self> {
        let root = fs::canonicalize(root)?;
        Ok(Self { root })
    }

    /// One call of the tool.
    pub fn call(&self, input: &Value) -> Result<String, String> {
        let command = text(input, "command")?;
        let given = text(input, "path")?;
        let path = self.resolve(given)?;
        match command {
            "view" if path.is_dir() => view_directory(&path, given),
            "view" => view(&read(&path, given)?, &input["view_range"]),
            "create" => create(&path, given, text(input, "file_text")?),
            "str_replace" => {
                let new = match &input["new_str"] {
                    Value::Null => "",
                    _ => text(input, "new_str")?,
                };
                replace(&path, given, text(input, "old_str")?, new)
            }
            "insert" => {
                // The name of the type before this one, which models remember.
                let name = match &input["insert_text"] {
                    Value::Null => "new_str",
                    _ => "insert_text",
                };
                let added = text(input, name).map_err(|_| missing_text())?;
                insert(&path, given, &input["insert_line"], added)
            }
            _ => Err(format!(
                "there is no command {command:?}; there are view, create, str_replace and insert"
            )),
        }
    }

    /// The place that a path means, which must be in the workspace.
    fn resolve(&self, given: &str) -> Result<PathBuf, String> {
        let outside = || {
            format!(
                "{given} is not in the project's directory {}; this tool changes nothing outside it",
                self.root.display()
            )
        };
        let path = self.root.join(given);
        // What is there already has links; what is not there yet cannot have any.
        let (mut there, mut rest) = (path.as_path(), Vec::new());
        let real = loop {
            match fs::canonicalize(there) {
                Ok(real) => break real,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // A link that leads nowhere would be written through.
                    if there.is_symlink() {
                        return Err(format!("{given} is a symbolic link that leads nowhere"));
                    }
                    match (there.parent(), there.components().next_back()) {
                        (Some(parent), Some(Component::Normal(name))) => {
                            rest.push(name.to_owned());
                            there = parent;
                        }
                        _ => return Err(outside()),
                    }
                }
                Err(error) => return Err(format!("{given} cannot be reached: {error}")),
            }
        };
        if !real.starts_with(&self.root) {
            return Err(outside());
        }
        Ok(rest.iter().rev().fold(real, |path, name| path.join(name)))
    }
}

fn missing_text() -> String {
    "`insert_text` is missing; it must be a text".to_owned()
}

/// The text of a file.
fn read(path: &Path, given: &str) -> Result<String, String> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no file {given}"),
        _ => format!("{given} cannot be read: {error}"),
    };
    let found = fs::metadata(path).map_err(failed)?;
    if found.is_dir() {
        return Err(format!("{given} is a directory"));
    }
    if !found.is_file() {
        return Err(format!("{given} is not a regular file"));
    }
    if found.len() > FILE {
        let size = found.len();
        return Err(format!(
            "{given} is {size} bytes long, which is too much for this tool; use bash"
        ));
    }
    let bytes = fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| format!("{given} is not a text in UTF-8; use bash"))
}

/// Writes a file so that, whatever happens, it has either its old or its new content.
fn write(path: &Path, given: &str, content: &str) -> Result<(), String> {
    let written = match fs::metadata(path) {
        Ok(found) if found.permissions().readonly() => {
            return Err(format!("{given} is read-only"));
        }
        Ok(found) => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            tempfile::NamedTempFile::new_in(parent).and_then(|mut file| {
                file.write_all(content.as_bytes())?;
                file.as_file().set_permissions(found.permissions())?;
                file.persist(path).map(drop).map_err(|error| error.error)
            })
        }
        // Half of a new file is worse than none.
        Err(_) => fs::write(path, content).inspect_err(|_| drop(fs::remove_file(path))),
    };
    written.map_err(|error| format!("{given} cannot be written: {error}"))
}

/// Lines with their numbers, as `cat -n` has them.
fn numbered(lines: &[&str], first: usize) -> String {
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        let _ = writeln!(text, "{:>6}\t{line}", first + at);
    }
    text
}

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
                    "`view_range` is {range}, but the file has the lines 1 to {}",
                    lines.len()
                ));
            }
            (first, last)
        }
    };
    Ok(numbered(&lines[first - 1..last], first))
}

fn view_directory(path: &Path, given: &str) -> Result<String, String> {
    let mut text = format!("{given}/\n");
    let mut room = ENTRIES;
    list(path, 1, &mut text, &mut room)
        .map_err(|error| format!("{given} cannot be read: {error}"))?;
    if room == 0 {
        let _ = writeln!(
            text,
            "[... there is more; look into a directory of it, or use bash]"
        );
    }
    Ok(text)
}

/// Adds the entries of a directory, hidden ones left out.
fn list(path: &Path, depth: usize, text: &mut String, room: &mut usize) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(path)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if *room == 0 {
            return Ok(());
        }
        *room -= 1;
        // A link to a directory is not gone into: it may lead anywhere.
        let is_dir = entry.file_type()?.is_dir();
        let slash = if is_dir { "/" } else { "" };
        let _ = writeln!(text, "{}{name}{slash}", "  ".repeat(depth));
        if is_dir && depth < DEPTH && !NOISE.contains(&name.as_str()) {
            // One that may not be read has its name, and nothing below it.
            let _ = list(&entry.path(), depth + 1, text, room);
        }
    }
    Ok(())
}

fn create(path: &Path, given: &str, content: &str) -> Result<String, String> {
    let existed = match fs::metadata(path) {
        Ok(found) if found.is_file() => true,
        Ok(_) => return Err(format!("{given} is there, and is not a regular file")),
        Err(_) => false,
    };
    if let (false, Some(parent)) = (existed, path.parent()) {
        fs::create_dir_all(parent)
            .map_err(|error| format!("the directory of {given} cannot be made: {error}"))?;
    }
    write(path, given, content)?;
    let how = if existed { "overwritten" } else { "created" };
    Ok(format!(
        "{given} is {how}: {} lines",
        content.lines().count()
    ))
}

fn replace(path: &Path, given: &str, old: &str, new: &str) -> Result<String, String> {
    if old.is_empty() {
        return Err("`old_str` is empty; use insert or create".to_owned());
    }
    let content = read(path, given)?;
    let (mut old, mut new) = (old.to_owned(), new.to_owned());
    // The model sees lines, not how they end.
    if !content.contains(&old) && content.contains("\r\n") {
        old = old.replace("\r\n", "\n").replace('\n', "\r\n");
        new = new.replace("\r\n", "\n").replace('\n', "\r\n");
    }
    let places = content.match_indices(&old).map(|(at, _)| at);
    let places: Vec<usize> = places.take(PLACES).collect();
    let line = |at: usize| content[..at].matches('\n').count() + 1;
    match places.as_slice() {
        [] => Err(format!(
            "`old_str` is not in {given}; it must match exactly, white space included"
        )),
        [at] => {
            let changed = format!("{}{new}{}", &content[..*at], &content[at + old.len()..]);
            write(path, given, &changed)?;
            let first = line(*at);
            Ok(format!(
                "{given} is changed:\n{}",
                around(&changed, first, first + new.matches('\n').count())
            ))
        }
        several => {
            let lines: Vec<String> = several.iter().map(|at| line(*at).to_string()).collect();
            let least = if several.len() == PLACES {
                "at least "
            } else {
                ""
            };
            Err(format!(
                "`old_str` is {least}{} times in {given} (lines {}); it must be there once, so take more of what stands around it",
                several.len(),
                lines.join(", ")
            ))
        }
    }
}

fn insert(path: &Path, given: &str, after: &Value, added: &str) -> Result<String, String> {
    let content = read(path, given)?;
    let lines = content.lines().count();
    let after = after.as_u64().and_then(|line| usize::try_from(line).ok());
    let Some(after) = after.filter(|after| *after <= lines) else {
        return Err(format!(
            "`insert_line` must be a line number from 0 to {lines}, after which the text is inserted"
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
    // The last line may lack its end, and what is inserted may, too.
    let before_end = if before.is_empty() || before.ends_with('\n') {
        ""
    } else {
        end
    };
    let added = added.replace("\r\n", "\n");
    let added = added
        .strip_suffix('\n')
        .unwrap_or(&added)
        .replace('\n', end);
    let added_end = if rest.is_empty() && !content.is_empty() && !content.ends_with('\n') {
        ""
    } else {
        end
    };
    let changed = format!("{before}{before_end}{added}{added_end}{rest}");
    write(path, given, &changed)?;
    let last = after + 1 + added.matches('\n').count();
    Ok(format!(
        "{given} is changed:\n{}",
        around(&changed, after + 1, last)
    ))
}

/// The lines from `first` to `last` with some around them.
fn around(content: &str, first: usize, last: usize) -> String {
    let lines: Vec<&str> = content.lines().collect();
    let begin = first.saturating_sub(AROUND + 1).min(lines.len());
    let end = (last + AROUND).min(lines.len()).max(begin);
    numbered(&lines[begin..end], begin + 1)
}

#[cfg(test)]
mod tests;
