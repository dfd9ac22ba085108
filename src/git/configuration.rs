//! git's configuration in every call: it prevents a repository from running programs, and names the credential helper.
//! The configuration is in the environment variable that `git -c` uses too, and overrides every configuration file. The
//! documented variable `GIT_CONFIG_COUNT` has no effect before git 2.31.

use std::time::Duration;

use reqwest::Url;

use super::ssh::quoted;
use crate::environment::Variables;

/// The configuration of every call with [`Side::Worker`]. It overrides the configuration of the repository.
const CONFIGURATION_OF_WORKER: [(&str, &str); 16] = [
    // Run no programs that the repository names.
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("submodule.recurse", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    // Read the objects themselves: the agent can write wrong data into the files that speed git up.
    ("core.commitGraph", "false"),
    ("core.multiPackIndex", "false"),
    ("pack.useBitmaps", "false"),
    // No file is used again after a crash of the machine, so flushing to disk is not needed.
    ("core.fsync", "none"),
    // An empty value removes all helpers that other configuration adds.
    ("credential.helper", ""),
    // These would run in the background after the command has ended.
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    // The workspace may belong to another user.
    ("safe.directory", "*"),
    // Forges (GitHub, GitLab) redirect renamed projects. The helper gives the token to the original host only.
    ("http.followRedirects", "initial"),
    ("http.lowSpeedLimit", "1"),
];

/// The configuration of every call with [`Side::Agent`]: no hooks, and no programs that outlive the command.
/// All other configuration of the agent applies.
const CONFIGURATION_OF_AGENT: [(&str, &str); 6] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("safe.directory", "*"),
    ("advice.addEmbeddedRepo", "false"),
];

/// Which configuration and environment a call uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The worker's configuration and environment, for repositories of the worker.
    Worker,
    /// The agent's configuration and environment, without the credential.
    Agent,
}

impl Side {
    /// How many bytes of the end of standard error an error contains. On the agent's side git may print one line for
    /// each file.
    pub fn max_stderr_size(self) -> usize {
        match self {
            Self::Worker => 2 * 1024,
            Self::Agent => 64 * 1024,
        }
    }
}

/// The environment variable with the configuration. `helper` is the URL of the remote and the credential helper, which
/// gives the token to the host of that URL only. `extra` is more configuration, as keys and values.
pub fn variables(
    side: Side,
    helper: Option<(&Url, &str)>,
    idle_timeout: Duration,
    extra: &[(String, String)],
) -> Variables {
    let fixed: &[(&str, &str)] = match side {
        Side::Worker => &CONFIGURATION_OF_WORKER,
        Side::Agent => &CONFIGURATION_OF_AGENT,
    };
    let fixed = fixed.iter();
    let mut pairs: Vec<(String, String)> = fixed
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    pairs.extend_from_slice(extra);
    pairs.push((
        "http.lowSpeedTime".to_owned(),
        idle_timeout.as_secs().max(1).to_string(),
    ));
    if let Some((url, helper)) = helper {
        for origin in origins(url) {
            pairs.push((format!("credential.{origin}.helper"), helper.to_owned()));
        }
    }
    let pairs = pairs.iter().map(|(key, value)| parameter(key, value));
    let parameters = pairs.collect::<Vec<_>>().join(" ");
    vec![("GIT_CONFIG_PARAMETERS".into(), parameters.into())]
}

/// A key and its value in the format of `GIT_CONFIG_PARAMETERS`. Every version of git reads both in one quoted word. A
/// key with an equals sign needs two quoted words, which only git 2.31 and newer read.
fn parameter(key: &str, value: &str) -> String {
    if key.contains('=') {
        format!("{}={}", quoted(key.as_ref()), quoted(value.as_ref()))
    } else {
        quoted(format!("{key}={value}").as_ref())
    }
}

/// The origins that get the token: the remote's, and for http without a port the same host with https, because
/// servers redirect to it.
fn origins(url: &Url) -> Vec<String> {
    let mut origins = vec![url.origin().ascii_serialization()];
    if let ("http", None, Some(host)) = (url.scheme(), url.port(), url.host_str()) {
        origins.push(format!("https://{host}"));
    }
    origins
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn git_reads_every_key_and_value_as_it_was_written() {
        let extra = [
            (
                "user.name",
                "  it's \"quoted\", $HOME\\ and `ls`!\n two lines",
            ),
            ("filter.plain.clean", "a = b"),
            ("filter.with=sign and 'quote'.clean", "c = d"),
            ("empty.value", ""),
        ];
        let extra = extra.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let idle_timeout = Duration::from_secs(7);
        let variables = variables(Side::Worker, None, idle_timeout, &extra);
        let low_speed = ("http.lowSpeedTime".to_owned(), "7".to_owned());
        let hooks = ("core.hooksPath".to_owned(), "/dev/null".to_owned());
        for (key, value) in extra.iter().chain([&low_speed, &hooks]) {
            let output = Command::new("git")
                .args(["config", "--null", "--get", key])
                .env_clear()
                .env("PATH", env!("PATH"))
                .envs(variables.iter().cloned())
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{key}: {error}");
            let read = String::from_utf8(output.stdout).unwrap();
            assert_eq!(read, format!("{value}\0"), "{key}");
        }
    }
}
