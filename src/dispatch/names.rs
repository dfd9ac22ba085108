//! The ids of dispatches and runs, and lists of tasks. The id of a run is also the name of its process or machine.

use std::fmt::Write as _;

/// The maximum length of a name that every engine accepts, in characters.
const MAX_NAME_LENGTH: usize = 63;
/// The length that is reserved for the number of the attempt and its hyphen, in characters.
const ATTEMPT_LENGTH: usize = 6;
/// The length of the hash of the task and its hyphen, in characters.
const HASH_LENGTH: usize = 7;
/// How many tasks a list names at most.
const MAX_LISTED_TASKS: usize = 5;

/// The id of a run: `<dispatch>-<task>-<hash>-<attempt>`, at most 63 characters of `[a-z0-9-]`. The hash of the
/// task's full name distinguishes tasks whose shortened ids are the same, or that have the same id in two phases.
pub fn run_id(dispatch: &str, task: &str, attempt: u32) -> String {
    // The room for `<task>-<hash>`.
    let room = MAX_NAME_LENGTH - ATTEMPT_LENGTH - dispatch.len() - 1;
    let id = task.rsplit(':').next().unwrap_or(task);
    let short_id: String = id.replace('.', "-");
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.';
    let short_id = if id.chars().all(is_plain) && short_id.len() + HASH_LENGTH <= room {
        short_id
    } else {
        let plain = short_id.chars().map(|c| match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => c,
            _ => '-',
        });
        plain.take(room.saturating_sub(HASH_LENGTH)).collect()
    };
    format!("{dispatch}-{short_id}-{}-{attempt}", short_hash(task))
}

/// Six hexadecimal digits of the SHA-256 hash of a text.
pub fn short_hash(text: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let mut digits = String::new();
    for byte in hash.as_ref().iter().take(3) {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// Names tasks in a sentence: `the task 1`, `the tasks 1, 2 and 3`.
pub fn list_tasks(names: &[String]) -> String {
    let listed = names.len().min(MAX_LISTED_TASKS);
    let unlisted = names.len() - listed;
    let mut words = names[..listed].to_vec();
    let last = match unlisted {
        0 => words.pop().unwrap_or_default(),
        _ => format!("{unlisted} more"),
    };
    if words.is_empty() {
        return format!("the task {last}");
    }
    format!("the tasks {} and {last}", words.join(", "))
}

/// A new id for a dispatch.
pub fn dispatch_id() -> String {
    let random = getrandom::u32().unwrap_or_else(|_| std::process::id());
    format!("{random:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_many_tasks_names_the_first_five() {
        let list = |count: u32| {
            let names: Vec<String> = (1..=count).map(|name| name.to_string()).collect();
            list_tasks(&names)
        };
        assert_eq!(list(1), "the task 1");
        assert_eq!(list(2), "the tasks 1 and 2");
        assert_eq!(list(5), "the tasks 1, 2, 3, 4 and 5");
        assert_eq!(list(7), "the tasks 1, 2, 3, 4, 5 and 2 more");
    }

    #[test]
    fn run_ids_are_names_that_every_engine_accepts_and_differ_between_tasks() {
        let tasks = [
            "webapp:8.2".to_owned(),
            "webapp:8-2".to_owned(),
            "other:8.2".to_owned(),
            "webapp:A".to_owned(),
            "webapp:a".to_owned(),
            format!("webapp:{}", "0123456789abcdef".repeat(8)),
            format!("webapp:{}", "é".repeat(100)),
        ];
        let mut names: Vec<String> = tasks
            .iter()
            .map(|task| run_id("0a1b2c3d", task, 9999))
            .collect();
        for name in &names {
            assert!(name.len() <= 63, "{name}");
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.chars().all(allowed), "{name}");
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), tasks.len());
    }
}
