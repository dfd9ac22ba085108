//! git's configuration in every call: it keeps a repository from running programs, and names the credential helper.
//!
//! It is in environment variables, which override every configuration file.

use std::time::Duration;

use reqwest::Url;

use crate::environment::Variables;

/// For every call on the worker's side. It overrides the configuration of the repository.
const CONFIGURATION: [(&str, &str); 16] = [
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
    // After a crash of the machine nothing is used again, so flushing to disk is not needed.
    ("core.fsync", "none"),
    // An empty value removes all helpers that other configuration adds.
    ("credential.helper", ""),
    // These would run in the background after the command has ended.
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    // The workspace may belong to another user.
    ("safe.directory", "*"),
    // Forges redirect renamed projects. The helper gives the token to the original host only.
    ("http.followRedirects", "initial"),
    ("http.lowSpeedLimit", "1"),
];

/// For every call with the agent's environment: no hooks, and no programs that outlive the command. The rest of the
/// agent's configuration applies.
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
    Worker,
    Agent,
}

impl Side {
    /// How many bytes of standard error are kept. On the agent's side git may print one line for each file.
    pub fn max_stderr_size(self) -> usize {
        match self {
            Self::Worker => 2 * 1024,
            Self::Agent => 64 * 1024,
        }
    }
}

/// The environment variables with the configuration. `helper` is the credential helper for a URL: it gives the token to
/// the host of that URL only.
pub fn variables(
    side: Side,
    helper: Option<(&Url, &str)>,
    silence_limit: Duration,
    further: &[(String, String)],
) -> Variables {
    let fixed: &[(&str, &str)] = match side {
        Side::Worker => &CONFIGURATION,
        Side::Agent => &CONFIGURATION_OF_AGENT,
    };
    let fixed = fixed.iter();
    let mut pairs: Vec<(String, String)> = fixed
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    pairs.extend_from_slice(further);
    let mut variables = Variables::new();
    pairs.push((
        "http.lowSpeedTime".to_owned(),
        silence_limit.as_secs().max(1).to_string(),
    ));
    if let Some((url, helper)) = helper {
        for origin in origins(url) {
            pairs.push((format!("credential.{origin}.helper"), helper.to_owned()));
        }
    }
    variables.push(("GIT_CONFIG_COUNT".into(), pairs.len().to_string().into()));
    for (index, (key, value)) in pairs.into_iter().enumerate() {
        variables.push((format!("GIT_CONFIG_KEY_{index}").into(), key.into()));
        variables.push((format!("GIT_CONFIG_VALUE_{index}").into(), value.into()));
    }
    variables
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
