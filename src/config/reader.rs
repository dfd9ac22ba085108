//! Finds the value of each setting and collects all mistakes.
//!
//! The flag comes first, then the short name of the variable (`TASK_ID`), then the full name
//! (`DESCARTES_TASK_ID`); an empty value counts as unset. `values` parses the values.

use std::ffi::{OsStr, OsString};
use std::fmt;

use clap::ArgMatches;
use clap::parser::ValueSource;
use secrecy::SecretString;

use super::environment::{Environment, URL_SETTINGS, query_secrets};
use super::settings::{RUST_LOG, Setting, WORKER_SETTINGS};
use crate::check::{SettingOrigin, SettingSource};
use crate::redact::Redactor;

/// A mistake in one setting: the name of its flag or variable, and a message that completes a sentence about its value.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    name: String,
    message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

/// Reads settings and collects all problems, so that they are reported at once.
pub struct Reader<'a> {
    flags: &'a ArgMatches,
    pub environment: Environment,
    pub warnings: Vec<String>,
    /// The secrets in the file of `DESCARTES_AGENT_ENV_FILE`.
    pub secrets_of_file: Vec<SecretString>,
    problems: Vec<Problem>,
}

/// The value of a setting, as text, and its source.
struct FoundValue {
    /// The flag or the variable with this value.
    name: String,
    source: SettingSource,
    value: OsString,
}

impl<'a> Reader<'a> {
    pub fn new(flags: &'a ArgMatches, variables: Vec<(OsString, OsString)>) -> Self {
        Self {
            flags,
            environment: Environment::new(variables),
            warnings: Vec::new(),
            secrets_of_file: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Returns `result`, or all problems if there are any.
    pub fn finish<T>(self, result: T) -> Result<T, Vec<Problem>> {
        if self.problems.is_empty() {
            Ok(result)
        } else {
            Err(self.problems)
        }
    }

    /// All secrets that are known so far: those in the environment, in the queries of URLs that flags set, and in the
    /// file of `DESCARTES_AGENT_ENV_FILE`.
    pub fn secrets(&self) -> Vec<SecretString> {
        let mut secrets = self.environment.secrets();
        let urls = URL_SETTINGS
            .into_iter()
            .filter_map(|setting| self.flag_value(setting));
        secrets.extend(urls.flat_map(|url| query_secrets(&url.to_string_lossy())));
        secrets.extend(self.secrets_of_file.iter().cloned());
        secrets
    }

    /// The value of a setting without a default; `None` if it is unset or invalid.
    pub fn optional<T>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let FoundValue { name, value, .. } = self.find(setting)?;
        let parsed = match value.to_str() {
            None => Err("is not UTF-8".to_owned()),
            Some(text) => parse(text).map_err(|error| {
                // Settings without a flag can be secrets, so their values are not shown, not even invalid ones.
                let shown = if setting.flag.is_some() {
                    format!("{text:?} ")
                } else {
                    String::new()
                };
                Redactor::new(&self.secrets()).mask(&format!("{shown}{error}"))
            }),
        };
        parsed
            .map_err(|message| self.problems.push(Problem { name, message }))
            .ok()
    }

    /// The value of a setting that is read elsewhere too, so that its mistakes are recorded there; `None` if it is unset or
    /// invalid.
    pub fn valid<T>(
        &self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        parse(self.find(setting)?.value.to_str()?).ok()
    }

    /// The value of a setting, or its default. If the value is invalid, the problem is recorded and the default is
    /// returned, so that the other settings are read too.
    pub fn with_default<T>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let default = || {
            let default = setting.default.expect("the table has a default");
            parse(default).expect("the table's defaults are valid")
        };
        self.optional(setting, &parse).unwrap_or_else(default)
    }

    /// The value of a required setting. If it is missing or invalid, the problem is recorded and a placeholder is
    /// returned, so that the other settings are read too.
    pub fn required<T: Placeholder>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        if !self.is_set(setting) {
            let message = format!("is missing; {}", decapitalize(setting.help));
            self.problems.push(Problem {
                name: setting.name().to_owned(),
                message,
            });
        }
        self.optional(setting, parse).unwrap_or_else(T::placeholder)
    }

    /// The value of a setting that other programs define too. An invalid value only produces a warning.
    pub fn optional_or_warn<T>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let problems_before = self.problems.len();
        let value = self.optional(setting, parse);
        self.warnings.extend(
            self.problems
                .drain(problems_before..)
                .map(|problem| problem.to_string()),
        );
        value
    }

    /// Records a problem with a setting that its value alone does not show, for example a conflict with another
    /// setting.
    pub fn reject(&mut self, setting: &Setting, message: &str) {
        self.problems.push(Problem {
            name: setting.name().to_owned(),
            message: message.to_owned(),
        });
    }

    /// Records a problem with a flag that is not in the table of settings.
    pub fn reject_flag(&mut self, flag: &str, message: &str) {
        self.problems.push(Problem {
            name: format!("--{flag}"),
            message: message.to_owned(),
        });
    }

    /// Whether a flag or a variable sets this setting.
    pub fn is_set(&self, setting: &Setting) -> bool {
        self.find(setting).is_some()
    }

    /// The variables that are equivalent to the flags of the command line.
    pub fn flags_as_variables(&self) -> Vec<(&'static str, OsString)> {
        WORKER_SETTINGS
            .iter()
            .filter_map(|setting| {
                let value = self
                    .flag_value(setting)
                    .or_else(|| self.verbosity_filter(setting));
                Some((setting.name(), value?.to_owned()))
            })
            .collect()
    }

    /// Where the value of each setting of a worker comes from. Values of settings without a flag are not shown: most of
    /// them are secrets.
    pub fn origins(&self) -> Vec<SettingOrigin> {
        let origin = |setting: &&Setting| {
            let found = self.find(setting);
            let default = || setting.default.or(setting.when_unset).map(str::to_owned);
            let value = |found: &FoundValue| {
                let is_shown = setting.flag.is_some();
                is_shown.then(|| found.value.to_string_lossy().into_owned())
            };
            SettingOrigin {
                name: setting.name(),
                value: found.as_ref().map_or_else(default, value),
                source: found
                    .as_ref()
                    .map_or(SettingSource::Default, |found| found.source),
                from: found.map(|found| found.name),
            }
        };
        WORKER_SETTINGS.iter().map(origin).collect()
    }

    /// The value of the flag, else of the variable with the short name, else of the variable with the full name.
    fn find(&self, setting: &Setting) -> Option<FoundValue> {
        if let Some(value) = self.flag_value(setting) {
            let name = format!("--{}", setting.flag?);
            return Some(FoundValue {
                name,
                source: SettingSource::Flag,
                value: value.to_owned(),
            });
        }
        if let Some(filter) = self.verbosity_filter(setting) {
            return Some(FoundValue {
                name: "-v or -q".to_owned(),
                source: SettingSource::Flag,
                value: filter.to_owned(),
            });
        }
        let names = setting.short_name.into_iter().chain([setting.variable]);
        let mut found = names.filter_map(|name| {
            let value = self.environment.get(name)?;
            Some(FoundValue {
                name: name.to_owned(),
                source: SettingSource::Variable,
                value: value.to_owned(),
            })
        });
        found.next()
    }

    /// The log filter that `-v` and `-q` stand for; `None` for every setting but the log filter.
    fn verbosity_filter(&self, setting: &Setting) -> Option<&'static OsStr> {
        if setting.variable != RUST_LOG.variable {
            return None;
        }
        let count = |name| {
            let count = self.flags.try_get_one::<u8>(name);
            count.ok().flatten().copied().unwrap_or(0)
        };
        let filter = match (count("verbose"), count("quiet")) {
            (0, 0) => return None,
            (0, 1) => "warn",
            (0, _) => "error",
            (1, _) => "info,descartes_worker=debug",
            (2, _) => "debug",
            (_, _) => "trace",
        };
        Some(OsStr::new(filter))
    }

    /// The value of a setting's flag, if the command line has it.
    fn flag_value(&self, setting: &Setting) -> Option<&OsStr> {
        let flag = setting.flag?;
        let value = self.flags.try_get_one::<OsString>(flag).ok()??;
        let is_from_command_line = self.flags.value_source(flag) == Some(ValueSource::CommandLine);
        (is_from_command_line && !value.is_empty()).then_some(value.as_os_str())
    }
}

/// A type with a value that stands for an invalid setting while the other settings are read. The value is never used.
pub trait Placeholder {
    fn placeholder() -> Self;
}

impl Placeholder for String {
    fn placeholder() -> Self {
        Self::new()
    }
}

impl Placeholder for reqwest::Url {
    fn placeholder() -> Self {
        Self::parse("http://placeholder.invalid").expect("a valid URL")
    }
}

fn decapitalize(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}
