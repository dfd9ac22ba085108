//! The bare repository in the state directory, and the git commands that work in it.

pub mod files;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::IntegrationError;
use super::local_project::LocalProject;
use super::types::{Commit, ResolvedCommit, Settings};
use crate::atomic_file;
use crate::environment::{Variables, variable};
use crate::git::{Call, Git, GitOutput};

/// The attributes that make git merge the task graph with the merge driver `scud`, which [`configuration`] defines.
const ATTRIBUTES: &str = ".scud/tasks/tasks.scg merge=scud\n";

/// The bare repository.
#[derive(Debug)]
pub struct BareRepository {
    dir: PathBuf,
    configuration: Vec<(String, String)>,
}

impl BareRepository {
    /// Creates the repository if it does not exist. If the project is on this machine, the repository reads the objects
    /// of the project from the project's repository instead of copying them.
    pub async fn create(
        git: &Git<'_>,
        settings: &Settings,
        project: Option<&LocalProject>,
        object_format: &str,
    ) -> Result<Self, IntegrationError> {
        let dir = settings.state_dir.join("integration.git");
        let file_error = |what, path: &Path| {
            let path = path.to_owned();
            move |source| IntegrationError::File { what, path, source }
        };
        fs::create_dir_all(&settings.state_dir).map_err(file_error("made", &settings.state_dir))?;
        let init = [
            "init",
            "--quiet",
            "--bare",
            "--template=",
            "--initial-branch=descartes-none",
        ];
        let init = Call::new(&settings.state_dir, init)
            .arg(format!("--object-format={object_format}"))
            .arg(&dir);
        git.run_keeping_children(init)
            .await
            .map_err(IntegrationError::git(format!(
                "the repository {} cannot be made",
                dir.display()
            )))?;
        let write = |name: &str, text: &[u8]| {
            let path = dir.join(name);
            replace_if_changed(&path, text).map_err(file_error("written", &path))
        };
        write("info/attributes", ATTRIBUTES.as_bytes())?;
        if let Some(project) = project {
            write("objects/info/alternates", &project.alternates_line())?;
            match fs::read(project.common_dir.join("shallow")) {
                Ok(shallow) => write("shallow", &shallow)?,
                Err(_) => drop(fs::remove_file(dir.join("shallow"))),
            }
        }
        Ok(Self {
            configuration: configuration(&settings.program),
            dir,
        })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A git command in this repository.
    pub fn call<'a>(&'a self, args: impl IntoIterator<Item = &'a str>) -> Call<'a> {
        Call::new(&self.dir, args)
            .variables(&vec![variable("GIT_DIR", &self.dir)])
            .configuration(&self.configuration)
    }

    /// Runs a command; returns its standard output. An error message begins with `what`.
    pub async fn run(
        &self,
        git: &Git<'_>,
        what: &str,
        call: Call<'_>,
    ) -> Result<String, IntegrationError> {
        git.run_keeping_children(call)
            .await
            .map_err(IntegrationError::git(what))
    }

    /// Runs a command for which exit code 1 is a valid answer and not a failure.
    pub async fn run_allowing_exit_code_1(
        &self,
        git: &Git<'_>,
        what: &str,
        call: Call<'_>,
    ) -> Result<GitOutput, IntegrationError> {
        let finished = git
            .output_keeping_children(call)
            .await
            .map_err(IntegrationError::git(what))?;
        match finished.exit_code {
            0 | 1 => Ok(finished),
            _ => Err(finished
                .require_success()
                .map_err(IntegrationError::git(what))
                .expect_err("the exit code is neither 0 nor 1")),
        }
    }

    /// The commit that a revision names; `None` if there is no such commit.
    pub async fn resolve(
        &self,
        git: &Git<'_>,
        name: &str,
    ) -> Result<Option<Commit>, IntegrationError> {
        // git prints no line for a revision that does not exist.
        let call = self.call(["rev-parse", "--quiet", "--revs-only", "--end-of-options"]);
        let call = call.arg(format!("{name}^{{commit}}"));
        let call = call.arg(format!("{name}^{{tree}}"));
        let what = format!("the commit {name} cannot be read");
        let text = self.run(git, &what, call).await?;
        Ok(text.split_once('\n').map(|(id, tree)| Commit {
            id: id.to_owned(),
            tree: tree.to_owned(),
        }))
    }

    /// The commit that a revision names, and whether it is in the history of the commit `descendant`; `None` if there
    /// is no such commit. Uses a single git command to be fast, because every merge begins with this call.
    pub async fn resolve_with_history(
        &self,
        git: &Git<'_>,
        name: &str,
        descendant: &str,
    ) -> Result<Option<ResolvedCommit>, IntegrationError> {
        let call = self.call(["rev-parse", "--quiet", "--revs-only", "--end-of-options"]);
        let call = call.arg(format!("{name}^{{commit}}"));
        let call = call.arg(format!("{name}^{{tree}}"));
        // Prints both commits, and with a caret before them their merge bases.
        let call = call.arg(format!("{descendant}...{name}^{{commit}}"));
        let what = format!("the commit {name} cannot be read");
        let text = self.run(git, &what, call).await?;
        let mut lines = text.lines();
        let (Some(id), Some(tree)) = (lines.next(), lines.next()) else {
            return Ok(None);
        };
        let is_in_history = lines.any(|line| line.strip_prefix('^') == Some(id));
        let (id, tree) = (id.to_owned(), tree.to_owned());
        Ok(Some(ResolvedCommit {
            commit: Commit { id, tree },
            is_in_history,
        }))
    }

    /// Whether the commit `ancestor` is in the history of `descendant`.
    pub async fn is_ancestor(
        &self,
        git: &Git<'_>,
        ancestor: &str,
        descendant: &str,
    ) -> Result<bool, IntegrationError> {
        let call = self.call(["merge-base", "--is-ancestor", ancestor, descendant]);
        let what = "the history of the integration branch cannot be read";
        Ok(self
            .run_allowing_exit_code_1(git, what, call)
            .await?
            .exit_code
            == 0)
    }

    /// Sets a reference to a commit.
    pub async fn set_reference(
        &self,
        git: &Git<'_>,
        name: &str,
        commit: &str,
    ) -> Result<(), IntegrationError> {
        let call = self.call(["update-ref", "--no-deref", name, commit]);
        let what = format!("the reference {name} cannot be set");
        self.run(git, &what, call).await.map(drop)
    }

    /// All references that begin with one of the prefixes: their names and commits.
    pub async fn references(
        &self,
        git: &Git<'_>,
        prefixes: &[String],
    ) -> Result<Vec<(String, String)>, IntegrationError> {
        let call = self.call(["for-each-ref", "--format=%(objectname) %(refname)"]);
        let call = call.args(prefixes.iter().map(Into::into));
        let what = "the references of the integration repository cannot be listed";
        let text = self.run(git, what, call).await?;
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        Ok(pairs
            .map(|(commit, name)| (name.to_owned(), commit.to_owned()))
            .collect())
    }

    /// Deletes references. A reference that does not exist is not an error.
    pub async fn delete_references(
        &self,
        git: &Git<'_>,
        names: impl Iterator<Item = &str>,
    ) -> Result<(), IntegrationError> {
        let commands = names.flat_map(|name| ["delete ", name, "\n"]);
        let commands: String = commands.collect();
        if commands.is_empty() {
            return Ok(());
        }
        let call = self.call(["update-ref", "--no-deref", "--stdin"]);
        let call = with_input(call, commands.as_bytes())?;
        let what = "branches of runs cannot be deleted";
        self.run(git, what, call).await.map(drop)
    }

    /// Whether one of these files or directories differs between two trees.
    pub async fn paths_differ(
        &self,
        git: &Git<'_>,
        one: &str,
        other: &str,
        paths: &[&str],
    ) -> Result<bool, IntegrationError> {
        let call = self.call(["diff-tree", "-r", "--name-only", "-z", one, other, "--"]);
        let call = call.args(paths.iter().map(Into::into));
        let what = format!("the trees {one} and {other} cannot be compared");
        Ok(!self.run(git, &what, call).await?.is_empty())
    }

    /// The later one of two commits' dates, in seconds since 1970.
    pub async fn latest_date(
        &self,
        git: &Git<'_>,
        commits: [&str; 2],
    ) -> Result<i64, IntegrationError> {
        let call = self.call(["log", "--no-walk", "--format=%ct", commits[0], commits[1]]);
        let what = "the dates of commits cannot be read";
        let text = self.run(git, what, call).await?;
        let dates = text.lines().filter_map(|line| line.parse().ok());
        Ok(dates.max().unwrap_or_default())
    }
}

/// Sets the standard input of a command.
pub fn with_input<'a>(call: Call<'a>, text: &[u8]) -> Result<Call<'a>, IntegrationError> {
    call.input(text).map_err(|source| IntegrationError::File {
        what: "written",
        path: "a temporary file".into(),
        source,
    })
}

/// Writes a file in one step if its content differs, and its directory if that is missing. Workers of an earlier dispatcher may
/// be using the repository: with a half-written `alternates`, git would miss the objects of the user's repository and reject
/// their push.
fn replace_if_changed(path: &Path, content: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|present| present == content) {
        return Ok(());
    }
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    atomic_file::replace(path, content, None)
}

/// The configuration of every command in the bare repository.
fn configuration(program: &Path) -> Vec<(String, String)> {
    let program = program.to_string_lossy().replace('\'', "'\\''");
    let driver = format!("'{program}' merge-graph %O %A %B");
    [
        ("merge.scud.driver", driver.as_str()),
        ("merge.scud.name", "status letters of two tasks"),
        // This repository must survive a power failure, unlike a worker's clone.
        ("core.fsync", "committed,reference"),
        // A dispatcher that was killed may have left a git process, which holds a lock until it ends. In milliseconds.
        ("core.filesRefLockTimeout", "10000"),
        ("core.packedRefsTimeout", "10000"),
        ("core.attributesFile", "/dev/null"),
        ("merge.renames", "true"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec()
}

/// The variables that set author and committer, with a date in seconds since 1970.
pub fn identity_variables(settings: &Settings, seconds: i64) -> Variables {
    let date = format!("@{seconds} +0000");
    vec![
        variable("GIT_AUTHOR_NAME", &settings.author_name),
        variable("GIT_AUTHOR_EMAIL", &settings.author_email),
        variable("GIT_AUTHOR_DATE", &date),
        variable("GIT_COMMITTER_NAME", &settings.author_name),
        variable("GIT_COMMITTER_EMAIL", &settings.author_email),
        variable("GIT_COMMITTER_DATE", &date),
    ]
}
