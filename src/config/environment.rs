//! The environment of this process, and the choice of the variables that the agent gets.
//!
//! The agent's environment is built from empty: it contains only variables that are named here or in the
//! settings.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;

use super::settings::{
    CALLBACK_SECRET, CALLBACK_URL, DISPATCH_SETTINGS, DISPATCH_URL, LISTEN, MODEL_ACCESS,
    NEW_SESSION, REPO, STOP_AT_END_OF_STDIN, Setting, TASK_LOCK, WORKER_SETTINGS,
};
use crate::callback::Machine;
use crate::environment::Variables;
use crate::redact::names::is_secret;

/// Variables that every agent gets: they describe the machine, and none of them is secret.
pub const PASSED_ON_VARIABLES: [&str; 20] = [
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

/// The search path of a login shell, used if PATH is not set.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The variables by which git finds proxies. curl ignores `HTTP_PROXY` in capitals on purpose.
const PROXY_VARIABLES: [&str; 7] = [
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// The variable in which the image stores the commit that it was built from. It is read at run time and not compiled
/// in, so that commits with the same sources build the same binary.
const REVISION_VARIABLE: &str = "DESCARTES_REVISION";

/// The variables with headers for collectors of OpenTelemetry. Some of the headers are credentials.
const COLLECTOR_HEADER_VARIABLES: [&str; 3] = [
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
];

/// The variables that name collectors of OpenTelemetry: one for all signals, one for traces, one for metrics.
pub const COLLECTOR_URL_VARIABLES: [&str; 3] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
];

/// A header whose name contains one of these words, in any case, has a secret as its value.
const SECRET_HEADER_WORDS: [&str; 7] = [
    "authorization",
    "key",
    "token",
    "secret",
    "password",
    "credential",
    "x-honeycomb-team",
];

/// The shortest value that is masked, in bytes: shorter values would mask half of every log.
pub const MIN_SECRET_LENGTH: usize = 6;

/// The settings that are URLs whose queries may contain secrets.
pub const URL_SETTINGS: [&Setting; 3] = [&CALLBACK_URL, &REPO, &DISPATCH_URL];

/// The secret values in a URL's query, each as it is written and percent-decoded. The name of a parameter decides
/// whether its value is secret.
pub fn query_secrets(url: &str) -> Vec<SecretString> {
    let (_, query) = url.split_once('?').unwrap_or_default();
    let query = query.split('#').next().unwrap_or_default();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let is_secret = |name| is_secret(&percent_decode_str(name).decode_utf8_lossy());
    let secret = pairs.filter(|(name, _)| is_secret(name));
    let forms = secret.flat_map(|(_, value)| {
        let decoded = percent_decode_str(value).decode_utf8_lossy();
        long_enough_to_mask([value, &*decoded].into_iter())
    });
    forms.collect()
}

/// The secret values of headers in a list like `name=value,other=value`: as they are written, decoded, and without the
/// word `Bearer` or `Basic`. Other values, like the name of a data set, are ordinary words that must not be masked.
fn header_secrets(list: &str) -> Vec<String> {
    let headers = list.split(',').filter_map(|pair| pair.split_once('='));
    let forms = headers.flat_map(|(name, written)| {
        let written = written.trim();
        let decoded = percent_decode_str(written).decode_utf8_lossy();
        let decoded = decoded.trim().to_owned();
        if !is_secret_header(name.trim(), &decoded) {
            return [None, None, None];
        }
        let credential = decoded.split_once(' ');
        let credential = credential.map(|(_, credential)| credential.trim().to_owned());
        [Some(written.to_owned()), credential, Some(decoded)]
    });
    forms.flatten().collect()
}

/// Whether the value of a header is a secret: the header's name says so, or the value begins with `Bearer` or `Basic`.
fn is_secret_header(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let scheme = value.split_whitespace().next().unwrap_or_default();
    name.starts_with("api-")
        || SECRET_HEADER_WORDS.iter().any(|word| name.contains(word))
        || scheme.eq_ignore_ascii_case("bearer")
        || scheme.eq_ignore_ascii_case("basic")
}

/// All variables of the process.
#[derive(Debug)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    pub fn new(variables: Vec<(OsString, OsString)>) -> Self {
        Self(variables)
    }

    /// The value of a variable; an empty value counts as unset.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_os_str())
            .filter(|value| !value.is_empty())
    }

    /// The user's directory for state, by the XDG base directory specification, which ignores relative paths.
    pub fn state_home(&self) -> Option<PathBuf> {
        let directory = |name| {
            let path = self.get(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        directory("XDG_STATE_HOME").or_else(|| Some(directory("HOME")?.join(".local/state")))
    }

    /// The value of a variable, if it is set and UTF-8.
    fn text(&self, name: &str) -> Option<String> {
        Some(self.get(name)?.to_str()?.to_owned())
    }

    /// A variable with its name, if it is set.
    fn variable(&self, name: &str) -> Option<(OsString, OsString)> {
        Some((name.into(), self.get(name)?.to_owned()))
    }

    /// The proxy variables that are set, and the variables in `more_names` that are set.
    pub fn proxy_variables(&self, more_names: &[&str]) -> Variables {
        let names = PROXY_VARIABLES.iter().chain(more_names);
        names.filter_map(|name| self.variable(name)).collect()
    }

    /// The variables for the agent and the checks: those that every agent gets, and those in `more_names` that are set.
    /// Without the agent's access to its model.
    pub fn for_agent(&self, more_names: &[String]) -> Variables {
        let mut base: Variables = PASSED_ON_VARIABLES
            .iter()
            .filter_map(|name| self.variable(name))
            .collect();
        if self.get("PATH").is_none() {
            base.push(("PATH".into(), DEFAULT_PATH.into()));
        }
        base.extend(more_names.iter().filter_map(|name| self.variable(name)));
        base
    }

    /// The variables for the tools of the built-in agent: all variables of this process except those for access to the
    /// model.
    pub fn for_tools(&self) -> Variables {
        let variables = self.0.iter().filter(|(name, _)| {
            MODEL_ACCESS
                .into_iter()
                .all(|setting| name != setting.name() && name != setting.variable)
        });
        variables.cloned().collect()
    }

    /// All secrets in the environment: values of variables whose names say that they are secret, and secrets inside of
    /// URLs and headers.
    pub fn secrets(&self) -> Vec<SecretString> {
        let values = secret_values(&self.0);
        // DESCARTES_CALLBACK_SECRET may contain several secrets, for rotation.
        let words = self
            .get(CALLBACK_SECRET.variable)
            .and_then(OsStr::to_str)
            .unwrap_or_default();
        // Masks also the part after the prefix `whsec_`, which programs may print alone.
        let without_prefix = words
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("whsec_"));
        let values = values.chain(words.split_whitespace()).chain(without_prefix);
        let mut secrets = long_enough_to_mask(values);
        let variables_of = |setting: &'static Setting| {
            let short_name = setting.short_name.into_iter();
            short_name.chain([setting.variable])
        };
        let url_variables = URL_SETTINGS.into_iter().flat_map(variables_of);
        for name in COLLECTOR_URL_VARIABLES.into_iter().chain(url_variables) {
            secrets.extend(query_secrets(&self.text(name).unwrap_or_default()));
        }
        for name in COLLECTOR_HEADER_VARIABLES {
            let headers = header_secrets(&self.text(name).unwrap_or_default());
            secrets.extend(long_enough_to_mask(headers.iter().map(String::as_str)));
        }
        secrets
    }

    /// The commit that this worker was built from, if its image names one.
    pub fn revision(&self) -> Option<String> {
        self.text(REVISION_VARIABLE)
    }

    /// The facts about this machine in Fly's variables, if it runs on Fly.
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

    /// Warnings about variables that look like settings but are not: a typing error, or a setting of a newer
    /// version.
    pub fn unknown_settings(&self) -> Vec<String> {
        let known = || {
            WORKER_SETTINGS
                .iter()
                .copied()
                .chain(DISPATCH_SETTINGS)
                .chain([&LISTEN, &NEW_SESSION, &STOP_AT_END_OF_STDIN, &TASK_LOCK])
                .map(|setting: &Setting| setting.variable)
        };
        let names = self.0.iter().filter_map(|(name, _)| name.to_str());
        let unknown = names.filter(|name| {
            name.starts_with("DESCARTES_")
                && *name != REVISION_VARIABLE
                && !known().any(|known| known == *name)
        });
        unknown
            .map(|name| {
                let closest = known().min_by_key(|known| strsim::levenshtein(name, known));
                // Allows one typing error per three letters, and at most three, so that `FOO` does not suggest `TAG`.
                let max_errors = ((name.len() - "DESCARTES_".len()) / 3).min(3);
                let hint = closest
                    .filter(|known| strsim::levenshtein(name, known) <= max_errors)
                    .map(|known| format!("; did you mean {known}?"));
                format!("{name} is not a known setting{}", hint.unwrap_or_default())
            })
            .collect()
    }
}

/// The values of all variables in `variables` whose names say that they are secret.
pub fn secrets(variables: &Variables) -> Vec<SecretString> {
    long_enough_to_mask(secret_values(variables))
}

fn secret_values(variables: &Variables) -> impl Iterator<Item = &str> {
    let secret = |(name, _): &&(OsString, OsString)| is_secret(&name.to_string_lossy());
    let secret = variables.iter().filter(secret);
    secret.filter_map(|(_, value)| value.to_str())
}

/// Drops the values that are shorter than [`MIN_SECRET_LENGTH`].
fn long_enough_to_mask<'a>(values: impl Iterator<Item = &'a str>) -> Vec<SecretString> {
    values
        .filter(|value| value.len() >= MIN_SECRET_LENGTH)
        .map(SecretString::from)
        .collect()
}
