//! The bare repository in the state directory, and the git commands that work in it.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::IntegrationError;
use super::local_project::LocalProject;
use super::types::{Commit, Settings};
use crate::environment::{Variables, variable};
use crate::git::{Call, Git, GitOutput};

/// The attributes that make git merge the task graph with this program's merge driver; see [`configuration`].
const ATTRIBUTES: &str = ".scud/tasks/tasks.scg merge=scud\n";

/// The bare repository.
#[derive(Debug)]
pub struct BareRepository {
    dir: PathBuf,
    configuration: Vec<(String, String)>,
}

impl BareRepository {
    /// Creates the repository if it does not exist. The repository reads the objects of a project on this
    /// machine from the project's repository instead of copying them.
    pub async fn create(
        git: &Git<'_>,
        settings: &Settings,
        local: Option<&LocalProject>,
        format: &str,
    ) -> Result<Self, IntegrationError> {
        let dir = settings.state_dir.join("integration.git");
        let file = |what, path: &Path| {
            let path = path.to_owned();
            move |source| IntegrationError::File { what, path, source }
        };
        fs::create_dir_all(&settings.state_dir).map_err(file("made", &settings.state_dir))?;
        let init = [
            "init",
            "--quiet",
            "--bare",
            "--template=",
            "--initial-branch=descartes-none",
        ];
        let init = Call::new(&settings.state_dir, init)
            .arg(format!("--object-format={format}"))
            .arg(&dir);
        git.run_keeping_children(init)
            .await
            .map_err(IntegrationError::git(format!(
                "the repository {} cannot be made",
                dir.display()
            )))?;
        let write = |name: &str, text: &[u8]| {
            let path = dir.join(name);
            let made = fs::create_dir_all(path.parent().unwrap_or(&dir));
            made.and_then(|()| fs::write(&path, text))
                .map_err(file("written", &path))
        };
        write("info/attributes", ATTRIBUTES.as_bytes())?;
        if let Some(local) = local {
            write("objects/info/alternates", &local.alternates())?;
            match fs::read(local.common_dir.join("shallow")) {
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

    /// A command in this repository.
    pub fn call<'a>(&'a self, args: impl IntoIterator<Item = &'a str>) -> Call<'a> {
        Call::new(&self.dir, args)
            .variables(&vec![variable("GIT_DIR", &self.dir)])
            .configuration(&self.configuration)
    }

    /// Runs a command. `what` is the beginning of the error message.
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
    pub async fn run_allowing_code_1(
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

    /// The commit that a revision names, and whether it is in the history of `descendant`; `None` if there is no
    /// such commit. Uses one git command for both, because every merge begins with this.
    pub async fn resolve_with_ancestry(
        &self,
        git: &Git<'_>,
        name: &str,
        descendant: &str,
    ) -> Result<Option<(Commit, bool)>, IntegrationError> {
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
        let is_in = lines.any(|line| line.strip_prefix('^') == Some(id));
        let (id, tree) = (id.to_owned(), tree.to_owned());
        Ok(Some((Commit { id, tree }, is_in)))
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
        Ok(self.run_allowing_code_1(git, what, call).await?.exit_code == 0)
    }

    /// Sets a reference. If `old` is given, the reference must still have that value; the empty string means that
    /// it must not exist.
    pub async fn set_reference(
        &self,
        git: &Git<'_>,
        name: &str,
        new: &str,
        old: Option<&str>,
    ) -> Result<(), IntegrationError> {
        let call = self.call(["update-ref", "--no-deref", name, new]);
        let call = call.args(old.map(Into::into));
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

    /// Deletes references; their names may be missing.
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

    /// The content of a file in a commit or tree, or the target of a symbolic link; `None` if there is neither.
    pub async fn read_content(
        &self,
        git: &Git<'_>,
        tree: &str,
        path: &str,
    ) -> Result<Option<Vec<u8>>, IntegrationError> {
        let what = format!("{path} cannot be read from {tree}");
        let call = self.call(["cat-file", "--batch"]);
        let call = with_input(call, format!("{tree}:{path}\n").as_bytes())?;
        let finished = self.run_allowing_code_1(git, &what, call).await?;
        let output = finished
            .require_success()
            .map_err(IntegrationError::git(what))?;
        // The output is `<id> blob <size>`, the content and a line break. Without such a file, it is one line that
        // describes the problem.
        let Some(end) = output.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let (head, content) = (String::from_utf8_lossy(&output[..end]), &output[end + 1..]);
        let mut words = head.split(' ').skip(1);
        Ok(match (words.next(), content.strip_suffix(b"\n")) {
            (Some("blob"), Some(content)) => Some(content.to_owned()),
            _ => None,
        })
    }

    /// A file in a commit or tree; `None` if there is no such file.
    pub async fn read_file(
        &self,
        git: &Git<'_>,
        tree: &str,
        path: &str,
    ) -> Result<Option<Blob>, IntegrationError> {
        match self.read_entry(git, tree, path, u64::MAX).await? {
            TreeEntry::File(blob) => Ok(Some(blob)),
            TreeEntry::Missing
            | TreeEntry::Directory
            | TreeEntry::NotRegular
            | TreeEntry::TooLarge => Ok(None),
        }
    }

    /// The entry at a path of a commit or tree. A file of more than `limit` bytes is not read.
    pub async fn read_entry(
        &self,
        git: &Git<'_>,
        tree: &str,
        path: &str,
        limit: u64,
    ) -> Result<TreeEntry, IntegrationError> {
        let what = format!("{path} cannot be read from {tree}");
        let list = self.call(["ls-tree", "-z", "--long", "--full-tree", tree, "--", path]);
        let entry = self.run(git, &what, list).await?;
        // `<mode> blob <id> <size>\t<path>`, with several spaces before the size
        let mut words = entry.split([' ', '\t']).filter(|word| !word.is_empty());
        let (mode, kind, id, size) = (words.next(), words.next(), words.next(), words.next());
        let (mode, id) = match (mode, kind, id) {
            (None, ..) => return Ok(TreeEntry::Missing),
            // A submodule is a directory in a clone.
            (_, Some("tree" | "commit"), _) => return Ok(TreeEntry::Directory),
            (Some(mode @ ("100644" | "100755")), Some("blob"), Some(id)) => (mode, id),
            _ => return Ok(TreeEntry::NotRegular),
        };
        if size.and_then(|size| size.parse().ok()) > Some(limit) {
            return Ok(TreeEntry::TooLarge);
        }
        let finished = self
            .run_allowing_code_1(git, &what, self.call(["cat-file", "blob", id]))
            .await?;
        let content = finished
            .require_success()
            .map_err(IntegrationError::git(what))?;
        Ok(TreeEntry::File(Blob {
            mode: mode.to_owned(),
            content,
        }))
    }

    /// Whether one of these files differs between two trees.
    pub async fn differ(
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

    /// Writes a tree in which a file has the content of `blob`. Adds the file if the tree does not have it. Replaces
    /// entries that are in its way: a file or link in the place of a parent directory, or a directory in the place of
    /// the file.
    pub async fn replace_file(
        &self,
        git: &Git<'_>,
        tree: &str,
        path: &str,
        blob: &Blob,
    ) -> Result<String, IntegrationError> {
        let what = format!("{path} cannot be changed in {tree}");
        let write = self.call(["hash-object", "-w", "--stdin", "--no-filters"]);
        let write = with_input(write, &blob.content)?;
        let id = self.run(git, &what, write).await?;
        let dir = tempfile::tempdir().map_err(|source| IntegrationError::File {
            what: "made",
            path: "a temporary directory".into(),
            source,
        })?;
        let index = vec![variable("GIT_INDEX_FILE", dir.path().join("index"))];
        let read = self.call(["read-tree", tree]).variables(&index);
        self.run(git, &what, read).await?;
        let entry = format!("{},{id},{path}", blob.mode);
        let update = self.call(["update-index", "--add", "--replace", "--cacheinfo", &entry]);
        self.run(git, &what, update.variables(&index)).await?;
        let write = self.call(["write-tree"]).variables(&index);
        self.run(git, &what, write).await
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

/// Adds a text for the standard input of a command.
pub fn with_input<'a>(call: Call<'a>, text: &[u8]) -> Result<Call<'a>, IntegrationError> {
    call.input(text).map_err(|source| IntegrationError::File {
        what: "written",
        path: "a temporary file".into(),
        source,
    })
}

/// The entry at a path of a tree.
#[derive(Debug)]
pub enum TreeEntry {
    File(Blob),
    Missing,
    Directory,
    /// A symbolic link.
    NotRegular,
    /// A file that is larger than the limit.
    TooLarge,
}

/// A file in a tree.
#[derive(Debug)]
pub struct Blob {
    pub mode: String,
    pub content: Vec<u8>,
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
        // A git process of a dispatcher that was killed may hold a lock until it ends by itself.
        ("core.filesRefLockTimeout", "10000"),
        ("core.packedRefsTimeout", "10000"),
        ("core.attributesFile", "/dev/null"),
        ("merge.renames", "true"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec()
}

/// The variables that set author and committer, with a fixed date.
pub fn identity_variables(settings: &Settings, seconds: i64) -> Variables {
    let date = format!("@{seconds} +0000");
    vec![
        variable("GIT_AUTHOR_NAME", &settings.name),
        variable("GIT_AUTHOR_EMAIL", &settings.email),
        variable("GIT_AUTHOR_DATE", &date),
        variable("GIT_COMMITTER_NAME", &settings.name),
        variable("GIT_COMMITTER_EMAIL", &settings.email),
        variable("GIT_COMMITTER_DATE", &date),
    ]
}
