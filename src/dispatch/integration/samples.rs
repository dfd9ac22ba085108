//! A user's project, and pushes of workers, for unit tests with the real git.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;

use super::{Commit, FinishedRun, Integration, Settings, Source, WorkChecks, WorkerLocation};
use crate::environment::variable;
use crate::git::Access;
pub use crate::git::samples::git;
use crate::redact::Redactor;

/// The task graph of the project.
pub const GRAPH: &str = "# SCUD Graph v1\n# Phase: shop\n\n@nodes\n# id | title | status | complexity | priority\n\
1 | Prices | P | 1 | M\n2 | Stock | P | 1 | M\n3 | Till | P | 1 | M\n";
/// The integration branch.
pub const BRANCH: &str = "descartes/shop";

/// Runs a future to its end.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// The path of the built program. git runs it as the merge driver.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().with_file_name("descartes-worker");
    assert!(
        program.exists(),
        "{} does not exist; run `cargo build` first",
        program.display()
    );
    program
}

/// Where the repository is that a dispatch uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectLocation {
    /// The project itself is that repository.
    Local,
    /// A bare clone of the project is the remote.
    Remote,
}

/// A user's project and the state of a dispatch, in a temporary directory.
pub struct SampleProject {
    pub dir: TempDir,
    location: ProjectLocation,
    worker_location: WorkerLocation,
}

impl SampleProject {
    pub fn local() -> Self {
        Self::new(ProjectLocation::Local, WorkerLocation::OnThisMachine)
    }

    pub fn new(location: ProjectLocation, worker_location: WorkerLocation) -> Self {
        let sample = Self {
            dir: tempfile::tempdir().unwrap(),
            location,
            worker_location,
        };
        let project = sample.project();
        fs::create_dir(&project).unwrap();
        git(&project, &["init", "--quiet", "--initial-branch=main"]);
        sample.person_writes(&[
            (".scud/tasks/tasks.scg", GRAPH),
            ("prices.txt", "apple 1\nbread 2\ncheese 3\n"),
            ("stock.txt", "apple\n"),
        ]);
        if location == ProjectLocation::Remote {
            let bare = sample.path("remote.git");
            let args = [
                "clone",
                "--quiet",
                "--bare",
                "project",
                bare.to_str().unwrap(),
            ];
            git(sample.dir.path(), &args);
        }
        sample
    }

    /// A path in the temporary directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directory of the user's project.
    pub fn project(&self) -> PathBuf {
        self.path("project")
    }

    /// The repository that the branch is published to.
    pub fn published_repository(&self) -> PathBuf {
        self.path(match self.location {
            ProjectLocation::Local => "project",
            ProjectLocation::Remote => "remote.git",
        })
    }

    /// A person writes files in the project and commits them; returns the commit.
    pub fn person_writes(&self, files: &[(&str, &str)]) -> String {
        let project = self.project();
        for (name, text) in files {
            let path = project.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        git(&project, &["add", "--all"]);
        git(&project, &["commit", "--quiet", "--message=by a person"]);
        git(&project, &["rev-parse", "HEAD"])
    }

    /// A person commits on the integration branch, in a clone, and pushes; returns the commit.
    pub fn person_pushes(&self, name: &str, text: &str) -> String {
        let clone = tempfile::tempdir_in(self.dir.path()).unwrap();
        let from = self.published_repository();
        let args = ["clone", "--quiet", from.to_str().unwrap(), "."];
        git(clone.path(), &args);
        git(clone.path(), &["checkout", "--quiet", BRANCH]);
        fs::write(clone.path().join(name), text).unwrap();
        git(clone.path(), &["add", "--all"]);
        git(
            clone.path(),
            &["commit", "--quiet", "--message=a correction"],
        );
        git(clone.path(), &["push", "--quiet", "origin", BRANCH]);
        git(clone.path(), &["rev-parse", "HEAD"])
    }

    pub fn settings(&self) -> Settings {
        let path = option_env!("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
        Settings {
            source: match self.location {
                ProjectLocation::Local => Source::Local(self.project()),
                ProjectLocation::Remote => {
                    Source::Remote(format!("file://{}", self.path("remote.git").display()))
                }
            },
            base: None,
            branch: BRANCH.to_owned(),
            state_dir: self.path("state"),
            dispatch_id: "day".to_owned(),
            worker_location: self.worker_location,
            author_name: "descartes-worker".to_owned(),
            author_email: "worker@localhost".to_owned(),
            program: program(),
            environment: vec![variable("PATH", path)],
            access: Access {
                token: None,
                proxies: Vec::new(),
                authorities: None,
                ssh_agent: None,
                idle_timeout: Duration::from_secs(60),
            },
            redactor: Redactor::new(&[]),
        }
    }

    /// Opens the integration branch; there must be no messages.
    pub fn open(&self) -> Integration {
        let opened = block_on(Integration::open(self.settings())).unwrap();
        assert_eq!(opened.messages, Vec::<String>::new());
        opened.integration
    }

    /// Does the steps of a worker: clones a commit, changes files, marks the task as done, commits and pushes.
    pub fn run(
        &self,
        integration: &Integration,
        base: &Commit,
        task: &str,
        files: &[(&str, &str)],
    ) -> FinishedRun {
        self.run_with_letter(integration, base, task, files, "D")
    }

    /// Like [`Self::run`], with another status letter for the task.
    pub fn run_with_letter(
        &self,
        integration: &Integration,
        base: &Commit,
        task: &str,
        files: &[(&str, &str)],
        letter: &str,
    ) -> FinishedRun {
        let clone = tempfile::tempdir_in(self.dir.path()).unwrap();
        let dir = clone.path();
        git(dir, &["init", "--quiet"]);
        let url = integration.clone_url();
        git(dir, &["fetch", "--quiet", "--depth=1", &url, &base.id]);
        git(dir, &["checkout", "--quiet", "--detach", "FETCH_HEAD"]);
        for (name, text) in files {
            fs::write(dir.join(name), text).unwrap();
        }
        let graph = dir.join(".scud/tasks/tasks.scg");
        let text = fs::read_to_string(&graph).unwrap();
        let title = ["Prices", "Stock", "Till"][task.parse::<usize>().unwrap() - 1];
        let row = format!("{task} | {title} | P");
        fs::write(
            &graph,
            text.replace(&row, &format!("{task} | {title} | {letter}")),
        )
        .unwrap();
        git(dir, &["add", "--all"]);
        let run_id = format!("day-{task}-1");
        let message = format!("{task}: {title}\n\nTask-Id: {task}\nRun-Id: {run_id}\n");
        let args = ["commit", "--quiet", "--allow-empty", "--message", &message];
        git(dir, &args);
        let branch = Integration::run_branch(&run_id);
        let target = format!("HEAD:refs/heads/{branch}");
        git(dir, &["push", "--quiet", &url, &target]);
        FinishedRun {
            phase: "shop".to_owned(),
            id_in_phase: task.to_owned(),
            task_id: task.to_owned(),
            run_id,
            title: title.to_owned(),
            branch,
            commit: git(dir, &["rev-parse", "HEAD"]),
            time: Timestamp::from_second(1_800_000_000).unwrap(),
            checks: WorkChecks::Passed,
        }
    }
}
