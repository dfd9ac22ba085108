//! What a change looks like: its numbers, and the patch that goes into a report.
//!
//! Looks at commits only. The patch applies with `git apply`, unless it says that it was cut.

use std::fs;

use tokio::sync::Notify;

use super::errors::{failed_io, run_stream};
use super::records::Records;
use super::repository::Repository;
use crate::git::Git;
use crate::task::{Failure, Patch};

/// The most that a patch may take inside a report, as the report writes it (the protocol says
/// 128 KiB; a line feed is two bytes there).
const PATCH: usize = 128 * 1024;

/// How much was changed.
#[derive(Debug, Default)]
pub struct Count {
    pub files: u64,
    /// Binary files have no lines.
    pub insertions: u64,
    pub deletions: u64,
    /// One of the paths, where there is but one.
    pub only: Option<String>,
}

pub async fn count(
    git: &Git<'_>,
    repository: &Repository,
    base: &str,
    head: &str,
) -> Result<Count, Failure> {
    let mut records = Records::new(0);
    let mut count = Count::default();
    let call = repository
        .call(diff(["--numstat", "-z"]))
        .arg(base)
        .arg(head);
    run_stream(git, call, &mut |bytes| {
        records.push(bytes, |record| {
            let text = String::from_utf8_lossy(record);
            let mut fields = text.splitn(3, '\t');
            let mut next = || {
                let number = fields.next().and_then(|number| number.parse::<u64>().ok());
                number.unwrap_or(0)
            };
            count.files += 1;
            count.insertions += next();
            count.deletions += next();
            count.only = fields
                .next()
                .filter(|_| count.files == 1)
                .map(str::to_owned);
        });
    })
    .await?;
    Ok(count)
}

/// The patch in git's format, with binary files, redacted; cut where it is too long.
pub async fn patch(
    git: &Git<'_>,
    repository: &Repository,
    base: &str,
    head: &str,
) -> Result<Option<Patch>, Failure> {
    let (mut bytes, mut cut) = difference(git, repository, base, head).await?;
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        // The end of a cut text may be half a character, which is no flaw of the text.
        Err(error) if cut && error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => {
            // A report is UTF-8 and the files are not. As binary files they survive it.
            let attributes = repository.dir().join("info/attributes");
            let written = fs::create_dir_all(repository.dir().join("info"))
                .and_then(|()| fs::write(attributes, "* -diff\n"));
            written.map_err(|error| failed_io(&error))?;
            (bytes, cut) = difference(git, repository, base, head).await?;
            std::str::from_utf8(&bytes).unwrap_or_default()
        }
    };
    let fitting = fitting(text);
    Ok((!text.is_empty()).then(|| Patch {
        text: fitting.to_owned(),
        truncated: cut || fitting.len() < text.len(),
    }))
}

/// The first of the patch, at least as much as fits; and whether that is not all, or not as it was.
async fn difference(
    git: &Git<'_>,
    repository: &Repository,
    base: &str,
    head: &str,
) -> Result<(Vec<u8>, bool), Failure> {
    let call = repository
        .call(diff(["--binary", "--full-index"]))
        .arg(base)
        .arg(head);
    let mut kept = Vec::new();
    let mut redacted = git.redactor.stream();
    let full = Notify::new();
    let mut keep = |clean: &[u8]| {
        let room = PATCH + 1 - kept.len();
        kept.extend_from_slice(&clean[..clean.len().min(room)]);
        if kept.len() > PATCH {
            full.notify_one();
        }
    };
    let mut listen = |bytes: &[u8]| redacted.push(bytes, &mut keep);
    let whole = tokio::select! {
        biased;
        done = run_stream(git, call, &mut listen) => {
            done?;
            true
        }
        // Whatever else there is would be cut off, so that nobody waits for it.
        () = full.notified() => false,
    };
    if whole {
        redacted.finish(&mut keep);
    }
    let masked = redacted.masked();
    Ok((kept, !whole || masked))
}

fn diff<const N: usize>(how: [&'static str; N]) -> Vec<&'static str> {
    // No renames: every path is one record, and more programs can apply the patch.
    let common = [
        "--no-renames",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
    ];
    ["diff"].into_iter().chain(how).chain(common).collect()
}

/// The beginning of a text that takes no more than its share of a report.
fn fitting(text: &str) -> &str {
    let mut taken = 0;
    let end = text.char_indices().find(|(_, c)| {
        taken += match c {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            c if c.is_ascii_control() && *c != '\u{7f}' => 6,
            c => c.len_utf8(),
        };
        taken > PATCH
    });
    end.map_or(text, |(end, _)| &text[..end])
}
