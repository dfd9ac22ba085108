//! How the model's service is reached, and with which credential.
//!
//! [`Access::variables`] is the only place that turns these credentials into environment variables
//! for an agent.

use std::ffi::OsString;

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use crate::environment::{Variables, variable};

/// What an agent needs to reach its model. The checks get none of it.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The base of the service's URLs as the user wrote it; Anthropic's service if it is `None`.
    pub base_url: Option<OsString>,
    pub api_key: Option<SecretString>,
    /// A bearer token, instead of the API key or next to it.
    pub auth_token: Option<SecretString>,
    /// The token of a Claude subscription, which only Claude Code may use.
    pub oauth_token: Option<SecretString>,
}

impl Access {
    /// Whether requests to the Messages API can be authenticated.
    pub fn has_key(&self) -> bool {
        self.api_key.is_some() || self.auth_token.is_some()
    }

    /// The environment variables from which agents read these values.
    pub fn variables(&self) -> Variables {
        let secrets = [
            ("ANTHROPIC_API_KEY", &self.api_key),
            ("ANTHROPIC_AUTH_TOKEN", &self.auth_token),
            ("CLAUDE_CODE_OAUTH_TOKEN", &self.oauth_token),
        ];
        let secrets = secrets
            .into_iter()
            .filter_map(|(name, secret)| Some(variable(name, secret.as_ref()?.expose_secret())));
        let base_url = self.base_url.as_ref();
        let base_url = base_url.map(|url| variable("ANTHROPIC_BASE_URL", url));
        secrets.chain(base_url).collect()
    }
}

/// The base URL of Anthropic's own service.
///
/// # Panics
/// Never: the URL is a valid constant.
pub fn anthropic() -> Url {
    Url::parse("https://api.anthropic.com").expect("a valid URL")
}
