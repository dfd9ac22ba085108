//! git's configuration in every call: it keeps a repository from running programs, and names the credential helper.
//!
//! By environment, which wins over what any file says.

use std::time::Duration;

use reqwest::Url;

use crate::environment::Variables;

/// The configuration of every call, which wins over the repository's.
const CONFIGURATION: [(&str, &str); 16] = [
    // No program that a repository names is run.
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("submodule.recurse", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    // git reads the objects, and not files of an agent that describe them.
    ("core.commitGraph", "false"),
    ("core.multiPackIndex", "false"),
    ("pack.useBitmaps", "false"),
    // The machine is thrown away after the task, so a crash loses everything anyway.
    ("core.fsync", "none"),
    // An empty value removes the helpers of other configuration files.
    ("credential.helper", ""),
    // These would go on in the background after the command.
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    // The workspace may belong to another user.
    ("safe.directory", "*"),
    // Forges redirect renamed projects. The other host does not get the credential, because the helper is for one host.
    ("http.followRedirects", "initial"),
    ("http.lowSpeedLimit", "1"),
];

/// The configuration of every call with the agent's environment: no hooks, and nothing is started that outlives the command.
/// Everything else is as the agent configured it.
const CONFIGURATION_OF_AGENT: [(&str, &str); 6] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("safe.directory", "*"),
    ("advice.addEmbeddedRepo", "false"),
];

/// Whose configuration and environment a call uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Worker,
    Agent,
}

impl Side {
    /// How many bytes of standard error are kept. Calls on the agent's side name one file a line.
    pub fn words(self) -> usize {
        match self {
            Self::Worker => 2 * 1024,
            Self::Agent => 64 * 1024,
        }
    }
}

/// Configuration by environment, which wins over a repository's own. The token is offered to its own host only, by the
/// helper that stands next to the remote's URL.
pub fn variables(
    side: Side,
    helper: Option<(&Url, &str)>,
    stalled: Duration,
    further: &[(String, String)],
) -> Variables {
    let constant: &[(&str, &str)] = match side {
        Side::Worker => &CONFIGURATION,
        Side::Agent => &CONFIGURATION_OF_AGENT,
    };
    let constant = constant.iter();
    let mut pairs: Vec<(String, String)> = constant
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    pairs.extend_from_slice(further);
    let mut variables = Variables::new();
    pairs.push((
        "http.lowSpeedTime".to_owned(),
        stalled.as_secs().max(1).to_string(),
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

/// The origins that get the token: the remote's, and the same host with https, because a server may redirect to that.
fn origins(url: &Url) -> Vec<String> {
    let mut origins = vec![url.origin().ascii_serialization()];
    if let ("http", None, Some(host)) = (url.scheme(), url.port(), url.host_str()) {
        origins.push(format!("https://{host}"));
    }
    origins
}
