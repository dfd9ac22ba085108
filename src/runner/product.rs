//! What an agent made: one head commit on top of the base, its numbers, its patch.
//!
//! Looks at the workspace through a repository of the worker's own (the vault), made after
//! everything of the agent's is dead. Of the agent's repository only objects are used, and the
//! name of its HEAD; its configuration, hooks, index and attributes' programs are never in force.
//! Pushes nothing; `push` does.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::Variables;
use super::git::{Call, Git, GitError};
use super::workspace::Clone;
use crate::task::{Failure, Patch, Reason, Work};

/// The most of a patch inside a report (the protocol says 128 KiB).
const PATCH: usize = 128 * 1024;
/// Larger files are not committed: forges refuse them, and they are build products.
const LARGEST: u64 = 50 * 1024 * 1024;

/// What the commit says of itself.
#[derive(Debug, Clone)]
pub struct Message {
    pub subject: String,
    /// `Task-Id` and the like, with their values.
    pub trailers: Vec<(&'static str, String)>,
}

/// The work, in a repository from which it can be pushed.
#[derive(Debug)]
pub struct Product {
    pub vault: Vault,
    pub work: Work,
    /// Why it must not leave, where it must not.
    pub held_back: Option<String>,
}

/// A bare repository that nobody but the worker has written.
#[derive(Debug)]
pub struct Vault {
    dir: TempDir,
    variables: Variables,
}

impl Vault {
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A command on this repository and, where it looks at files, the workspace.
    pub fn call(&self, args: impl IntoIterator<Item = impl Into<std::ffi::OsString>>) -> Call<'_> {
        Call::new(self.dir(), args).variables(&self.variables)
    }
}

/// Collects what was made in a clone.
pub async fn collect(git: &Git<'_>, clone: &Clone, message: &Message) -> Result<Product, Failure> {
    let vault = open(git, clone).await?;
    let head = agents_head(git, clone, &vault).await;
    let tip = head.clone().unwrap_or_else(|| clone.base.clone());
    if tip != clone.base {
        // Stat information stays where nothing changed, so that not every file is read again.
        run(
            git,
            vault.call(["read-tree", "-i", "-m", &clone.base, &tip]),
        )
        .await?;
    }
    run(
        git,
        in_workspace(vault.call(["add", "--all", "--", "."]), clone),
    )
    .await?;
    let tree = run(git, vault.call(["write-tree"])).await?;
    let tips_tree = run(git, vault.call(["rev-parse", &format!("{tip}^{{tree}}")])).await?;
    let head = if tree == tips_tree {
        tip
    } else {
        commit(git, clone, &vault, &tree, &tip, message).await?
    };

    let mut work = Work::new(&clone.base, &head);
    (work.files_changed, work.insertions, work.deletions) =
        count(git, &vault, &clone.base, &head).await?;
    work.patch = patch(git, &vault, &clone.base, &head).await?;
    let held_back = must_not_travel(git, &vault, &clone.base, &head).await?;
    Ok(Product {
        vault,
        work,
        held_back,
    })
}

/// Makes the vault: the agent's objects to read, the base as a root, the index of the checkout.
async fn open(git: &Git<'_>, clone: &Clone) -> Result<Vault, Failure> {
    clone.still_there()?;
    let dir = tempfile::Builder::new()
        .prefix("descartes-vault-")
        .tempdir()
        .map_err(|error| unmade(&error))?;
    run(
        git,
        Call::new(
            dir.path(),
            ["init", "--quiet", "--bare", "--template=", "."],
        ),
    )
    .await?;
    let index = dir.path().join("index");
    let prepared = fs::write(dir.path().join("shallow"), format!("{}\n", clone.base))
        .and_then(|()| fs::write(&index, &clone.index));
    prepared.map_err(|error| unmade(&error))?;
    let mut variables: Variables = vec![
        ("GIT_DIR".into(), dir.path().into()),
        ("GIT_INDEX_FILE".into(), index.into()),
    ];
    if let Some(objects) = clone.objects() {
        variables.push((
            "GIT_ALTERNATE_OBJECT_DIRECTORIES".into(),
            quoted(&objects).into(),
        ));
    }
    let vault = Vault { dir, variables };
    let there = |what: String| git.run(vault.call(["cat-file".to_owned(), "-e".to_owned(), what]));
    if there(format!("{}^{{tree}}", clone.base)).await.is_err() {
        tracing::warn!("the agent has damaged the repository, so the base is fetched again");
        let fetch = ["fetch", "--quiet", "--progress", "--no-tags", "--depth=1"];
        run(
            git,
            vault
                .call(fetch)
                .arg(&clone.url)
                .arg(&clone.base)
                .transfer(),
        )
        .await?;
    }
    Ok(vault)
}

/// The agent's own last commit, if it stands on the base.
async fn agents_head(git: &Git<'_>, clone: &Clone, vault: &Vault) -> Option<String> {
    let repository = clone.dir.join(".git");
    if !fs::symlink_metadata(&repository).ok()?.is_dir() {
        return None;
    }
    let call = Call::new(&clone.dir, ["--git-dir"])
        .arg(repository)
        .arg("rev-parse")
        .arg("--verify")
        .arg("HEAD^{commit}");
    let head = git.run(call).await.ok()?;
    if head.len() != clone.base.len() || !head.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let descends = git
        .run(vault.call(["merge-base", "--is-ancestor", &clone.base, &head]))
        .await;
    if descends.is_err() {
        tracing::warn!(
            head,
            "the agent's commits don't stand on the base, so their content becomes one commit"
        );
        return None;
    }
    Some(head)
}

async fn commit(
    git: &Git<'_>,
    clone: &Clone,
    vault: &Vault,
    tree: &str,
    parent: &str,
    message: &Message,
) -> Result<String, Failure> {
    let mut text = format!("{}\n\n", message.subject);
    for (name, value) in &message.trailers {
        let _ = writeln!(text, "{name}: {value}");
    }
    let call = vault
        .call(["commit-tree", tree, "-p", parent, "-F", "-"])
        .variables(&clone.identity);
    run(
        git,
        call.input(text.as_bytes())
            .map_err(|error| unmade(&error))?,
    )
    .await
}

/// Files changed, lines added, lines deleted; binary files have no lines.
async fn count(
    git: &Git<'_>,
    vault: &Vault,
    base: &str,
    head: &str,
) -> Result<(u64, u64, u64), Failure> {
    let mut fields = Fields::new(0);
    let (mut files, mut insertions, mut deletions) = (0, 0, 0);
    let call = vault.call([
        "diff",
        "--numstat",
        "-z",
        "--no-renames",
        "--no-ext-diff",
        "--no-textconv",
        base,
        head,
    ]);
    stream(git, call, &mut |bytes| {
        fields.push(bytes, |record| {
            let text = String::from_utf8_lossy(record);
            let mut numbers = text.splitn(3, '\t');
            let mut next = || {
                numbers
                    .next()
                    .and_then(|number| number.parse::<u64>().ok())
                    .unwrap_or(0)
            };
            (files, insertions, deletions) = (files + 1, insertions + next(), deletions + next());
        });
    })
    .await?;
    Ok((files, insertions, deletions))
}

/// The patch in git's format, with binary files, redacted; cut where it is too long.
async fn patch(
    git: &Git<'_>,
    vault: &Vault,
    base: &str,
    head: &str,
) -> Result<Option<Patch>, Failure> {
    let mut text = Vec::new();
    let mut truncated = false;
    let mut redacted = git.redactor.stream();
    let mut keep = |clean: &[u8]| {
        let room = PATCH - text.len();
        truncated |= clean.len() > room;
        text.extend_from_slice(&clean[..clean.len().min(room)]);
    };
    let call = vault.call([
        "diff",
        "--binary",
        "--full-index",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        base,
        head,
    ]);
    stream(git, call, &mut |bytes| redacted.push(bytes, &mut keep)).await?;
    redacted.finish(&mut keep);
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok((!text.is_empty()).then_some(Patch { text, truncated }))
}

/// Why the commits must not leave the machine: files that are too large, or that hold a secret.
async fn must_not_travel(
    git: &Git<'_>,
    vault: &Vault,
    base: &str,
    head: &str,
) -> Result<Option<String>, Failure> {
    let range = format!("{base}..{head}");
    let mut blobs: Vec<(String, String)> = Vec::new();
    let mut fields = Fields::new(0);
    let mut pending = None;
    let log = [
        "log",
        "--format=",
        "--raw",
        "-z",
        "-r",
        "-m",
        "--no-renames",
        "--no-abbrev",
        &range,
    ];
    stream(git, vault.call(log), &mut |bytes| {
        fields.push(bytes, |record| {
            let text = String::from_utf8_lossy(record).into_owned();
            // `:<old mode> <new mode> <old blob> <new blob> <status>`, then the path.
            if let Some(change) = text.strip_prefix(':') {
                let mut words = change.split(' ');
                let (mode, blob) = (
                    words.nth(1).map(str::to_owned),
                    words.nth(1).map(str::to_owned),
                );
                pending = mode
                    .zip(blob)
                    .filter(|(mode, _)| mode.starts_with("100") || mode.starts_with("120"));
            } else if let Some((_, blob)) = pending.take() {
                blobs.push((blob, text));
            }
        });
    })
    .await?;
    if blobs.is_empty() {
        return Ok(None);
    }
    let list: Vec<&str> = blobs.iter().map(|(blob, _)| blob.as_str()).collect();
    let list = list.join("\n") + "\n";
    let large = too_large(git, vault, &list).await?;
    let named = |wanted: &BTreeSet<String>| {
        let paths: BTreeSet<String> = blobs
            .iter()
            .filter(|(blob, _)| wanted.contains(blob))
            .map(|(_, path)| path.escape_debug().to_string())
            .collect();
        paths.into_iter().take(10).collect::<Vec<_>>().join(", ")
    };
    if !large.is_empty() {
        return Ok(Some(format!("larger than 50 MiB: {}", named(&large))));
    }
    let secret = holding_secrets(git, vault, &list).await?;
    Ok((!secret.is_empty())
        .then(|| format!("holding a secret that the worker knows: {}", named(&secret))))
}

async fn too_large(git: &Git<'_>, vault: &Vault, blobs: &str) -> Result<BTreeSet<String>, Failure> {
    let mut large = BTreeSet::new();
    let mut fields = Fields::new(b'\n');
    let call = vault.call(["cat-file", "--batch-check=%(objectname) %(objectsize)"]);
    let call = call
        .input(blobs.as_bytes())
        .map_err(|error| unmade(&error))?;
    stream(git, call, &mut |bytes| {
        fields.push(bytes, |record| {
            let text = String::from_utf8_lossy(record);
            if let Some((blob, size)) = text.split_once(' ')
                && size.parse::<u64>().is_ok_and(|size| size > LARGEST)
            {
                large.insert(blob.to_owned());
            }
        });
    })
    .await?;
    Ok(large)
}

async fn holding_secrets(
    git: &Git<'_>,
    vault: &Vault,
    blobs: &str,
) -> Result<BTreeSet<String>, Failure> {
    let mut found = BTreeSet::new();
    let mut batch = Batch::new(git.redactor);
    let call = vault.call(["cat-file", "--batch=%(objectname) %(objectsize)"]);
    let call = call
        .input(blobs.as_bytes())
        .map_err(|error| unmade(&error))?;
    stream(git, call, &mut |bytes| batch.push(bytes, &mut found)).await?;
    Ok(found)
}

/// Records between separators, from a stream that is cut anywhere.
#[derive(Debug)]
struct Fields {
    separator: u8,
    partial: Vec<u8>,
}

impl Fields {
    fn new(separator: u8) -> Self {
        Self {
            separator,
            partial: Vec::new(),
        }
    }

    fn push(&mut self, bytes: &[u8], mut record: impl FnMut(&[u8])) {
        let mut parts = bytes.split(|byte| *byte == self.separator);
        self.partial
            .extend_from_slice(parts.next().unwrap_or_default());
        for part in parts {
            record(&std::mem::replace(&mut self.partial, part.to_vec()));
        }
    }
}

/// What `git cat-file --batch` prints: a line, so many bytes, a line feed, and so on.
struct Batch<'a> {
    redactor: &'a crate::redact::Redactor,
    header: Vec<u8>,
    blob: String,
    /// Bytes of the blob that are still to come, its line feed included.
    left: u64,
    scan: crate::redact::Stream,
}

impl<'a> Batch<'a> {
    fn new(redactor: &'a crate::redact::Redactor) -> Self {
        Self {
            redactor,
            header: Vec::new(),
            blob: String::new(),
            left: 0,
            scan: redactor.stream(),
        }
    }

    fn push(&mut self, mut bytes: &[u8], found: &mut BTreeSet<String>) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let now = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                self.scan.push(&bytes[..now], &mut |_| {});
                self.left -= now as u64;
                bytes = &bytes[now..];
                if self.scan.masked() {
                    found.insert(self.blob.clone());
                }
                continue;
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            self.header
                .extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
            bytes = &bytes[end.map_or(bytes.len(), |end| end + 1)..];
            if end.is_some() {
                let header =
                    String::from_utf8_lossy(&std::mem::take(&mut self.header)).into_owned();
                if let Some((blob, size)) = header.split_once(' ') {
                    self.blob = blob.to_owned();
                    self.left = size.parse::<u64>().map_or(0, |size| size + 1);
                    self.scan = self.redactor.stream();
                }
            }
        }
    }
}

fn in_workspace<'a>(call: Call<'a>, clone: &Clone) -> Call<'a> {
    call.variables(&vec![("GIT_WORK_TREE".into(), clone.dir.clone().into())])
}

async fn run(git: &Git<'_>, call: Call<'_>) -> Result<String, Failure> {
    git.run(call).await.map_err(|error| failed(&error))
}

async fn stream(git: &Git<'_>, call: Call<'_>, hear: &mut dyn FnMut(&[u8])) -> Result<(), Failure> {
    git.stream(call, hear).await.map_err(|error| failed(&error))
}

fn failed(error: &GitError) -> Failure {
    let message = format!("the work could not be committed: {error}");
    Failure {
        causes: vec![error.words.clone()],
        ..Failure::new(Reason::PushFailed, message)
    }
}

fn unmade(error: &std::io::Error) -> Failure {
    let message = "the repository to push from could not be made";
    Failure {
        causes: vec![error.to_string()],
        ..Failure::new(Reason::PushFailed, message)
    }
}

/// A path as one entry of a list that colons separate.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    if text.contains([':', '"']) {
        format!("{text:?}")
    } else {
        text
    }
}
