//! The agent's commits that are not part of the work: on branches and in stashes.

use super::errors::run;
use super::left_behind::LeftBehind;
use super::repository::PrivateRepository;
use crate::git::Git;
use crate::task::Failure;

/// How many branches are pushed next to the result branch.
const MAX_BRANCHES: usize = 8;

/// A branch of the agent.
#[derive(Debug, Clone)]
pub struct Branch {
    /// Without `refs/heads/`.
    pub name: String,
    /// The hash of the branch's last commit.
    pub commit: String,
}

/// The agent's commits that are not part of the work.
#[derive(Debug, Default)]
pub struct OtherCommits {
    /// Branches that are pushed next to the result branch.
    pub to_push: Vec<Branch>,
    /// Branches that do not descend from the base, and those above the limit.
    left_out: Vec<String>,
    has_stash: bool,
}

impl OtherCommits {
    /// Adds sentences about the commits that are not pushed.
    pub fn add_sentences(&self, left_behind: &mut LeftBehind) {
        if !self.left_out.is_empty() {
            left_behind.add_sentence(format!(
                "left out, because they do not descend from the base or are too many: the agent's branches {}",
                self.left_out.join(", ")
            ));
        }
        if self.has_stash {
            left_behind
                .add_sentence("left out: the agent's stashed changes (git stash)".to_owned());
        }
    }
}

/// Finds the agent's commits that are not part of the work, among the references of the agent's repository.
pub async fn other_commits(
    git: &Git<'_>,
    repository: &PrivateRepository,
    base: &str,
    head: &str,
    references: &[(String, String)],
) -> Result<OtherCommits, Failure> {
    let mut other_commits = OtherCommits {
        has_stash: references.iter().any(|(name, _)| name == "refs/stash"),
        ..OtherCommits::default()
    };
    let is_hash =
        |text: &str| text.len() == base.len() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let of_remotes = references
        .iter()
        .filter(|(name, commit)| name.starts_with("refs/remotes/") && is_hash(commit));
    let of_remotes: Vec<&str> = of_remotes.map(|(_, commit)| commit.as_str()).collect();
    for (name, commit) in references {
        let Some(name) = name.strip_prefix("refs/heads/") else {
            continue;
        };
        if !is_hash(commit) || commit == base || commit == head {
            continue;
        }
        let known = other_commits
            .to_push
            .iter()
            .map(|branch| branch.commit.as_str());
        let known: Vec<&str> = known.chain(of_remotes.iter().copied()).collect();
        let mut call = repository
            .call(["rev-list", "--max-count=1", "--ignore-missing"])
            .arg(commit)
            .arg("--not")
            .arg(base)
            .arg(head);
        for commit in known {
            call = call.arg(commit);
        }
        let descends = repository.call(["merge-base", "--is-ancestor", base]);
        match git.run(call).await {
            Ok(new) if new.is_empty() => {}
            Ok(_)
                if other_commits.to_push.len() < MAX_BRANCHES
                    && git.run(descends.arg(commit)).await.is_ok() =>
            {
                run(git, repository.call(["cat-file", "-e"]).arg(commit)).await?;
                other_commits.to_push.push(Branch {
                    name: name.to_owned(),
                    commit: commit.clone(),
                });
            }
            _ => other_commits.left_out.push(name.escape_debug().to_string()),
        }
    }
    Ok(other_commits)
}
