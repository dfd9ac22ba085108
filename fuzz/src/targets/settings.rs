//! SCUD's `config.toml` and agent definitions.

use std::fs;

use super::project;

/// The input is the text of both files, and also the name of an agent.
pub fn settings(data: &[u8]) {
    let (dir, project) = project();
    fs::write(dir.join(".scud/config.toml"), data).expect("the settings are written");
    fs::write(dir.join(".scud/agents/x.toml"), data).expect("the definition is written");
    match project.checks() {
        Ok(checks) => assert!(!checks.timeout.is_zero()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match project.agent("x") {
        Ok(definition) => assert!(definition.is_some()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(name) = std::str::from_utf8(data) {
        // The files of this target are the only ones below this project.
        if let Ok(Some(_)) = project.agent(name) {
            assert_eq!(name, "x");
        }
    }
}
