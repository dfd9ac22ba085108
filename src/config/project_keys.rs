//! The settings in a project's `.descartes.toml`: the known keys, and the values that they may have.
//!
//! The file is part of the project, so everybody who can change the project can change it. It is trusted as much as the
//! project's checks: it may choose how tasks are done, and it may tighten limits. The table of
//! settings says which settings the file may have; every other setting is rejected with its name.

#[cfg(test)]
mod tests;

use super::settings::{self, InProjectFile, NEEDED_BEFORE_THE_PROJECT, Setting, WORKER_SETTINGS};
use super::values;
use crate::descartes_toml::{self, Entry, NEEDS_KEY, Value};
use crate::excerpt::{first_chars, visible};
use crate::redact::names::is_secret;
use crate::runner::project_settings::{FileSource, ProjectSettings};

/// The key of the directory with a sample project, which is not a setting.
pub const SAMPLE_KEY: &str = "sample";
/// The maximum number of mistakes in an error.
const MAX_MISTAKES: usize = 20;
/// The longest key that gets a suggestion, in bytes. Messages show at most this many characters of a key.
const MAX_KEY_LEN: usize = 64;
/// The longest syntax error that is shown, in characters.
const MAX_SYNTAX_ERROR: usize = 300;
/// How much of a value an error shows, in characters.
const MAX_SHOWN_VALUE: usize = 100;
/// The keys of the tables `[[needs]]`. A user may write one outside of such a table by mistake.
const KEYS_OF_NEEDS: [&str; 4] = ["memory", "cpus", "image", "engine"];

/// Reads the text of the file. The settings in `already_set` are validated, but have no effect.
///
/// # Errors
/// The mistakes, each with its line. If there are many, the last text says how many are not listed.
pub fn read(text: &str, already_set: &[&'static str]) -> Result<ProjectSettings, Vec<String>> {
    let entries = descartes_toml::parse(text)
        .map_err(|mistake| vec![visible(&first_chars(&mistake, MAX_SYNTAX_ERROR))])?;
    let mut file = FileReader {
        entries,
        already_set,
        sources: Vec::new(),
        mistakes: Vec::new(),
        unlisted: 0,
    };
    file.reject_keys_that_are_not_allowed();
    let settings = ProjectSettings {
        agent: file
            .optional(&settings::AGENT, values::agent_kind)
            .flatten(),
        agent_command: file.optional(&settings::AGENT_COMMAND, values::text),
        model: file.optional(&settings::MODEL, values::line),
        max_turns: file.optional(&settings::MAX_TURNS, values::positive_count),
        max_budget_usd: file.optional(&settings::MAX_BUDGET_USD, values::dollars),
        max_tokens: file.optional(&settings::MAX_TOKENS, values::tokens),
        task_timeout: file.optional(&settings::TASK_TIMEOUT, values::duration),
        idle_timeout: file
            .optional(&settings::IDLE_TIMEOUT, values::duration_or_off)
            .flatten(),
        checks: file.optional(&settings::CHECKS, values::checks),
        repairs: file.optional(&settings::REPAIRS, values::count),
        sample: file.sample(),
        sources: Vec::new(),
    };
    if file.mistakes.is_empty() {
        Ok(ProjectSettings {
            sources: file.sources,
            ..settings
        })
    } else {
        Err(file.listed_mistakes())
    }
}

/// Reads the settings of one file, and collects the mistakes.
struct FileReader<'a> {
    entries: Vec<Entry>,
    already_set: &'a [&'static str],
    sources: Vec<FileSource>,
    /// The mistakes, each with its line.
    mistakes: Vec<(usize, String)>,
    /// How many mistakes are not in `mistakes`, because there are too many.
    unlisted: usize,
}

impl FileReader<'_> {
    /// Rejects every key that this file may not have.
    fn reject_keys_that_are_not_allowed(&mut self) {
        for Entry { key, line, .. } in &self.entries {
            let setting = WORKER_SETTINGS
                .iter()
                .chain(&settings::DISPATCH_SETTINGS)
                .find(|setting| setting.key() == *key);
            let message = match setting {
                Some(setting) if setting.in_project_file == InProjectFile::Forbidden => {
                    why_not_allowed(setting)
                }
                Some(_) => continue,
                None if key == SAMPLE_KEY => continue,
                // The keys are in the order of their lines, so a mistake in a later key would not be listed.
                None if self.mistakes.len() >= MAX_MISTAKES => {
                    self.unlisted += 1;
                    continue;
                }
                None => unknown_key(key),
            };
            self.mistakes
                .push((*line, format!("{} {message}", shown_key(key))));
        }
    }

    /// The first mistakes in the order of their lines, and how many more there are.
    fn listed_mistakes(mut self) -> Vec<String> {
        self.mistakes.sort_by_key(|(line, _)| *line);
        let unlisted = self.unlisted + self.mistakes.len().saturating_sub(MAX_MISTAKES);
        let listed = self.mistakes.iter().take(MAX_MISTAKES);
        let listed = listed.map(|(line, mistake)| format!("line {line}: {mistake}"));
        let more = (unlisted > 0).then(|| format!("and {unlisted} more"));
        listed.chain(more).collect()
    }

    /// The value of a setting, if the file has it and neither a flag nor a variable sets it.
    fn optional<T>(
        &mut self,
        setting: &'static Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let key = setting.key();
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let line = entry.line;
        let is_set = self.already_set.contains(&setting.variable);
        let parsed = as_variable(setting, &entry.value).and_then(|text| {
            let with_value =
                |why: String| format!("{key} = {:?} {why}", first_chars(&text, MAX_SHOWN_VALUE));
            let value = parse(&text).map_err(with_value)?;
            if !is_set {
                check_limit(setting, &text).map_err(with_value)?;
            }
            Ok((text, value))
        });
        match parsed {
            Err(mistake) => {
                self.mistakes.push((line, mistake));
                None
            }
            Ok(_) if is_set => None,
            Ok((value, parsed)) => {
                self.sources.push(FileSource {
                    variable: setting.name(),
                    value,
                    line,
                });
                Some(parsed)
            }
        }
    }

    /// The directory with a sample project.
    fn sample(&mut self) -> Option<String> {
        let entry = self.entries.iter().find(|entry| entry.key == SAMPLE_KEY)?;
        let is_below = |dir: &str| {
            let mut parts = dir.trim_end_matches('/').split('/');
            parts
                .all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\0'))
        };
        match &entry.value {
            Value::Text(dir) if is_below(dir) => Some(dir.clone()),
            _ => {
                let mistake = "sample must be the path of a directory below this file, for example sample = \"examples/hello\"";
                self.mistakes.push((entry.line, mistake.to_owned()));
                None
            }
        }
    }
}

/// The value as a variable would have it.
fn as_variable(setting: &Setting, value: &Value) -> Result<String, String> {
    let key = setting.key();
    match (setting.in_project_file, value) {
        (InProjectFile::Text | InProjectFile::DurationUpToDefault, Value::Text(text)) => {
            if text.is_empty() {
                return Err(format!("{key} is empty; remove it, or give it a value"));
            }
            Ok(text.clone())
        }
        (InProjectFile::Number | InProjectFile::NumberUpToDefault, Value::Number(text)) => {
            Ok(text.clone())
        }
        (InProjectFile::Texts, Value::Texts(texts)) if texts.is_empty() => Ok("none".to_owned()),
        (InProjectFile::Texts, Value::Texts(texts)) => {
            let is_one_line =
                |text: &&String| !text.trim().is_empty() && !text.contains(['\n', '\r', '\0']);
            match texts.iter().find(|text| !is_one_line(text)) {
                Some(text) => {
                    let text = first_chars(text, MAX_SHOWN_VALUE);
                    Err(format!("{key} has {text:?}, which is not one line"))
                }
                None => Ok(texts.join("\n")),
            }
        }
        (InProjectFile::Texts, _) => Err(format!(
            "{key} must be a list of strings, for example {key} = [\"cargo test\"]"
        )),
        (InProjectFile::Number | InProjectFile::NumberUpToDefault, _) => {
            Err(format!("{key} must be a number, for example {key} = 1"))
        }
        (InProjectFile::DurationUpToDefault, _) => Err(format!(
            "{key} must be a string, for example {key} = \"10m\""
        )),
        (InProjectFile::Text | InProjectFile::Forbidden, _) => {
            Err(format!("{key} must be a string, for example {key} = \"…\""))
        }
    }
}

/// Fails if a limit is above the default, because the claim has reported the default to the orchestrator.
fn check_limit(setting: &Setting, text: &str) -> Result<(), String> {
    let Some(default) = setting.default else {
        return Ok(());
    };
    let name = setting.name();
    let comparison = match setting.in_project_file {
        InProjectFile::DurationUpToDefault => {
            let length = |text: &str| values::duration_or_off(text).ok().flatten();
            match length(text) {
                None => {
                    return Err(format!(
                        "means no limit, which only the operator can choose, with {name}"
                    ));
                }
                Some(duration) if length(default).is_some_and(|default| duration > default) => {
                    "longer"
                }
                Some(_) => return Ok(()),
            }
        }
        InProjectFile::NumberUpToDefault if values::count(text) > values::count(default) => "more",
        _ => return Ok(()),
    };
    Err(format!(
        "is {comparison} than {default}, the default; only the operator can allow more, with {name}"
    ))
}

/// Why a setting is not in the file, and where it is set instead.
fn why_not_allowed(setting: &Setting) -> String {
    let name = setting.name();
    let place = match setting.flag {
        Some(flag) => format!("--{flag} or {name}"),
        None => name.to_owned(),
    };
    if is_secret(name) {
        format!(
            "is a secret, and everybody who can read the project could read it here; set the variable {name}"
        )
    } else if NEEDED_BEFORE_THE_PROJECT
        .iter()
        .any(|needed| needed.variable == setting.variable)
    {
        format!(
            "cannot be set here, because a worker needs it before it has the project; set {place}"
        )
    } else {
        format!("is not for the project to decide; the operator can set {place}")
    }
}

/// A key as messages show it.
fn shown_key(key: &str) -> String {
    first_chars(key, MAX_KEY_LEN).escape_debug().to_string()
}

fn unknown_key(key: &str) -> String {
    if KEYS_OF_NEEDS.contains(&key) {
        return format!(
            "belongs in a table [[{NEEDS_KEY}]], whose other keys say which tasks need it"
        );
    }
    let allowed = |setting: &&&Setting| setting.in_project_file != InProjectFile::Forbidden;
    let keys = WORKER_SETTINGS
        .iter()
        .filter(allowed)
        .map(|setting| setting.key());
    let keys: Vec<String> = keys
        .chain([SAMPLE_KEY, NEEDS_KEY].map(str::to_owned))
        .collect();
    let snake = key.replace('-', "_").to_ascii_lowercase();
    let closest = keys
        .iter()
        .filter(|_| key.len() <= MAX_KEY_LEN)
        .min_by_key(|known| strsim::osa_distance(&snake, known));
    let closest = closest.filter(|known| strsim::osa_distance(&snake, known) <= known.len() / 3);
    match closest {
        Some(known) => format!("is not a known key; did you mean {known}?"),
        None => format!("is not a known key; the keys are {}", keys.join(", ")),
    }
}
