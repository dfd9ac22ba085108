//! The clean filters that the agent's git has configured, and other configuration that staging needs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::records::Records;
use super::staging_repository::StagingRepository;
use crate::git::{Git, GitError};

/// The filters and the other settings that the agent's git has configured.
#[derive(Debug)]
pub struct Filters {
    /// The names of the configured filters.
    names: BTreeSet<String>,
    /// Configuration for `git add`, as keys and values: if a filter fails, git must not stage the plain text.
    pub overrides: Vec<(String, String)>,
    /// Whether the working tree is a sparse checkout.
    pub is_sparse: bool,
    /// The value of `lfs.storage`, if it is set.
    pub lfs_storage: Option<PathBuf>,
}

impl Filters {
    /// Reads the agent's git configuration.
    pub async fn read(git: &Git<'_>, repository: &StagingRepository<'_>) -> Result<Self, GitError> {
        let expression = "^(filter\\..*\\.(clean|process)|core\\.sparsecheckout|lfs\\.storage)$";
        let call = repository.call(["config", "--null", "--get-regexp", expression]);
        let (mut records, mut names) = (Records::new(0), BTreeSet::new());
        let (mut is_sparse, mut lfs_storage) = (false, None);
        let mut on_output = |bytes: &[u8]| {
            records.push(bytes, |record| {
                // The key, a line feed, the value.
                let text = String::from_utf8_lossy(record);
                let (key, value) = text.split_once('\n').unwrap_or((&text, ""));
                if key == "core.sparsecheckout" {
                    is_sparse = matches!(value, "true" | "yes" | "on" | "1");
                }
                if key == "lfs.storage" {
                    lfs_storage = (!value.is_empty()).then(|| value.into());
                }
                let name = key.strip_prefix("filter.");
                if let Some((name, _)) = name.and_then(|name| name.rsplit_once('.'))
                    && !value.is_empty()
                {
                    names.insert(name.to_owned());
                }
            });
        };
        match git.stream(call, &mut on_output).await {
            // Exit code 1: nothing matches.
            Err(error) if error.exit_code != Some(1) => return Err(error),
            _ => {}
        }
        let overrides = names
            .iter()
            .map(|name| (format!("filter.{name}.required"), "true".to_owned()));
        Ok(Self {
            overrides: overrides.collect(),
            names,
            is_sparse,
            lfs_storage,
        })
    }

    /// Whether an attribute's value names a filter.
    pub fn names_filter(attribute: &str) -> bool {
        !matches!(attribute, "unspecified" | "unset" | "set" | "")
    }

    /// Whether an attribute's value names a filter that is not configured.
    pub fn is_missing(&self, attribute: &str) -> bool {
        Self::names_filter(attribute) && !self.names.contains(attribute)
    }

    /// Configuration that turns a filter off.
    pub fn configuration_without(name: &str) -> [(String, String); 4] {
        let values = [
            ("required", "false"),
            ("clean", ""),
            ("smudge", ""),
            ("process", ""),
        ];
        values.map(|(key, value)| (format!("filter.{name}.{key}"), value.to_owned()))
    }

    /// Turns off the filter that failed, according to the error of `git add`. From then on the filter counts as not
    /// configured. Returns whether the error names a configured filter.
    pub fn disable_failed(&mut self, words: &str) -> bool {
        let name = words.lines().find_map(|line| {
            let line = line.strip_prefix("fatal: ")?.strip_suffix("' failed")?;
            Some(line.rsplit_once(": clean filter '")?.1.to_owned())
        });
        let Some(name) = name.filter(|name| self.names.remove(name)) else {
            return false;
        };
        self.overrides.extend(Self::configuration_without(&name));
        true
    }
}
