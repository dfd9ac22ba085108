//! Records ssh's program, its configuration and its known hosts before the agent starts, and uses them for later calls.
//!
//! So the agent can neither redirect a push nor make ssh run programs. Keys are not recorded: an agent of the same user
//! can read and replace them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use reqwest::Url;

/// The keywords of `ssh -G` that are recorded: those about the connection and the login. All other keywords, for
/// example those about terminals and forwarding, keep their defaults.
const RECORDED_KEYWORDS: [&str; 26] = [
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
/// How much of a file of known hosts is read, in bytes.
const MAX_KNOWN_HOSTS_SIZE: u64 = 1024 * 1024;

/// How git calls ssh for one remote.
#[derive(Debug, Clone)]
pub struct Ssh {
    program: PathBuf,
    /// `HOME` of the worker: the programs that ssh's configuration names may need it.
    home: Option<OsString>,
    /// The options and the host that git passes to ssh.
    destination: Vec<OsString>,
    /// `None` until [`Ssh::record`] is called.
    recorded: Option<RecordedSettings>,
}

/// ssh's settings before the agent started.
#[derive(Debug, Clone)]
struct RecordedSettings {
    configuration: String,
    known_hosts: Vec<u8>,
}

impl Ssh {
    /// ssh for the URL `remote`; `None` if the URL does not use ssh.
    pub fn for_remote(remote: &str, program: PathBuf, home: Option<OsString>) -> Option<Self> {
        Some(Self {
            program,
            home,
            destination: destination(remote)?,
            recorded: None,
        })
    }

    /// The path of ssh.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The arguments that make ssh print its configuration for this remote.
    pub fn print_arguments(&self) -> Vec<OsString> {
        let mut arguments = vec!["-G".into()];
        arguments.extend(self.destination.iter().cloned());
        arguments
    }

    /// Records the configuration that `ssh -G` has printed, and the known hosts.
    pub fn record(&mut self, printed: &str) {
        // The settings apply to this host only. A jump host has another name and must not get them.
        let mut configuration = format!("Host {}\n", self.host());
        let mut known_hosts = Vec::new();
        for line in printed.lines() {
            let (key, value) = line.split_once(' ').unwrap_or_default();
            if RECORDED_KEYWORDS.contains(&key) {
                configuration.push_str(line);
                configuration.push('\n');
            }
            if key == "userknownhostsfile" {
                for file in value.split(' ') {
                    known_hosts.extend(self.read_known_hosts(file));
                    known_hosts.push(b'\n');
                }
            }
        }
        self.recorded = Some(RecordedSettings {
            configuration,
            known_hosts,
        });
    }

    /// The name of the host, without the user.
    fn host(&self) -> String {
        let destination = self.destination.last().map(|host| host.to_string_lossy());
        let destination = destination.unwrap_or_default();
        destination
            .rsplit('@')
            .next()
            .unwrap_or_default()
            .to_owned()
    }

    /// The content of a file of known hosts.
    fn read_known_hosts(&self, file: &str) -> Vec<u8> {
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

    /// The value of `GIT_SSH_COMMAND` before the agent starts: ssh with its current configuration.
    pub fn command(&self) -> OsString {
        self.command_with("")
    }

    /// The value of `GIT_SSH_COMMAND` after the agent has started: ssh with the recorded settings; `None` if there are
    /// none. Writes the settings to files in `dir`, which the agent must not be able to write.
    pub fn recorded_command(&self, dir: &Path) -> io::Result<Option<OsString>> {
        let Some(recorded) = &self.recorded else {
            return Ok(None);
        };
        let (configuration, hosts) = (dir.join("ssh_config"), dir.join("ssh_known_hosts"));
        fs::write(&configuration, &recorded.configuration)?;
        fs::write(&hosts, &recorded.known_hosts)?;
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
        // No one can answer ssh's questions, so ssh must fail instead of asking.
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

/// The word in single quotes, as a shell and git read it.
pub fn quoted(word: &OsStr) -> String {
    format!("'{}'", word.to_string_lossy().replace('\'', "'\\''"))
}
