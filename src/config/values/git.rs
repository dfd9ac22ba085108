//! Repositories, references and branches, as git accepts them.

use reqwest::Url;

use super::text::{ParseResult, line, line_up_to};

/// The longest URL or path of a repository, in bytes: the longest path of Linux.
const MAX_REPOSITORY_LEN: usize = 4096;

/// A repository as git accepts it: a URL, `host:path` for ssh, or an absolute path.
pub fn repository(text: &str) -> ParseResult<String> {
    let text = line_up_to(text, MAX_REPOSITORY_LEN)?;
    let example = "write it like https://git.example/project.git or git@git.example:project.git";
    let Some((scheme, _)) = text.split_once("://") else {
        let (host, path) = text.split_once(':').unwrap_or_default();
        let is_ssh =
            !host.is_empty() && !host.contains('/') && !host.starts_with('-') && !path.is_empty();
        let is_valid = text.starts_with('/') || is_ssh && !path.starts_with(':');
        return if is_valid {
            Ok(text)
        } else {
            Err(format!("is not a repository; {example}"))
        };
    };
    if !matches!(scheme, "http" | "https" | "ssh" | "git" | "file") {
        return Err(format!("has a scheme that cannot be cloned; {example}"));
    }
    let url: Url = text
        .parse()
        .map_err(|error| format!("is not a URL ({error}); {example}"))?;
    let is_http = matches!(scheme, "http" | "https");
    if url.password().is_some() || is_http && !url.username().is_empty() {
        return Err(
            "contains credentials, which every process on the machine could read; use DESCARTES_GIT_TOKEN"
                .to_owned(),
        );
    }
    Ok(text)
}

/// A branch, a tag or a commit.
pub fn git_reference(text: &str) -> ParseResult<String> {
    let text = line(text)?;
    if is_reference(&text) {
        Ok(text)
    } else {
        Err("is not a name that git allows for a branch, a tag or a commit".to_owned())
    }
}

/// A branch, or `none`.
pub fn branch(text: &str) -> ParseResult<Option<String>> {
    let text = line(text)?;
    let text = text.strip_prefix("refs/heads/").unwrap_or(&text);
    match text {
        "none" => Ok(None),
        _ if is_reference(text) && text != "HEAD" => Ok(Some(text.to_owned())),
        _ => Err("is not a name that git allows for a branch".to_owned()),
    }
}

/// The rules of git-check-ref-format, for a name below `refs/heads/`.
fn is_reference(name: &str) -> bool {
    let is_valid_part = |part: &str| {
        !part.is_empty() && !part.starts_with('.') && part.strip_suffix(".lock").is_none()
    };
    let forbidden = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    name.split('/').all(is_valid_part)
        && !name.contains(forbidden)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.starts_with('-')
        && !name.ends_with('.')
        && name != "@"
}

/// The longest part of a branch name, in bytes: a reference is a file on many servers, and the worker may add
/// a suffix to it.
const MAX_BRANCH_PART_LEN: usize = 100;

/// Makes one part of a branch name from any name: a character that git does not allow becomes a dash.
pub fn branch_part(name: &str) -> String {
    let allowed_char = |c: char| match c {
        '-' | '_' | '.' => c,
        c if c.is_alphanumeric() => c,
        _ => '-',
    };
    let part: String = name.chars().map(allowed_char).collect();
    let part = part.replace("..", "--");
    let part = part.trim_start_matches(['.', '-']);
    let mut end = MAX_BRANCH_PART_LEN.min(part.len());
    while !part.is_char_boundary(end) {
        end -= 1;
    }
    let mut part = &part[..end];
    loop {
        let shorter = part.trim_end_matches('.');
        let shorter = shorter.strip_suffix(".lock").unwrap_or(shorter);
        if shorter == part {
            break;
        }
        part = shorter;
    }
    if part.is_empty() { "_" } else { part }.to_owned()
}
