//! All fetches and pushes between the bare repository in the state directory and the repository to which the branch is
//! published: the user's repository on this machine, or the remote.

use std::ffi::OsString;
use std::path::Path;

use super::bare_repository::BareRepository;
use super::error::IntegrationError;
use super::local_project::LocalProject;
use super::types::{Commit, Settings, Source};
use crate::git::{Call, Git, GitError};
use crate::progress::Progress;
use crate::shutdown::Stop;

/// The reference to the last known commit of the published branch.
pub const PUBLISHED_REFERENCE: &str = "refs/descartes/published";

/// The reference to the base that the branch had when it was opened last.
pub const BASE_REFERENCE: &str = "refs/descartes/base";

/// The first version of git with `merge-tree --write-tree`.
const FIRST_WITH_MERGE_TREE: (u32, u32) = (2, 38);

/// The repository in which merges are made, and the one to which they are published.
#[derive(Debug)]
pub struct Repositories {
    pub settings: Settings,
    /// The bare repository in the state directory.
    pub bare: BareRepository,
    /// The user's repository, if it is on this machine.
    pub project: Option<LocalProject>,
    stop: Stop,
    progress: Progress,
}

impl Repositories {
    /// Opens the repositories. Creates the bare repository if it does not exist.
    pub async fn open(settings: Settings) -> Result<Self, IntegrationError> {
        let (stop, progress) = (Stop::never_requested(), Progress::new());
        let git = find_git(&settings, &stop, &progress)?;
        require_new_git(&git).await?;
        let (project, format) = match &settings.source {
            Source::Local(dir) => {
                let project = LocalProject::find(&git, dir).await?;
                let format = project.object_format.clone();
                (Some(project), format)
            }
            Source::Remote(url) => (None, object_format_of_remote(&git, url).await?),
        };
        let bare = BareRepository::create(&git, &settings, project.as_ref(), &format).await?;
        drop(git);
        Ok(Self {
            settings,
            bare,
            project,
            stop,
            progress,
        })
    }

    /// The git program, with the settings of this dispatch.
    pub fn git(&self) -> Result<Git<'_>, IntegrationError> {
        find_git(&self.settings, &self.stop, &self.progress)
    }

    /// The base: the commit at which the user wants to begin. It is fetched if the project is remote.
    pub async fn find_base(&self, git: &Git<'_>) -> Result<Commit, IntegrationError> {
        let base = self.settings.base.as_deref().unwrap_or("HEAD");
        let no_base = || IntegrationError::NoBase {
            source_name: self.published_repository(),
            base: base.to_owned(),
        };
        let revision = match &self.settings.source {
            Source::Local(dir) => {
                let args = ["rev-parse", "--verify", "--quiet", "--end-of-options"];
                let call = Call::new(dir, args).arg(format!("{base}^{{commit}}"));
                let finished = git.output_keeping_children(call).await;
                let finished =
                    finished.map_err(IntegrationError::git("the base cannot be read"))?;
                let output = finished.require_success().map_err(|_| no_base())?;
                String::from_utf8_lossy(&output).trim_end().to_owned()
            }
            Source::Remote(url) => {
                let reference = "refs/descartes/new-base";
                self.fetch_from(git, url, &[format!("+{base}:{reference}")])
                    .await?;
                reference.to_owned()
            }
        };
        let found = self.bare.resolve(git, &revision).await?;
        found.ok_or_else(no_base)
    }

    /// The repository that the branch is published to: the URL, or the directory of the user's repository.
    pub fn published_repository(&self) -> String {
        match (&self.settings.source, &self.project) {
            (Source::Remote(url), _) => url.clone(),
            (Source::Local(_), Some(project)) => project.common_dir.to_string_lossy().into_owned(),
            (Source::Local(dir), None) => dir.to_string_lossy().into_owned(),
        }
    }

    /// The current commit of the published branch; `None` if there is no such branch.
    pub async fn read_published_branch(
        &self,
        git: &Git<'_>,
    ) -> Result<Option<Commit>, IntegrationError> {
        self.read_branch(git, &self.settings.branch).await
    }

    /// The current commit of a branch of the published repository, fetched into the bare repository; `None` if there is
    /// no such branch.
    pub async fn read_branch(
        &self,
        git: &Git<'_>,
        branch: &str,
    ) -> Result<Option<Commit>, IntegrationError> {
        let (name, target) = (format!("refs/heads/{branch}"), self.published_repository());
        let found = self
            .list_remote(git, &target, std::slice::from_ref(&name))
            .await?;
        let Some((_, commit)) = found.into_iter().find(|(found, _)| *found == name) else {
            return Ok(None);
        };
        if let Some(known) = self.bare.resolve(git, &commit).await? {
            return Ok(Some(known));
        }
        let fetched_reference = format!("refs/descartes/seen/{branch}");
        let refspec = format!("+{name}:{fetched_reference}");
        self.fetch_from(git, &target, std::slice::from_ref(&refspec))
            .await?;
        self.bare.resolve(git, &fetched_reference).await
    }

    /// Pushes one refspec to the repository `target`, which is a URL or a directory. `lease` is an option
    /// `--force-with-lease`.
    pub async fn push_to(
        &self,
        git: &Git<'_>,
        target: &str,
        refspec: &str,
        lease: Option<String>,
    ) -> Result<(), GitError> {
        let call = self.bare.call(["push", "--progress", "--no-verify"]);
        let call = call.args(lease.map(Into::into));
        let call = call.args(self.server_option(git, "receive-pack"));
        let call = call.arg("--").arg(target).arg(refspec);
        git.run_keeping_children(call.contacts_remote())
            .await
            .map(drop)
    }

    /// Deletes references of the repository `target`.
    pub async fn delete_from(
        &self,
        git: &Git<'_>,
        target: &str,
        names: impl Iterator<Item = String>,
    ) -> Result<(), IntegrationError> {
        let refspecs: Vec<_> = names.map(|name| format!(":{name}").into()).collect();
        if refspecs.is_empty() {
            return Ok(());
        }
        let call = self.bare.call(["push", "--progress", "--no-verify"]);
        let call = call.args(self.server_option(git, "receive-pack"));
        let call = call.arg("--").arg(target).args(refspecs);
        let what = format!("branches of runs cannot be deleted from {target}");
        self.bare
            .run(git, &what, call.contacts_remote())
            .await
            .map(drop)
    }

    /// The references of the repository `target` that match the patterns: their names and commits.
    pub async fn list_remote(
        &self,
        git: &Git<'_>,
        target: &str,
        patterns: &[String],
    ) -> Result<Vec<(String, String)>, IntegrationError> {
        let call = self.bare.call(["ls-remote", "--refs"]);
        let call = call.args(self.server_option(git, "upload-pack"));
        let call = call.arg("--").arg(target);
        let call = call.args(patterns.iter().map(Into::into));
        let what = format!("the branches of {target} cannot be listed");
        let text = self.bare.run(git, &what, call.contacts_remote()).await?;
        let pairs = text.lines().filter_map(|line| line.split_once('\t'));
        Ok(pairs
            .map(|(commit, name)| (name.to_owned(), commit.to_owned()))
            .collect())
    }

    /// Fetches from the repository `target`.
    pub async fn fetch_from(
        &self,
        git: &Git<'_>,
        target: &str,
        refspecs: &[String],
    ) -> Result<(), IntegrationError> {
        let args = [
            "fetch",
            "--progress",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
        ];
        let call = self.bare.call(args);
        let call = call.args(self.server_option(git, "upload-pack"));
        let call = call.arg("--").arg(target);
        let call = call.args(refspecs.iter().map(Into::into));
        let what = format!("{target} cannot be fetched from");
        self.bare
            .run(git, &what, call.contacts_remote())
            .await
            .map(drop)
    }

    /// The option that names the git command at the other end of a transfer: `service` is `upload-pack` or
    /// `receive-pack`. In the user's repository on this machine, that command runs no hooks and changes no work tree.
    pub fn server_option(&self, git: &Git<'_>, service: &str) -> Option<OsString> {
        match &self.settings.source {
            Source::Remote(url) => git.file_remote_option(url, service),
            Source::Local(_) => {
                let program = git.program().to_string_lossy().replace('\'', "'\\''");
                let settings = [
                    "safe.directory=*",
                    "core.hooksPath=/dev/null",
                    "receive.denyCurrentBranch=refuse",
                    "receive.autogc=false",
                    "receive.updateServerInfo=false",
                ];
                let settings = settings.map(|setting| format!("-c '{setting}'")).join(" ");
                Some(format!("--{service}='{program}' {settings} {service}").into())
            }
        }
    }
}

/// Finds the git program.
fn find_git<'a>(
    settings: &'a Settings,
    stop: &'a Stop,
    progress: &'a Progress,
) -> Result<Git<'a>, IntegrationError> {
    let remote = match &settings.source {
        Source::Local(_) => "",
        Source::Remote(url) => url,
    };
    Git::find(
        &settings.environment,
        &settings.access,
        remote,
        &settings.redactor,
        stop,
        progress,
    )
    .map_err(|error| IntegrationError::NoGit(error.to_string()))
}

/// Returns an error if git is too old for `merge-tree --write-tree`.
async fn require_new_git(git: &Git<'_>) -> Result<(), IntegrationError> {
    let call = Call::new(Path::new("/"), ["version"]);
    let output = git.run_keeping_children(call).await;
    let output = output.map_err(IntegrationError::git("cannot read the version of git"))?;
    match version(&output) {
        Some(found) if found < FIRST_WITH_MERGE_TREE => Err(IntegrationError::OldGit(output)),
        _ => Ok(()),
    }
}

/// The major and minor version in a text like `git version 2.47.3`; `None` if the text has another form.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split_whitespace().nth(2)?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The object format of a remote repository: SHA-256 if its object ids have 64 digits.
async fn object_format_of_remote(git: &Git<'_>, url: &str) -> Result<String, IntegrationError> {
    let call = Call::new(Path::new("/"), ["ls-remote"]);
    let call = call.args(git.file_remote_option(url, "upload-pack"));
    let call = call.arg("--").arg(url).arg("HEAD").contacts_remote();
    let output = git.run_keeping_children(call).await;
    let output = output.map_err(IntegrationError::git(format!("{url} cannot be read")))?;
    let hash = output.split('\t').next().unwrap_or_default();
    let is_long = hash.len() == 64;
    Ok(if is_long { "sha256" } else { "sha1" }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_git_are_parsed_and_an_older_version_compares_as_smaller() {
        assert_eq!(version("git version 2.47.3"), Some((2, 47)));
        assert_eq!(version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(version("git version 2.38.windows.1"), Some((2, 38)));
        assert!(version("git version 2.5.0").unwrap() < FIRST_WITH_MERGE_TREE);
        assert_eq!(version("git from a branch"), None);
    }
}
