//! Environment variables for a child process.
//!
//! Only `config` reads the environment of this process.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Names and values of environment variables, in order.
pub type Variables = Vec<(OsString, OsString)>;

/// Makes one variable.
pub fn variable(name: &str, value: impl AsRef<OsStr>) -> (OsString, OsString) {
    (name.into(), value.as_ref().to_owned())
}

/// The value of the first variable with this name.
pub fn value_of<'a>(variables: &'a Variables, name: &str) -> Option<&'a OsStr> {
    let found = variables.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_os_str())
}

/// Variables from a file, for the agent and the checks. The worker and its own programs don't get them.
#[derive(Debug, Clone)]
pub struct VariablesFile {
    pub path: PathBuf,
    pub variables: Variables,
    /// Names of variables that the settings pass to the agent. If such a variable is set in the worker's environment,
    /// its value is used instead of the file's.
    pub names_from_settings: Vec<String>,
}

impl VariablesFile {
    /// The variables of `base` and of this file. This file's variables replace those with the same name.
    pub fn merged_over(&self, base: &Variables) -> Variables {
        merge(base, self.variables.clone())
    }

    /// Like [`Self::merged_over`], for a program that the worker itself needs, such as git. Leaves out the
    /// file's variables for the dynamic loader: the program might not start with the project's libraries.
    pub fn merged_over_without_loader_variables(&self, base: &Variables) -> Variables {
        let variables = self.variables.iter();
        let others = variables.filter(|(name, _)| !is_for_loader(name));
        merge(base, others.cloned().collect())
    }
}

/// The variables of `base` and `replacements`. A replacement removes the variable of `base` with the same name.
pub fn merge(base: &Variables, replacements: Variables) -> Variables {
    let is_not_replaced =
        |name: &OsString| value_of(&replacements, &name.to_string_lossy()).is_none();
    let mut merged: Variables = base
        .iter()
        .filter(|(name, _)| is_not_replaced(name))
        .cloned()
        .collect();
    merged.extend(replacements);
    merged
}

/// Whether the dynamic loader of Linux or macOS reads this variable: `LD_LIBRARY_PATH`, `LD_PRELOAD` and others.
fn is_for_loader(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("LD_") || name.starts_with("DYLD_")
}
