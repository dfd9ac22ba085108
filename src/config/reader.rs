//! Finds each setting's value and collects what is wrong with any of them.
//!
//! The flag wins, then the bare name, then the prefixed one; an empty value is an unset one.
//! What the values mean is `values`' business.

use std::ffi::{OsStr, OsString};
use std::fmt;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::environment::Environment;
use super::settings::{Setting, WORKER};
use crate::redact::Redactor;

/// One setting that is wrong: its name, its value, what would be right.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    name: String,
    what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.what)
    }
}

/// Reads settings; remembers every problem, so that all can be told at once.
pub struct Reader<'a> {
    flags: &'a ArgMatches,
    pub environment: Environment,
    pub warnings: Vec<String>,
    problems: Vec<Problem>,
}

/// A value as it was found.
struct Found {
    /// The flag or the variable that it came from.
    name: String,
    value: OsString,
}

impl<'a> Reader<'a> {
    pub fn new(flags: &'a ArgMatches, variables: Vec<(OsString, OsString)>) -> Self {
        Self {
            flags,
            environment: Environment::new(variables),
            warnings: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// The result, if nothing was wrong.
    pub fn finish<T>(self, result: T) -> Result<T, Vec<Problem>> {
        if self.problems.is_empty() {
            Ok(result)
        } else {
            Err(self.problems)
        }
    }

    /// A setting that need not be there.
    pub fn optional<T>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let Found { name, value } = self.find(setting)?;
        let parsed = match value.to_str() {
            None => Err("is not UTF-8".to_owned()),
            Some(text) => parse(text).map_err(|wrong| {
                // Nothing of a secret is shown, not even a wrong one.
                let shown = if setting.flag.is_some() {
                    format!("{text:?} ")
                } else {
                    String::new()
                };
                Redactor::new(&self.environment.secrets()).text(&format!("{shown}{wrong}"))
            }),
        };
        parsed
            .map_err(|what| self.problems.push(Problem { name, what }))
            .ok()
    }

    /// A setting with a default. Where it is wrong, the default stands in so that reading can go
    /// on; the problem is noted and nothing will run.
    pub fn given<T>(&mut self, setting: &Setting, parse: impl Fn(&str) -> Result<T, String>) -> T {
        let default = || {
            let default = setting.default.expect("the table gives a default");
            parse(default).expect("the table's defaults are valid")
        };
        self.optional(setting, &parse).unwrap_or_else(default)
    }

    /// A setting that must be there. Where it is not, or is wrong, `T`'s placeholder stands in so
    /// that reading can go on; the problem is noted and nothing will run.
    pub fn required<T: Placeholder>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        if !self.is_set(setting) {
            let what = format!("is missing; {}", decapitalized(setting.help));
            self.problems.push(Problem {
                name: setting.name().to_owned(),
                what,
            });
        }
        self.optional(setting, parse).unwrap_or_else(T::placeholder)
    }

    /// A setting that other programs define: where it is wrong, that is no reason not to run.
    pub fn tolerated<T>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let known = self.problems.len();
        let value = self.optional(setting, parse);
        self.warnings.extend(
            self.problems
                .drain(known..)
                .map(|problem| problem.to_string()),
        );
        value
    }

    /// Notes a problem that a setting has with another one.
    pub fn reject(&mut self, setting: &Setting, what: &str) {
        self.problems.push(Problem {
            name: setting.name().to_owned(),
            what: what.to_owned(),
        });
    }

    /// Notes a problem with a flag that is not in the table of settings.
    pub fn reject_flag(&mut self, flag: &str, what: &str) {
        self.problems.push(Problem {
            name: format!("--{flag}"),
            what: what.to_owned(),
        });
    }

    pub fn is_set(&self, setting: &Setting) -> bool {
        self.find(setting).is_some()
    }

    /// The worker's settings that were given as flags, as the variables that say the same.
    pub fn flags_as_variables(&self) -> Vec<(&'static str, OsString)> {
        WORKER
            .into_iter()
            .filter_map(|setting| Some((setting.name(), self.flag(setting)?.to_owned())))
            .collect()
    }

    fn find(&self, setting: &Setting) -> Option<Found> {
        if let Some(value) = self.flag(setting) {
            let name = format!("--{}", setting.flag?);
            return Some(Found {
                name,
                value: value.to_owned(),
            });
        }
        let names = setting.bare.into_iter().chain([setting.variable]);
        let mut found = names.filter_map(|name| {
            let value = self.environment.get(name)?;
            Some(Found {
                name: name.to_owned(),
                value: value.to_owned(),
            })
        });
        found.next()
    }

    fn flag(&self, setting: &Setting) -> Option<&OsStr> {
        let flag = setting.flag?;
        let value = self.flags.try_get_one::<OsString>(flag).ok()??;
        let given = self.flags.value_source(flag) == Some(ValueSource::CommandLine);
        (given && !value.is_empty()).then_some(value.as_os_str())
    }
}

/// Something of the type, while the problems of other settings are still being found.
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

fn decapitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}
