//! The configuration of ssh from before the agent's start: the program, its options and the known hosts.
//!
//! Keeps no keys: an agent of the same user can read and replace them. But it cannot send a push to another host, or make ssh
//! run programs.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use reqwest::Url;

/// The options that are kept from the output of `ssh -G`: how to reach the host, and as which user. The others are defaults, or
/// concern terminals and forwarding.
const KEPT_OPTIONS: [&str; 26] = [
    "addressfamily",
    "bindaddress",
    "bindinterface",
    "casignaturealgorithms",
    "certificatefile",
    "ciphers",
    "connectionattempts",
    "connecttimeout",
    "globalknownhostsfile",
    "hostkeyalgorithms",
    "hostkeyalias",
    "hostname",
    "identitiesonly",
    "identityagent",
    "identityfile",
    "kexalgorithms",
    "macs",
    "pkcs11provider",
    "port",
    "proxycommand",
    "proxyjump",
    "pubkeyacceptedalgorithms",
    "serveralivecountmax",
    "serveraliveinterval",
    "stricthostkeychecking",
    "user",
];
/// How many bytes of one file of known hosts are read.
const MAX_KNOWN_HOSTS_SIZE: u64 = 1024 * 1024;

/// ssh for one remote.
#[derive(Debug, Clone)]
pub struct Ssh {
    program: PathBuf,
    /// For the programs that a configuration may have ssh run.
    home: Option<OsString>,
    /// What `ssh` would be asked for: options and host.
    destination: Vec<OsString>,
    memory: Option<Memory>,
}

#[derive(Debug, Clone)]
struct Memory {
    configuration: String,
    known_hosts: Vec<u8>,
}

impl Ssh {
    /// `None` if the remote is not reached by ssh.
    pub fn to(remote: &str, program: PathBuf, home: Option<OsString>) -> Option<Self> {
        Some(Self {
            program,
            home,
            destination: destination(remote)?,
            memory: None,
        })
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The arguments by which ssh prints its configuration for this remote.
    pub fn question(&self) -> Vec<OsString> {
        let mut question = vec!["-G".into()];
        question.extend(self.destination.iter().cloned());
        question
    }

    /// Keeps the configuration that ssh printed, and the hosts that are known now.
    pub fn remember(&mut self, answer: &str) {
        // For this host only: a jump host has another name.
        let mut configuration = format!("Host {}\n", self.host());
        let mut known_hosts = Vec::new();
        for line in answer.lines() {
            let (key, value) = line.split_once(' ').unwrap_or_default();
            if KEPT_OPTIONS.contains(&key) {
                configuration.push_str(line);
                configuration.push('\n');
            }
            if key == "userknownhostsfile" {
                for file in value.split(' ') {
                    known_hosts.extend(self.hosts_in(file));
                    known_hosts.push(b'\n');
                }
            }
        }
        self.memory = Some(Memory {
            configuration,
            known_hosts,
        });
    }

    fn host(&self) -> String {
        let destination = self.destination.last().map(|host| host.to_string_lossy());
        let destination = destination.unwrap_or_default();
        destination
            .rsplit('@')
            .next()
            .unwrap_or_default()
            .to_owned()
    }

    fn hosts_in(&self, file: &str) -> Vec<u8> {
        let file = match (file.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => Path::new(home).join(rest),
            _ => PathBuf::from(file),
        };
        let mut hosts = Vec::new();
        // A missing file has no hosts.
        let _ = fs::File::open(file)
            .and_then(|file| file.take(MAX_KNOWN_HOSTS_SIZE).read_to_end(&mut hosts));
        hosts
    }

    /// The command with the user's configuration, for calls before the agent's start.
    pub fn command(&self) -> OsString {
        self.command_with("")
    }

    /// The command with the remembered configuration, from files in a directory that no agent could write.
    pub fn frozen_in(&self, dir: &Path) -> io::Result<Option<OsString>> {
        let Some(memory) = &self.memory else {
            return Ok(None);
        };
        let (configuration, hosts) = (dir.join("ssh_config"), dir.join("ssh_known_hosts"));
        fs::write(&configuration, &memory.configuration)?;
        fs::write(&hosts, &memory.known_hosts)?;
        let hosts = format!("UserKnownHostsFile={}", hosts.display());
        Ok(Some(self.command_with(&format!(
            " -F {} -o {} -o UpdateHostKeys=no",
            quoted(configuration.as_os_str()),
            quoted(OsStr::new(&hosts)),
        ))))
    }

    fn command_with(&self, options: &str) -> OsString {
        let home = self.home.as_ref();
        let home = home.map_or_else(String::new, |home| format!("HOME={} ", quoted(home)));
        let program = quoted(self.program.as_os_str());
        // No person can answer a question.
        format!("{home}{program} -o BatchMode=yes{options}").into()
    }
}

/// The options and the host that git would give to ssh.
fn destination(remote: &str) -> Option<Vec<OsString>> {
    let Some((scheme, _)) = remote.split_once("://") else {
        let (host, _) = remote
            .split_once(':')
            .filter(|_| !remote.starts_with('/'))?;
        return Some(vec!["--".into(), host.into()]);
    };
    if scheme != "ssh" {
        return None;
    }
    let url = Url::parse(remote).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']);
    let host = match url.username() {
        "" => host.to_owned(),
        user => format!("{user}@{host}"),
    };
    let port = url
        .port()
        .map(|port| vec!["-p".into(), port.to_string().into()]);
    let mut destination: Vec<OsString> = port.unwrap_or_default();
    destination.extend(["--".into(), host.into()]);
    Some(destination)
}

/// A word for the shell that git gives the command to.
fn quoted(word: &OsStr) -> String {
    format!("'{}'", word.to_string_lossy().replace('\'', "'\\''"))
}
