//! Runs git: supervised like any child, with nothing of anybody's configuration but ours.
//!
//! Knows no tasks. Every call says itself whether the credential goes with it; a call that works
//! in a repository which an agent could write must not ask for it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use super::Variables;
use super::process::{self, Ending, Limits, Program};
use super::written;
use crate::progress::{Progress, Ring};
use crate::redact::Redactor;
use crate::shutdown::Stop;

/// The end of git's own words that an error shows.
const WORDS: usize = 2 * 1024;
/// The most of an answer that a caller wants as one text.
const ANSWER: usize = 64 * 1024;
/// How long a transfer may show no progress before it is given up; git itself waits for ever.
const STALLED: Duration = Duration::from_secs(60);
/// For everything that is no transfer; a large repository on a slow disk takes minutes, not hours.
const LOCAL: Duration = Duration::from_secs(10 * 60);
/// The variable in which git's children find the token; gone when they are.
const TOKEN: &str = "DESCARTES_GIT_TOKEN";

/// What git gets of the worker's environment.
const INHERITED: [&str; 9] = [
    "PATH",
    "HOME",
    "USER",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NIX_SSL_CERT_FILE",
    "GIT_SSL_CAINFO",
    "CURL_CA_BUNDLE",
];

/// Holds in every call, and wins over whatever a repository's own configuration says.
const CONFIGURATION: [(&str, &str); 11] = [
    // Nothing that a repository brings along is run.
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("submodule.recurse", "false"),
    // An empty helper forgets all helpers before it.
    ("credential.helper", ""),
    // Nobody is there to look at it, and it would go on after the command.
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    // The workspace may belong to another user.
    ("safe.directory", "*"),
    // A redirect would take the credential elsewhere.
    ("http.followRedirects", "false"),
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "60"),
];

/// git, and what its calls have in common.
#[derive(Debug)]
pub struct Git<'a> {
    program: PathBuf,
    environment: Variables,
    token: Option<(Url, SecretString)>,
    pub redactor: &'a Redactor,
    pub stop: &'a Stop,
    pub progress: &'a Progress,
}

/// What a call to git needs to know about its remote.
#[derive(Debug, Clone)]
pub struct Access {
    pub token: Option<SecretString>,
    /// Where the user's ssh agent listens.
    pub ssh_agent: Option<OsString>,
}

/// One command.
#[derive(Debug)]
pub struct Call<'a> {
    args: Vec<OsString>,
    dir: &'a Path,
    variables: Variables,
    stdin: Option<File>,
    transfer: bool,
}

/// Why a command failed, in git's own words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("git {command} {how}")]
pub struct GitError {
    pub command: String,
    pub how: String,
    /// The end of what git said, redacted.
    pub words: String,
    pub stopped: bool,
}

impl<'a> Call<'a> {
    pub fn new(dir: &'a Path, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        Self {
            args,
            dir,
            variables: Vec::new(),
            stdin: None,
            transfer: false,
        }
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn variables(mut self, variables: &Variables) -> Self {
        self.variables.extend_from_slice(variables);
        self
    }

    /// What the command reads.
    pub fn input(mut self, text: &[u8]) -> io::Result<Self> {
        let mut file = tempfile::tempfile()?;
        file.write_all(text)?;
        file.seek(SeekFrom::Start(0))?;
        self.stdin = Some(file);
        Ok(self)
    }

    /// It talks to the remote: the credential goes with it, and silence ends it.
    pub fn transfer(mut self) -> Self {
        self.transfer = true;
        self
    }
}

impl<'a> Git<'a> {
    /// Finds git on the `PATH` of `environment`, once and for all: what an agent puts there later
    /// is not taken.
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
            .filter(|(name, _)| INHERITED.iter().any(|known| name == known));
        let mut own: Variables = inherited.cloned().collect();
        let path = own
            .iter()
            .find(|(name, _)| name == "PATH")
            .map(|(_, path)| path.clone());
        let program = on_path(&path.unwrap_or_default()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "there is no git on the PATH")
        })?;
        for (name, value) in [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh"),
            ("GIT_SSH_COMMAND", "ssh -o BatchMode=yes"),
            ("GIT_FLUSH", "1"),
            ("LC_ALL", "C"),
        ] {
            own.push((name.into(), value.into()));
        }
        if let Some(socket) = &access.ssh_agent {
            own.push(("SSH_AUTH_SOCK".into(), socket.clone()));
        }
        let url = Url::parse(remote)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"));
        let token = url.zip(access.token.clone());
        Ok(Self {
            program,
            environment: own,
            token,
            redactor,
            stop,
            progress,
        })
    }

    /// The same git, for calls that another stop ends.
    pub fn under<'b>(&'b self, stop: &'b Stop) -> Git<'b> {
        Git {
            program: self.program.clone(),
            environment: self.environment.clone(),
            token: self.token.clone(),
            stop,
            redactor: self.redactor,
            progress: self.progress,
        }
    }

    /// Runs a command; gives what it printed, which must not be long.
    pub async fn run(&self, call: Call<'_>) -> Result<String, GitError> {
        let mut printed = Vec::new();
        self.stream(call, &mut |bytes| {
            let room = ANSWER - printed.len();
            printed.extend_from_slice(&bytes[..bytes.len().min(room)]);
        })
        .await?;
        Ok(String::from_utf8_lossy(&printed).trim_end().to_owned())
    }

    /// Runs a command; what it prints goes to `hear` as it comes.
    pub async fn stream(
        &self,
        call: Call<'_>,
        hear: &mut dyn FnMut(&[u8]),
    ) -> Result<(), GitError> {
        let command = call
            .args
            .iter()
            .find(|arg| !arg.as_encoded_bytes().starts_with(b"-"));
        let command = command
            .map(|arg| arg.to_string_lossy().into_owned())
            .unwrap_or_default();
        let failed = |how: String, words: String| GitError {
            command: command.clone(),
            how,
            words,
            stopped: false,
        };
        let unstarted =
            |error: io::Error| failed("could not be started".to_owned(), error.to_string());

        let idle = call.transfer.then_some(STALLED);
        // A transfer's life is on standard error: its progress. Elsewhere that is for errors only.
        let said = if call.transfer {
            None
        } else {
            Some(tempfile::tempfile().map_err(unstarted)?)
        };
        let mut env = self.environment.clone();
        env.extend(self.configuration(call.transfer));
        env.extend(call.variables);
        let program = Program {
            program: self.program.clone().into(),
            args: call.args,
            dir: call.dir.to_owned(),
            env,
            stdin: call.stdin,
            stderr: said
                .as_ref()
                .map(File::try_clone)
                .transpose()
                .map_err(unstarted)?,
        };
        let mut tail = Ring::new(WORDS);
        let mut take = |bytes: &[u8]| {
            if call.transfer {
                tail.push(bytes);
            }
            hear(bytes);
        };
        let limits = Limits { wall: LOCAL, idle };
        let ending = process::supervise(program, limits, self.stop, self.progress, &mut take).await;
        let words = || {
            let text = said.map_or_else(|| tail.text(), last_words);
            self.redactor.text(&without_progress(&text))
        };
        match ending {
            Ok(Ending::Exited(0)) => Ok(()),
            Ok(Ending::Exited(code)) => {
                Err(failed(format!("failed with exit code {code}"), words()))
            }
            Ok(Ending::Killed(signal)) => Err(failed(
                format!("was killed by {}", process::name(signal)),
                words(),
            )),
            Ok(Ending::OutOfMemory) => Err(failed("ran out of memory".to_owned(), words())),
            Ok(Ending::TimedOut(limit)) => Err(failed(
                format!("was not done within {}", written(limit)),
                words(),
            )),
            Ok(Ending::Idle(limit)) => Err(failed(
                format!("made no progress for {}", written(limit)),
                words(),
            )),
            Ok(Ending::Stopped(_)) => Err(GitError {
                stopped: true,
                ..failed("was stopped".to_owned(), words())
            }),
            Err(error) => Err(failed("could not be started".to_owned(), error.to_string())),
        }
    }

    /// Configuration by environment, which wins over a repository's own. The token is offered to
    /// its own host only, by a helper that finds it in git's environment: never in arguments.
    fn configuration(&self, transfer: bool) -> Variables {
        let mut pairs: Vec<(String, String)> = CONFIGURATION
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let mut variables = Variables::new();
        if let (true, Some((url, token))) = (transfer, &self.token) {
            let origin = url.origin().ascii_serialization();
            let helper =
                format!("!f() {{ echo username=x-access-token; echo \"password=${TOKEN}\"; }}; f");
            pairs.push((format!("credential.{origin}.helper"), helper));
            variables.push((TOKEN.into(), token.expose_secret().into()));
        }
        variables.push(("GIT_CONFIG_COUNT".into(), pairs.len().to_string().into()));
        for (index, (key, value)) in pairs.into_iter().enumerate() {
            variables.push((format!("GIT_CONFIG_KEY_{index}").into(), key.into()));
            variables.push((format!("GIT_CONFIG_VALUE_{index}").into(), value.into()));
        }
        variables
    }
}

/// The first git on a search path.
fn on_path(path: &OsStr) -> Option<PathBuf> {
    let executable = |file: &PathBuf| {
        file.metadata()
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path)
        .map(|dir| dir.join("git"))
        .find(executable)
}

fn last_words(mut file: File) -> String {
    let length = file.metadata().map_or(0, |found| found.len());
    let from = length.saturating_sub(WORDS as u64);
    let mut bytes = Vec::new();
    let read = file
        .seek(SeekFrom::Start(from))
        .and_then(|_| file.take(WORDS as u64).read_to_end(&mut bytes));
    read.map(|_| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// git's words without the lines that it overwrote on a terminal.
fn without_progress(text: &str) -> String {
    let lines = text.lines().map(|line| {
        line.rsplit('\r')
            .find(|part| !part.is_empty())
            .unwrap_or_default()
    });
    let lines: Vec<&str> = lines
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("\n")
}
