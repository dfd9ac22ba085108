//! Git LFS: commits contain small pointer files, and a server stores their objects.
//!
//! A pointer is never pushed without its object. The worker copies the objects from the agent's repository to a private
//! repository (`objects`), and uploads them from there (`upload`). So it never uses the token in a repository that the
//! agent could write.

mod endpoint;
mod objects;
mod pointer;
mod upload;
mod upload_input;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::errors::{io_failure, run, run_records};
use crate::git::Git;
use crate::task::Failure;
pub use pointer::{MAX_POINTER_SIZE, Pointer, PointerFile};
pub use upload::Upload;
pub use upload_input::UploadInput;

/// How many names a message has at most.
const MAX_NAMES: usize = 10;
/// How many objects the worker asks the server for at most.
const MAX_QUESTIONS: usize = 100;

/// Whether the objects of new pointers must be uploaded.
#[derive(Debug)]
pub enum UploadPlan {
    /// No new pointer needs an object.
    NotNeeded,
    /// All needed objects are verified, and some of them must be uploaded.
    Ready(Upload),
    /// Nothing may be pushed because of these files. The text completes a sentence that ends with "because of files".
    Forbidden(String),
}

/// The directories in which git-lfs may have stored the objects of these repositories. `storage` is the value of
/// `lfs.storage`; a relative path is relative to the repository.
pub fn stores(git_dirs: &[&Path], storage: Option<&Path>) -> Vec<PathBuf> {
    let mut stores = Vec::new();
    for git_dir in git_dirs {
        stores.push(git_dir.join("lfs/objects"));
        if let Some(storage) = storage {
            // Following links in the path of the setting is harmless: the setting could name the target itself. Links
            // below the directory are not followed.
            let target = std::fs::canonicalize(git_dir.join(storage));
            stores.extend(target.map(|target| target.join("objects")));
        }
    }
    stores
}

/// Copies and verifies the objects of new pointers. Asks the server only about objects that no store has, because the
/// answer to each of these questions downloads an object.
pub async fn collect(
    git: &Git<'_>,
    input: &UploadInput<'_>,
    files: BTreeSet<PointerFile>,
) -> Result<UploadPlan, Failure> {
    if files.is_empty() {
        return Ok(UploadPlan::NotNeeded);
    }
    let with_filter = paths_with_filter(git, input, &files).await?;
    // A file without the filter, such as an example in documentation, needs no object. If there is an object, it is
    // uploaded, as `git lfs push` does.
    let needs_object = |file: &PointerFile| with_filter.contains(&file.path);
    let Some(program) = git.lfs_program() else {
        let names = names(files.iter().filter(|file| needs_object(file)));
        return Ok(forbid_if_any(
            "whose Git LFS objects cannot be uploaded, because there is no git-lfs on the worker's PATH",
            &names,
        ));
    };
    let address = match endpoint::address_of_base(git, input).await {
        Ok(address) => address,
        Err(host) => {
            let why = format!(
                "whose Git LFS objects would go to {host}, as the base's .lfsconfig says: the worker uploads to the host of the project's own URL only"
            );
            return Ok(forbid_if_any(&why, &names(files.iter())));
        }
    };
    let upload = Upload::prepare(git, program, input, address)?;
    let copied = objects::copy(git, input.stores, upload.objects_dir(), files).await?;
    if !copied.with_secret.is_empty() {
        let why = "holding a secret that the worker knows";
        return Ok(forbid_if_any(why, &names(copied.with_secret.iter())));
    }
    if !copied.too_large.is_empty() {
        let why = "whose Git LFS objects are larger than 32 GiB together";
        return Ok(forbid_if_any(why, &names(copied.too_large.iter())));
    }
    let mut missing = Vec::new();
    for (asked, file) in copied
        .missing
        .iter()
        .filter(|file| needs_object(file))
        .enumerate()
    {
        if asked >= MAX_QUESTIONS || !upload.server_has(git, &file.pointer).await? {
            missing.push(file);
        }
    }
    let names = names(missing.into_iter());
    let why =
        "whose Git LFS objects are neither in the agent's repository nor on the project's server";
    Ok(match forbid_if_any(why, &names) {
        UploadPlan::NotNeeded => match upload.with_objects(copied.oids) {
            Some(upload) => UploadPlan::Ready(upload),
            None => UploadPlan::NotNeeded,
        },
        forbidden => forbidden,
    })
}

/// The paths of files, for a message.
fn names<'a>(files: impl Iterator<Item = &'a PointerFile>) -> Vec<String> {
    let shown = |file: &PointerFile| {
        String::from_utf8_lossy(&file.path)
            .escape_debug()
            .to_string()
    };
    files.map(shown).collect()
}

/// Forbids the push because of the files `names`. If there are no names, no upload is needed.
fn forbid_if_any(why: &str, names: &[String]) -> UploadPlan {
    if names.is_empty() {
        return UploadPlan::NotNeeded;
    }
    let more = if names.len() > MAX_NAMES {
        ", and more"
    } else {
        ""
    };
    let listed = names[..names.len().min(MAX_NAMES)].join(", ");
    UploadPlan::Forbidden(format!("{why}: {listed}{more}"))
}

/// The paths for which the attributes of the base, or of a commit that would be pushed, name the filter `lfs`.
async fn paths_with_filter(
    git: &Git<'_>,
    input: &UploadInput<'_>,
    files: &BTreeSet<PointerFile>,
) -> Result<BTreeSet<Vec<u8>>, Failure> {
    let mut question = Vec::new();
    for file in files {
        question.extend_from_slice(&file.path);
        question.push(0);
    }
    let mut found = BTreeSet::new();
    for commit in input.tips.iter().chain([&input.base]) {
        let repository = input.repository;
        run(git, repository.call(["read-tree"]).arg(*commit)).await?;
        let call = repository.call(["check-attr", "--cached", "-z", "--stdin", "filter"]);
        let call = call.input(&question).map_err(|error| io_failure(&error))?;
        let answers = run_records(git, call).await?;
        for answer in answers.chunks_exact(3) {
            if answer[2] == b"lfs" {
                found.insert(answer[0].clone());
            }
        }
    }
    Ok(found)
}
