//! Environment variables for a child process.
//!
//! Only `config` reads the environment of this process.

use std::ffi::{OsStr, OsString};

/// Names and values of environment variables, in order.
pub type Variables = Vec<(OsString, OsString)>;

/// One variable.
pub fn variable(name: &str, value: impl AsRef<OsStr>) -> (OsString, OsString) {
    (name.into(), value.as_ref().to_owned())
}

/// The value of the first variable with this name.
pub fn value_of<'a>(variables: &'a Variables, name: &str) -> Option<&'a OsStr> {
    let found = variables.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_os_str())
}
