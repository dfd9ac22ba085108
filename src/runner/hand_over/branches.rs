//! The push of the agent's branches whose commits are not part of the work.

use std::fmt::Write;

use crate::runner::product::Branch;
use crate::runner::push::{Push, PushResult};
use crate::task::Failure;

/// Pushes the agent's other branches, under names that begin with `result_branch`; returns sentences about them.
pub async fn push_branches(
    push: &Push<'_>,
    result_branch: &str,
    branches: &[Branch],
) -> Result<String, Failure> {
    let mut sentences = String::new();
    for branch in branches {
        let name = branch
            .name
            .strip_prefix(result_branch)
            .unwrap_or(&branch.name);
        let target = format!("{result_branch}-{}", without_special_characters(name));
        let PushResult { branch: pushed, .. } = push.push(&branch.commit, &target).await?;
        let name = branch.name.escape_debug();
        let _ = write!(
            sentences,
            "; the agent's branch {name} is on branch {pushed}"
        );
    }
    Ok(sentences)
}

/// The longest part of the name of an agent's branch that is used, in bytes. A part of a reference between two slashes is a
/// file name on the remote, and may have 255 bytes.
const MAX_NAME_SIZE: usize = 100;

/// The name of an agent's branch, with a hyphen in place of each character that git may not allow in a name.
fn without_special_characters(name: &str) -> String {
    let allowed = |c: char| {
        if c.is_alphanumeric() || c == '_' {
            c
        } else {
            '-'
        }
    };
    let mut word = String::new();
    for c in name.chars().map(allowed) {
        if word.len() + c.len_utf8() > MAX_NAME_SIZE {
            break;
        }
        word.push(c);
    }
    let word = word.trim_matches('-');
    if word.is_empty() { "branch" } else { word }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_branch_fits_into_a_file_name_in_any_script() {
        assert_eq!(without_special_characters("a/b c"), "a-b-c");
        assert_eq!(without_special_characters("//"), "branch");
        let long = without_special_characters(&"修".repeat(200));
        assert_eq!(long, "修".repeat(MAX_NAME_SIZE / 3));
    }
}
