//! Submodules whose commit changed. If no remote has the new commit, every later clone would fail, so the old one is
//! restored.

use std::collections::BTreeMap;

use super::differences::differences;
use super::entries::Entry;
use super::errors::{io_failure, run};
use super::left_behind::LeftBehind;
use super::records::Records;
use super::repository::PrivateRepository;
use crate::git::{Git, GitErrorKind};
use crate::runner::workspace::LocalClone;
use crate::task::Failure;

/// The trees between which the entries of submodules are compared.
pub struct Trees<'a> {
    /// The commit from which the agent started.
    pub base: &'a str,
    /// The agent's last commit, or the base.
    pub tip: &'a str,
    /// The tree that would be committed.
    pub tree: String,
}

/// Restores the old commit of changed submodules whose new commit no remote has, and adds their paths to `left_behind`.
/// Does not restore a submodule that the agent's own commits change, because these commits are pushed unchanged.
/// Returns the tree to commit.
pub async fn restore_unpublished(
    git: &Git<'_>,
    repository: &PrivateRepository,
    clone: &LocalClone,
    trees: &Trees<'_>,
    left_behind: &mut LeftBehind,
) -> Result<String, Failure> {
    let changed = gitlinks(git, repository, trees.base, &trees.tree).await?;
    if changed.is_empty() {
        return Ok(trees.tree.clone());
    }
    let uncommitted = gitlinks(git, repository, trees.tip, &trees.tree).await?;
    let urls = urls(git, repository, &trees.tree).await?;
    let (mut index_info, mut restored, mut committed) = (Vec::new(), Vec::new(), Vec::new());
    for entry in &changed {
        let commit = entry.new_gitlink().unwrap_or_default();
        let url = urls
            .get(&entry.path)
            .map(|url| absolute_url(url, &clone.url));
        let published = match url {
            Some(url) => is_published(git, &trees.tree, &url, commit).await?,
            None => false,
        };
        if published {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path)
            .escape_debug()
            .to_string();
        match uncommitted.iter().find(|other| other.path == entry.path) {
            Some(entry) => {
                index_info.extend_from_slice(&entry.index_info_of_old());
                restored.push(name);
            }
            None => committed.push(name),
        }
    }
    if !committed.is_empty() {
        left_behind.add_sentence(format!(
            "submodules point to commits that no remote has: {}",
            committed.join(", ")
        ));
    }
    if index_info.is_empty() {
        return Ok(trees.tree.clone());
    }
    left_behind.add_sentence(format!(
        "left out, because no remote has the commits of these submodules: {}",
        restored.join(", ")
    ));
    run(git, repository.call(["read-tree"]).arg(&trees.tree)).await?;
    let call = repository.call(["update-index", "-z", "--index-info"]);
    let call = call
        .input(&index_info)
        .map_err(|error| io_failure(&error))?;
    run(git, call).await?;
    run(git, repository.call(["write-tree"])).await
}

/// The submodules whose commit differs between two trees.
async fn gitlinks(
    git: &Git<'_>,
    repository: &PrivateRepository,
    from: &str,
    to: &str,
) -> Result<Vec<Entry>, Failure> {
    let mut entries = differences(git, repository, from, to).await?;
    entries.retain(|entry| entry.new_gitlink().is_some());
    Ok(entries)
}

/// The URL of each submodule, by path, as `.gitmodules` of a tree says.
async fn urls(
    git: &Git<'_>,
    repository: &PrivateRepository,
    tree: &str,
) -> Result<BTreeMap<Vec<u8>, String>, Failure> {
    let call = repository.call(["config", "--null", "--blob"]);
    let call = call.arg(format!("{tree}:.gitmodules"));
    let call = call
        .arg("--get-regexp")
        .arg("^submodule\\..*\\.(path|url)$");
    let (mut paths, mut urls) = (BTreeMap::new(), BTreeMap::new());
    let mut records = Records::new(0);
    let mut on_output = |bytes: &[u8]| {
        records.push(bytes, |record| {
            let text = String::from_utf8_lossy(record);
            if let Some((key, value)) = text.split_once('\n')
                && let Some((name, kind)) = key.rsplit_once('.')
            {
                let values = if kind == "path" {
                    &mut paths
                } else {
                    &mut urls
                };
                values.insert(name.to_owned(), value.to_owned());
            }
        });
    };
    // A tree without the file has no URLs.
    let _ = git.stream(call, &mut on_output).await;
    let found = paths.into_iter().filter_map(|(name, path)| {
        let url = urls.remove(&name)?;
        Some((path.into_bytes(), url))
    });
    Ok(found.collect())
}

/// Whether the remote at `url` has a commit. If the remote cannot be asked, the commit counts as published. `like` is a
/// hash in the object format of the project.
async fn is_published(git: &Git<'_>, like: &str, url: &str, commit: &str) -> Result<bool, Failure> {
    let probe = PrivateRepository::create(git, like, &[])?;
    let fetch = [
        "fetch",
        "--progress",
        "--no-tags",
        "--depth=1",
        "--filter=tree:0",
    ];
    let fetch = probe
        .call(fetch)
        .args(git.file_remote_option(url, "upload-pack"));
    let fetch = fetch.arg("--").arg(url).arg(commit);
    let asked = git.run(fetch.contacts_remote()).await;
    Ok(match asked {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), GitErrorKind::Permanent(_)),
    })
}

/// The absolute URL of a submodule. A relative URL is relative to the URL of the project.
fn absolute_url(url: &str, project: &str) -> String {
    if !url.starts_with("./") && !url.starts_with("../") {
        return url.to_owned();
    }
    let mut base = project.trim_end_matches('/').to_owned();
    let mut rest = url;
    loop {
        if let Some(after) = rest.strip_prefix("../") {
            let cut = base.rfind('/').or_else(|| base.rfind(':')).unwrap_or(0);
            base.truncate(cut);
            rest = after;
        } else if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else {
            return format!("{base}/{rest}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_urls_are_relative_to_the_projects_url() {
        for (url, project, expected) in [
            ("../lib.git", "https://h/o/app.git", "https://h/o/lib.git"),
            ("../../x/lib", "https://h/o/app/", "https://h/x/lib"),
            ("./sub", "file:///a/b", "file:///a/b/sub"),
            ("ssh://h/x", "https://h/o/app", "ssh://h/x"),
        ] {
            assert_eq!(absolute_url(url, project), expected);
        }
    }
}
