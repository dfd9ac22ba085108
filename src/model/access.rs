//! The addresses of the models' services, and the credentials for them.
//!
//! [`Access::variables`] is the only place that turns these credentials into environment variables
//! for an agent.

use std::ffi::{OsStr, OsString};

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use super::provider::{ANTHROPIC, Alias, Provider};
use crate::environment::{Variables, variable};

/// The beginning of every token of a Claude subscription.
const SUBSCRIPTION_PREFIX: &str = "sk-ant-oat";

/// The addresses and credentials with which an agent reaches its model. The checks do not get them.
#[derive(Debug, Clone, Default)]
pub struct Access {
    pub services: Vec<ServiceAccess>,
    /// The token of a Claude subscription, which only Claude Code may use.
    pub oauth_token: Option<SecretString>,
}

/// The address of one provider's service, and the credentials for it.
#[derive(Debug, Clone)]
pub struct ServiceAccess {
    pub provider: &'static Provider,
    /// The base URL as the user wrote it; `None` means the provider's own service.
    pub base_url: Option<OsString>,
    pub api_key: Option<SecretString>,
    /// A bearer token, instead of the API key or in addition to it.
    pub auth_token: Option<SecretString>,
    /// Whether the base URL belongs to the model gateway, and the credentials are placeholders.
    pub is_behind_gateway: bool,
}

impl Access {
    /// Whether requests to the Messages API can be authenticated.
    pub fn has_key(&self) -> bool {
        self.service_of(&ANTHROPIC)
            .is_some_and(ServiceAccess::has_key)
    }

    /// Whether the user has set a base URL for the Messages API, instead of Anthropic's own.
    pub fn has_base_url(&self) -> bool {
        let service = self.service_of(&ANTHROPIC);
        service.is_some_and(|service| service.base_url.is_some())
    }

    fn service_of(&self, provider: &Provider) -> Option<&ServiceAccess> {
        let mut services = self.services.iter();
        services.find(|service| service.provider == provider)
    }

    /// The URL of the model gateway for a provider's service, if the gateway has the credentials.
    pub fn gateway_url(&self, provider: &Provider) -> Option<&OsStr> {
        let service = self.service_of(provider)?;
        let url = service.base_url.as_deref();
        url.filter(|_| service.is_behind_gateway)
    }

    /// The environment variables from which agents read the addresses and the credentials.
    pub fn variables(&self) -> Variables {
        let mut variables: Variables = Vec::new();
        for service in &self.services {
            service.add_variables(&mut variables);
        }
        let token = self.oauth_token.as_ref();
        let token = token.map(|token| variable("CLAUDE_CODE_OAUTH_TOKEN", token.expose_secret()));
        variables.extend(token);
        variables
    }
}

impl ServiceAccess {
    /// Whether requests can be authenticated.
    pub fn has_key(&self) -> bool {
        self.api_key.is_some() || self.auth_token.is_some()
    }

    /// Whether the credential belongs to a subscription, which only Claude Code may use.
    pub fn is_subscription(&self) -> bool {
        let credentials = self.api_key.iter().chain(&self.auth_token);
        let mut texts = credentials.map(ExposeSecret::expose_secret);
        self.provider == &ANTHROPIC && texts.any(|text| text.starts_with(SUBSCRIPTION_PREFIX))
    }

    /// The same service at another URL, with placeholders instead of the credentials.
    pub fn behind_gateway(&self, url: &str) -> Self {
        let placeholder = |secret: &Option<SecretString>| {
            let secret = secret.as_ref();
            secret.map(|_| SecretString::from(self.provider.placeholder))
        };
        Self {
            provider: self.provider,
            base_url: Some(url.into()),
            api_key: placeholder(&self.api_key),
            auth_token: placeholder(&self.auth_token),
            is_behind_gateway: true,
        }
    }

    /// Adds the variables for this service.
    fn add_variables(&self, variables: &mut Variables) {
        let provider = self.provider;
        let key = self.api_key.as_ref();
        variables.extend(key.map(|key| variable(provider.key_variable, key.expose_secret())));
        if let (Some(name), Some(token)) = (provider.token_variable, &self.auth_token) {
            variables.push(variable(name, token.expose_secret()));
        }
        let base_url = self.base_url.as_ref();
        variables.extend(base_url.map(|url| variable(provider.base_url_variable, url)));
        if self.is_behind_gateway {
            variables.extend(provider.aliases.iter().filter_map(|(name, alias)| {
                Some(match alias {
                    Alias::Key => variable(name, self.api_key.as_ref()?.expose_secret()),
                    Alias::BaseUrl => variable(name, self.base_url.as_ref()?),
                })
            }));
        }
    }
}

/// The base URL of a provider's own service.
///
/// # Panics
/// Never: the URLs in the table are valid.
pub fn service_url(provider: &Provider) -> Url {
    Url::parse(provider.own_base_url).expect("a test parses all URLs of the table")
}

#[cfg(test)]
mod tests {
    use super::super::provider::{OPENAI, PROVIDERS};
    use super::*;

    #[test]
    fn every_provider_has_a_valid_url_and_a_placeholder_that_can_be_sent() {
        for provider in PROVIDERS {
            assert_eq!(service_url(provider).scheme(), "https");
            assert!(
                provider
                    .placeholder
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic())
            );
            assert_eq!(Provider::named(provider.name), Some(provider));
        }
    }

    #[test]
    fn behind_a_gateway_the_variables_contain_its_url_and_a_placeholder() {
        let access = Access {
            services: vec![
                ServiceAccess {
                    provider: &OPENAI,
                    base_url: None,
                    api_key: Some("sk-real-0123456789".into()),
                    auth_token: None,
                    is_behind_gateway: false,
                }
                .behind_gateway("http://127.0.0.1:1/path"),
            ],
            oauth_token: None,
        };
        assert_eq!(
            access.variables(),
            [
                variable("OPENAI_API_KEY", OPENAI.placeholder),
                variable("OPENAI_BASE_URL", "http://127.0.0.1:1/path"),
                variable("CODEX_API_KEY", OPENAI.placeholder),
                variable("OPENAI_API_BASE", "http://127.0.0.1:1/path"),
            ]
        );
    }

    #[test]
    fn a_subscriptions_token_is_recognised_in_each_field_for_a_credential() {
        let with = |token: &str| ServiceAccess {
            provider: &ANTHROPIC,
            base_url: None,
            api_key: None,
            auth_token: Some(token.into()),
            is_behind_gateway: false,
        };
        assert!(with("sk-ant-oat01-abc").is_subscription());
        assert!(!with("sk-ant-api03-abc").is_subscription());
    }
}
