//! The environment as it was found, and what of it goes where.
//!
//! The agent's environment is built from empty: what is not named here, the agent does not get.

use std::ffi::{OsStr, OsString};

use secrecy::SecretString;

use super::settings::{
    CALLBACK_SECRET, LISTEN, MODEL_ACCESS, STOP_AT_END_OF_STDIN, Setting, TASK_LOCK, WORKER,
};
use crate::callback::Machine;
use crate::environment::Variables;

/// What every program may want to know of the machine, and none of it a secret.
pub const HARMLESS: [&str; 20] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TERM",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NIX_SSL_CERT_FILE",
    "GIT_SSL_CAINFO",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "TRACEPARENT",
    "IS_SANDBOX",
];

/// Where programs are looked for when nobody says: what a login shell would say.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The image's word on what it was built from: no setting. Told at run time, so that the program is the same, bit for
/// bit, for every commit that changes none of its sources.
const REVISION: &str = "DESCARTES_REVISION";

/// Variables with such endings hold secrets, whoever set them.
pub const SECRET_ENDINGS: [&str; 7] = [
    "TOKEN",
    "KEY",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIALS",
];

/// Shorter values would mask half of every log.
pub const SHORTEST_SECRET: usize = 6;

/// All variables of the process.
#[derive(Debug)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    pub fn new(variables: Vec<(OsString, OsString)>) -> Self {
        Self(variables)
    }

    /// A variable's value; an empty one is an unset one.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_os_str())
            .filter(|value| !value.is_empty())
    }

    fn text(&self, name: &str) -> Option<String> {
        Some(self.get(name)?.to_str()?.to_owned())
    }

    fn pair(&self, name: &str) -> Option<(OsString, OsString)> {
        Some((name.into(), self.get(name)?.to_owned()))
    }

    /// What the agent and the checks get; what the agent needs to reach its model is not in it.
    pub fn for_agent(&self, further: &[String]) -> Variables {
        let mut base: Variables = HARMLESS.iter().filter_map(|name| self.pair(name)).collect();
        if self.get("PATH").is_none() {
            base.push(("PATH".into(), DEFAULT_PATH.into()));
        }
        base.extend(further.iter().filter_map(|name| self.pair(name)));
        base
    }

    /// What the built-in agent's tools get: all that it was given itself, without what is for the
    /// model's service.
    pub fn for_tools(&self) -> Variables {
        let variables = self.0.iter().filter(|(name, _)| {
            MODEL_ACCESS
                .into_iter()
                .all(|setting| name != setting.name() && name != setting.variable)
        });
        variables.cloned().collect()
    }

    /// Everything that must never leave: what the names say are secrets.
    pub fn secrets(&self) -> Vec<SecretString> {
        let secret = |(name, _): &&(OsString, OsString)| is_secret(&name.to_string_lossy());
        let values = self
            .0
            .iter()
            .filter(secret)
            .filter_map(|(_, value)| value.to_str());
        // One variable may hold several secrets, for rotation.
        let words = self
            .get(CALLBACK_SECRET.variable)
            .and_then(OsStr::to_str)
            .unwrap_or_default();
        // And what counts in each stands behind a prefix that everybody knows.
        let bare = words
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("whsec_"));
        let values = values.chain(words.split_whitespace()).chain(bare);
        values
            .filter(|value| value.len() >= SHORTEST_SECRET)
            .map(SecretString::from)
            .collect()
    }

    /// What this worker was built from.
    pub fn revision(&self) -> Option<String> {
        self.text(REVISION)
    }

    /// The platform's facts about this machine, where there is a platform that tells.
    pub fn machine(&self) -> Option<Machine> {
        let machine = Machine {
            id: self.text("FLY_MACHINE_ID"),
            app: self.text("FLY_APP_NAME"),
            region: self.text("FLY_REGION"),
            image: self.text("FLY_IMAGE_REF"),
            memory_mb: self
                .text("FLY_VM_MEMORY_MB")
                .and_then(|text| text.parse().ok()),
        };
        (machine.id.is_some() || machine.app.is_some()).then_some(machine)
    }

    /// Warnings about variables that look like settings and are none: a slip of the pen, or an
    /// orchestrator that is ahead of this worker.
    pub fn unknown_settings(&self) -> Vec<String> {
        let known = || {
            WORKER
                .into_iter()
                .chain([&LISTEN, &STOP_AT_END_OF_STDIN, &TASK_LOCK])
                .map(|setting: &Setting| setting.variable)
        };
        let names = self.0.iter().filter_map(|(name, _)| name.to_str());
        let unknown = names.filter(|name| {
            name.starts_with("DESCARTES_")
                && *name != REVISION
                && !known().any(|known| known == *name)
        });
        unknown
            .map(|name| {
                let closest = known().min_by_key(|known| strsim::levenshtein(name, known));
                // One slip in three letters, and no more than three: `FOO` is no slip of `TAG`.
                let slips = ((name.len() - "DESCARTES_".len()) / 3).min(3);
                let hint = closest
                    .filter(|known| strsim::levenshtein(name, known) <= slips)
                    .map(|known| format!("; did you mean {known}?"));
                format!("{name} is no setting{}", hint.unwrap_or_default())
            })
            .collect()
    }
}

/// Whether a name says that its value is a secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_ENDINGS.iter().any(|ending| name.ends_with(ending))
}
