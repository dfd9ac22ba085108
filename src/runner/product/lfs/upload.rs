//! The repository from which LFS objects are uploaded. It contains nothing else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::pointer::Pointer;
use super::upload_input::UploadInput;
use crate::environment::Variables;
use crate::git::{Call, Git, GitError};
use crate::runner::product::errors::{git_failure, io_failure};
use crate::runner::product::repository::PrivateRepository;
use crate::task::Failure;

/// Verified objects, in a repository from which the worker can upload them.
#[derive(Debug)]
pub struct Upload {
    repository: PrivateRepository,
    variables: Variables,
    configuration: Vec<(String, String)>,
    oids: BTreeSet<String>,
}

impl Upload {
    /// Makes the repository. `program` is git-lfs; `address` is the address of the LFS server, if the base names one.
    pub fn prepare(
        git: &Git<'_>,
        program: &Path,
        input: &UploadInput<'_>,
        address: Option<String>,
    ) -> Result<Self, Failure> {
        let repository = PrivateRepository::create(git, input.base, &[])?;
        let variables = git
            .lfs_variables(program, &repository.dir().join("bin"))
            .map_err(|error| io_failure(&error))?;
        let mut configuration = vec![
            ("remote.origin.url".to_owned(), input.url.to_owned()),
            ("lfs.locksverify".to_owned(), "false".to_owned()),
        ];
        configuration.extend(address.map(|address| ("lfs.url".to_owned(), address)));
        Ok(Self {
            repository,
            variables,
            configuration,
            oids: BTreeSet::new(),
        })
    }

    /// The directory of the objects.
    pub fn objects_dir(&self) -> PathBuf {
        self.repository.dir().join("lfs/objects")
    }

    /// This upload with the objects that it sends; `None` if there are none.
    pub fn with_objects(self, oids: BTreeSet<String>) -> Option<Self> {
        (!oids.is_empty()).then_some(Self { oids, ..self })
    }

    /// Whether the server has the object of a pointer. Downloads the object, because git-lfs has no command that only
    /// asks.
    pub async fn server_has(&self, git: &Git<'_>, pointer: &Pointer) -> Result<bool, Failure> {
        let call = self.call(["lfs", "smudge"]);
        let call = call.input(pointer.text().as_bytes());
        let call = call.map_err(|error| io_failure(&error))?;
        match git.run(call).await {
            Ok(_) => Ok(true),
            Err(error) if error.was_stopped => Err(git_failure(&error)),
            Err(error) => {
                tracing::debug!(oid = pointer.oid, words = error.messages, "no LFS object");
                Ok(false)
            }
        }
    }

    /// Uploads the objects that the server does not have.
    pub async fn send(&self, git: &Git<'_>) -> Result<(), GitError> {
        let call = self.call(["lfs", "push", "--object-id", "--stdin", "origin"]);
        let mut list = String::new();
        for oid in &self.oids {
            list.push_str(oid);
            list.push('\n');
        }
        let call = call
            .input(list.as_bytes())
            .map_err(|error| GitError::from_io("lfs", "could not be prepared", &error))?;
        git.run(call).await.map(drop)
    }

    fn call<const N: usize>(&self, args: [&'static str; N]) -> Call<'_> {
        let call = self.repository.call(args).variables(&self.variables);
        call.configuration(&self.configuration).contacts_remote()
    }
}
