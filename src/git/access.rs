//! The settings with which git reaches a remote, and the variables that every call of the worker has.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::ssh::Ssh;
use crate::environment::Variables;

/// The credential and the network settings for a remote.
#[derive(Debug, Clone)]
pub struct Access {
    /// The access token for remotes with http or https.
    pub token: Option<SecretString>,
    /// The proxies that the worker's environment names.
    pub proxies: Variables,
    /// A PEM file with more certificate authorities to trust.
    pub authorities: Option<PathBuf>,
    /// The path of the socket of the user's ssh agent.
    pub ssh_agent: Option<OsString>,
    /// How long a call that contacts the remote may show no progress before the worker ends it; git itself waits
    /// forever.
    pub idle_timeout: Duration,
}

impl Access {
    /// The variables of all calls with the worker's configuration, in addition to those that git inherits.
    pub fn variables(&self, ssh: Option<&Ssh>) -> Variables {
        let mut variables: Variables = [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("HOME", "/dev/null"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh"),
            ("GIT_SSH_VARIANT", "ssh"),
            ("GIT_FLUSH", "1"),
            ("LC_ALL", "C"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
        if let Some(ssh) = ssh {
            variables.push(("GIT_SSH_COMMAND".into(), ssh.command()));
        }
        variables.extend_from_slice(&self.proxies);
        if let Some(socket) = &self.ssh_agent {
            variables.push(("SSH_AUTH_SOCK".into(), socket.clone()));
        }
        variables
    }
}
