//! Finds programs: on a search path, in a command line, and this program itself.
//!
//! Starts nothing and reads no environment variables: the caller passes the search path.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Words that a shell executes itself (POSIX, and what bash adds), so no file needs to exist for them.
const SHELL_WORDS: [&str; 62] = [
    ".", ":", "alias", "bg", "break", "case", "cd", "command", "continue", "declare", "do", "done",
    "echo", "elif", "else", "esac", "eval", "exec", "exit", "export", "false", "fc", "fg", "fi",
    "for", "function", "getopts", "hash", "if", "in", "jobs", "kill", "let", "local", "newgrp",
    "printf", "pwd", "read", "readonly", "return", "select", "set", "shift", "source", "test",
    "then", "time", "times", "trap", "true", "type", "typeset", "ulimit", "umask", "unalias",
    "unset", "until", "wait", "while", "builtin", "shopt", "disown",
];

/// The result of [`look_up`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The program exists.
    Found,
    /// The program with this name does not exist, or is not executable.
    Missing(String),
    /// The command line is too complex to say which program it starts.
    Unknown,
}

/// The first program of that name on a search path.
pub fn on_path(search_path: &OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(search_path)
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

/// Looks for the program that a command line for `sh -c` starts first. `dir` is the directory in
/// which the command will run, if it exists already.
pub fn look_up(command: &str, search_path: &OsStr, dir: Option<&Path>) -> Lookup {
    let is_assignment = |word: &&str| {
        let name = word.split_once('=').map(|(name, _)| name);
        name.is_some_and(|name| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
    };
    let has_shell_syntax =
        |word: &str| word.contains(|c: char| "\\\"'`$;&|<>(){}[]*?#~!=".contains(c));
    let mut words = command
        .split_whitespace()
        .skip_while(|word| is_assignment(word) && !has_shell_syntax(&word.replace('=', "")));
    let Some(word) = words.next() else {
        return Lookup::Unknown;
    };
    if has_shell_syntax(word) || SHELL_WORDS.contains(&word) {
        return Lookup::Unknown;
    }
    let found = if word.contains('/') {
        match dir {
            Some(dir) => is_executable(&dir.join(word)),
            None if word.starts_with('/') => is_executable(Path::new(word)),
            None => return Lookup::Unknown,
        }
    } else {
        on_path(search_path, word).is_some()
    };
    if found {
        Lookup::Found
    } else {
        Lookup::Missing(word.to_owned())
    }
}

fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The file of this running program, even if another file has replaced it at its path.
pub fn own_executable() -> std::io::Result<PathBuf> {
    // In a child process this link leads to the file of the parent until the child calls exec.
    let link = PathBuf::from("/proc/self/exe");
    if cfg!(target_os = "linux") && link.exists() {
        return Ok(link);
    }
    std::env::current_exe()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_of_a_command_line_is_looked_up() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, mode| {
            let path = dir.path().join(name);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        file("tool", 0o755);
        file("plain", 0o644);
        let path = dir.path().as_os_str();
        let missing = |word: &str| Lookup::Missing(word.to_owned());
        for (command, expected) in [
            ("tool --flag", Lookup::Found),
            ("A=1 B_2= tool | sort", Lookup::Found),
            ("./tool", Lookup::Found),
            ("plain", missing("plain")),
            ("./plain x", missing("./plain")),
            ("nope && tool", missing("nope")),
            ("A=1 nope", missing("nope")),
            ("/nowhere/tool", missing("/nowhere/tool")),
            ("cd x && nope", Lookup::Unknown),
            ("exit 127", Lookup::Unknown),
            ("$TOOL", Lookup::Unknown),
            ("A=$(date) nope", Lookup::Unknown),
            ("(nope)", Lookup::Unknown),
            ("# nope", Lookup::Unknown),
            ("A=1", Lookup::Unknown),
            ("", Lookup::Unknown),
        ] {
            assert_eq!(
                look_up(command, path, Some(dir.path())),
                expected,
                "{command}"
            );
        }
        assert_eq!(look_up("./tool", path, None), Lookup::Unknown);
        assert_eq!(
            look_up("/nowhere/tool", path, None),
            missing("/nowhere/tool")
        );
    }
}
