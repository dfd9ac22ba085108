//! The program git, and the settings that all its calls share.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use secrecy::SecretString;
use tokio::time::Instant;

use super::access::Access;
use super::authorities;
use super::configuration::Side;
use super::fingerprint::Fingerprint;
use super::ssh::Ssh;
use crate::descriptors::reserved_number;
use crate::environment::{Variables, value_of};
use crate::isolation::Launch;
use crate::process::{self, AfterRead, Ending, Limits, Program, Stderr};
use crate::programs::on_path;
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::shutdown::Stop;

/// The most bytes of standard output that are returned as one text. The rest is discarded.
pub(super) const MAX_OUTPUT_SIZE: usize = 64 * 1024;

/// The variables of the worker that git gets too. `HOME` is not one of them: an agent can write there, and git would
/// read attributes, ignored files and `.netrc` in it.
const INHERITED_VARIABLES: [&str; 7] = [
    "PATH",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NIX_SSL_CERT_FILE",
    "GIT_SSL_CAINFO",
    "CURL_CA_BUNDLE",
];

/// The program git, and the settings that all its calls share.
#[derive(Debug)]
pub struct Git<'a> {
    pub(super) program: PathBuf,
    /// Size, inode and other facts about the program's file before the agent ran.
    pub(super) fingerprint: Fingerprint,
    /// git-lfs, if it was on the `PATH`.
    pub(super) lfs_program: Option<PathBuf>,
    /// The environment variables of every call.
    pub(super) environment: Variables,
    /// The token for http or https, and the URL of the remote that gets it.
    pub(super) token: Option<(Url, SecretString)>,
    pub(super) ssh: Option<Ssh>,
    pub(super) idle_timeout: Duration,
    /// PEM of the certificate authorities to trust, if git does not find them itself.
    pub(super) authorities: Option<Vec<u8>>,
    pub(super) side: Side,
    /// How calls with [`Side::Agent`] are isolated.
    pub(super) launch: Option<Launch>,
    /// The time at which all calls must have ended. If `None`, each call has the default time limit.
    pub deadline: Option<Instant>,
    pub redactor: &'a Redactor,
    pub stop: &'a Stop,
    pub progress: &'a Progress,
}

/// The variable that makes git-lfs print its progress even without a terminal. The worker ends a call that contacts the
/// remote and prints no progress.
pub fn lfs_progress_variable() -> (OsString, OsString) {
    ("GIT_LFS_FORCE_PROGRESS".into(), "1".into())
}

impl<'a> Git<'a> {
    /// Finds git on the `PATH` of `environment`. Later calls use this file, even if an agent puts another git on the
    /// `PATH`.
    pub fn find(
        environment: &Variables,
        access: &Access,
        remote: &str,
        redactor: &'a Redactor,
        stop: &'a Stop,
        progress: &'a Progress,
    ) -> io::Result<Self> {
        let inherited = environment
            .iter()
            .filter(|(name, _)| INHERITED_VARIABLES.iter().any(|known| name == known));
        let mut variables: Variables = inherited.cloned().collect();
        let path = value_of(&variables, "PATH").unwrap_or_default().to_owned();
        let program = on_path(&path, "git").ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "there is no git on the PATH")
        })?;
        let fingerprint = Fingerprint::of(&program)?;
        let ssh = on_path(&path, "ssh").and_then(|ssh| {
            Ssh::for_remote(remote, ssh, value_of(environment, "HOME").map(Into::into))
        });
        variables.extend(access.variables(ssh.as_ref()));
        let has_authorities_variable = value_of(&variables, "GIT_SSL_CAINFO").is_some();
        let authorities = if remote.starts_with("https://") && !has_authorities_variable {
            authorities::bundle(access.authorities.as_deref())?
        } else {
            None
        };
        let url = Url::parse(remote)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"));
        let token = url.zip(access.token.clone());
        if token.is_some() {
            // The socket with the token needs a free descriptor number. If none is free, this must fail now: an error
            // after the agent's work would lose that work.
            reserved_number()?;
        }
        Ok(Self {
            program,
            fingerprint,
            lfs_program: on_path(&path, "git-lfs"),
            environment: variables,
            token,
            ssh,
            idle_timeout: access.idle_timeout,
            authorities,
            side: Side::Worker,
            launch: None,
            deadline: None,
            redactor,
            stop,
            progress,
        })
    }

    /// The file that is run as git.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Whether the environment of the calls contains this variable.
    pub fn has_variable(&self, name: &str) -> bool {
        value_of(&self.environment, name).is_some()
    }

    /// The file that is run as git-lfs, if there is one.
    pub fn lfs_program(&self) -> Option<&Path> {
        self.lfs_program.as_deref()
    }

    /// Variables for calls of git-lfs that use the credential. git and git-lfs find each other on the `PATH`. So `dir`
    /// gets links to both programs and comes first on the `PATH`: a program that an agent has put into another
    /// directory is not used.
    pub fn lfs_variables(&self, lfs_program: &Path, dir: &Path) -> io::Result<Variables> {
        std::fs::create_dir(dir)?;
        std::os::unix::fs::symlink(&self.program, dir.join("git"))?;
        std::os::unix::fs::symlink(lfs_program, dir.join("git-lfs"))?;
        let mut path = dir.as_os_str().to_owned();
        if let Some(inherited_path) = value_of(&self.environment, "PATH") {
            path.push(":");
            path.push(inherited_path);
        }
        Ok(vec![("PATH".into(), path), lfs_progress_variable()])
    }

    /// Records the configuration of ssh and the known hosts before the agent starts, so that the agent cannot change
    /// them for later calls.
    pub async fn record_ssh(&mut self) {
        let Some(mut ssh) = self.ssh.clone() else {
            return;
        };
        let program = Program {
            program: ssh.program().into(),
            args: ssh.print_arguments(),
            dir: "/".into(),
            env: self.environment.clone(),
            stdin: None,
            stderr: Stderr::WithStdout,
            inherited: None,
            launch: None,
        };
        let limits = Limits {
            run_time: self.idle_timeout,
            idle_timeout: None,
        };
        let mut printed = Vec::new();
        let mut on_output = |_, bytes: &[u8]| {
            let room = MAX_OUTPUT_SIZE - printed.len();
            printed.extend_from_slice(&bytes[..bytes.len().min(room)]);
            AfterRead::ReadMore
        };
        let ending =
            process::supervise(program, limits, self.stop, self.progress, &mut on_output).await;
        if matches!(ending, Ok(Ending::Exited(0))) {
            ssh.record(&String::from_utf8_lossy(&printed));
            self.ssh = Some(ssh);
        } else {
            tracing::warn!(
                ?ending,
                "ssh did not print its configuration, so later calls use the configuration that exists then"
            );
        }
    }

    /// Variables for calls in a repository that only the worker can write: `GIT_SSH_COMMAND` makes ssh use its recorded
    /// configuration, which this writes to files in `dir`.
    pub fn ssh_variables(&self, dir: &Path) -> io::Result<Variables> {
        self.ssh.as_ref().map_or(Ok(Vec::new()), |ssh| {
            Ok(ssh
                .recorded_command(dir)?
                .map(|command| ("GIT_SSH_COMMAND".into(), command))
                .into_iter()
                .collect())
        })
    }

    /// Whether another call could start before the deadline after a wait of this length.
    pub fn has_time(&self, wait: Duration) -> bool {
        self.deadline
            .is_none_or(|deadline| Instant::now() + wait < deadline)
    }

    /// The option that makes git serve a `file://` remote even if the remote belongs to another user; `None` for other
    /// remotes. git does not pass the caller's `safe.directory` to the process that serves the remote. `service` is
    /// `upload-pack` or `receive-pack`.
    pub fn file_remote_option(&self, url: &str, service: &str) -> Option<OsString> {
        if !url.starts_with("file://") {
            return None;
        }
        let program = self.program.to_string_lossy().replace('\'', "'\\''");
        let option = if service == "upload-pack" {
            "--upload-pack"
        } else {
            "--receive-pack"
        };
        // git passes this to a shell. With `exec`, the shell does not start another process.
        Some(format!("{option}=exec '{program}' -c safe.directory='*' {service}").into())
    }

    /// The same git without a deadline, whose calls another [`Stop`] ends.
    pub fn with_stop<'b>(&'b self, stop: &'b Stop) -> Git<'b> {
        Git {
            program: self.program.clone(),
            fingerprint: self.fingerprint,
            lfs_program: self.lfs_program.clone(),
            environment: self.environment.clone(),
            token: self.token.clone(),
            ssh: self.ssh.clone(),
            idle_timeout: self.idle_timeout,
            authorities: self.authorities.clone(),
            side: self.side,
            launch: self.launch.clone(),
            deadline: None,
            stop,
            redactor: self.redactor,
            progress: self.progress,
        }
    }

    /// The same git for calls in the agent's repository: with the agent's environment, the agent's configuration and no
    /// credential. A call that prints nothing during the idle timeout is ended, because git may wait for something that
    /// the agent left behind.
    pub fn with_agents_environment(
        &self,
        environment: &Variables,
        launch: Option<Launch>,
    ) -> Git<'_> {
        let mut environment = environment.clone();
        for (name, value) in [
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("LC_ALL", "C"),
        ] {
            environment.push((name.into(), value.into()));
        }
        Git {
            environment,
            token: None,
            ssh: None,
            side: Side::Agent,
            launch,
            ..self.with_stop(self.stop)
        }
    }

    /// Checks that a call may use the credential. An error if a process of the agent is alive, or if git's file was
    /// changed.
    pub(super) async fn check_credential_use(&self) -> Result<(), String> {
        // The process of an earlier call whose output was too long may not be reaped yet.
        if !process::no_descendants_left() {
            process::kill_leftovers().await;
        }
        if !process::no_descendants_left() {
            return Err(
                "processes of the agent are still alive, so no credential is used".to_owned(),
            );
        }
        match &self.token {
            Some(_) => self.fingerprint.check(&self.program),
            None => Ok(()),
        }
    }

    /// Makes the agent's user the owner of a directory and everything in it, if the agent has a separate user.
    pub fn make_agent_owner_of(&self, dir: &Path) -> io::Result<()> {
        let user = self.launch.as_ref().and_then(|launch| launch.user.as_ref());
        user.map_or(Ok(()), |user| user.become_owner_of_all(dir))
    }
}
