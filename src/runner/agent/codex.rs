//! The configuration with which codex uses the model gateway. The gateway has no websockets, and only codex's
//! configuration file can turn them off.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use crate::environment::{Variables, value_of, variable};
use crate::isolation::User;
use crate::model::{Access, OPENAI};

/// The variable with the directory of codex's configuration.
const HOME_VARIABLE: &str = "CODEX_HOME";

/// Writes a configuration for codex, if the gateway holds the key of `OPENAI_API_KEY` and the user has no configuration
/// of codex. Returns the variable `CODEX_HOME` with its value.
pub fn configuration(
    state_dir: &Path,
    user: Option<&User>,
    environment: &Variables,
    access: &Access,
) -> Option<(OsString, OsString)> {
    let url = access.gateway_url(&OPENAI)?.to_str()?;
    let home = value_of(environment, "HOME").map(Path::new);
    let has_user_configuration = home.is_some_and(|home| home.join(".codex").exists());
    if has_user_configuration || value_of(environment, HOME_VARIABLE).is_some() {
        return None;
    }
    let dir = state_dir.join("codex");
    if let Err(error) = write(&dir, user, &configuration_text(url)) {
        tracing::warn!(%error, "the configuration for codex cannot be written");
        return None;
    }
    Some(variable(HOME_VARIABLE, dir))
}

/// Writes the file, and makes it the property of the agent's user. If the agent has a separate user, a later round does
/// not write the file again: the agent could have put links there, and root would follow them.
fn write(dir: &Path, user: Option<&User>, text: &str) -> io::Result<()> {
    if user.is_some() && fs::symlink_metadata(dir).is_ok() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    fs::write(dir.join("config.toml"), text)?;
    user.map_or(Ok(()), |user| user.become_owner_of_all(dir))
}

/// The text of the configuration file. The gateway's URL needs no quoting: it has letters, digits, slashes, colons and
/// dots.
fn configuration_text(url: &str) -> String {
    format!(
        "# Written by descartes-worker: codex uses the model gateway, over HTTP.\n\
         model_provider = \"gateway\"\n\n\
         [model_providers.gateway]\n\
         name = \"the model gateway\"\n\
         base_url = \"{url}\"\n\
         env_key = \"{}\"\n\
         wire_api = \"responses\"\n\
         supports_websockets = false\n",
        OPENAI.key_variable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_toml_and_names_the_gateway() {
        let table: toml::Table = configuration_text("http://127.0.0.1:1/abc")
            .parse()
            .unwrap();
        let provider = &table["model_providers"]["gateway"];
        assert_eq!(
            provider["base_url"].as_str(),
            Some("http://127.0.0.1:1/abc")
        );
        assert_eq!(provider["supports_websockets"].as_bool(), Some(false));
    }
}
