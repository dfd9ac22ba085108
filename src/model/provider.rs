//! The services that offer models: one row for each in [`PROVIDERS`].

/// A provider of models: its service, and the variables that set the service's URL and credentials.
#[derive(Debug, PartialEq, Eq)]
pub struct Provider {
    /// The provider's name, for people and in the messages between the worker and the model gateway.
    pub name: &'static str,
    /// The base URL of the provider's own service.
    pub own_base_url: &'static str,
    pub api: Api,
    /// The header that carries an API key. A token is always a bearer token.
    pub key_header: KeyHeader,
    /// The text that replaces the real key in the agent's environment. It has the format of a key, but gives no access.
    pub placeholder: &'static str,
    /// The variable of the key.
    pub key_variable: &'static str,
    /// The variable of a bearer token, if the service has such tokens in addition to keys.
    pub token_variable: Option<&'static str>,
    /// The variable of the base URL.
    pub base_url_variable: &'static str,
    /// Other variables from which some agents read the key or the base URL, each with its value.
    pub aliases: &'static [(&'static str, Alias)],
    pub version: VersionSegment,
    /// The requests that the model gateway forwards.
    pub routes: &'static [Route],
}

/// The format of a service's errors, and of the numbers of tokens in its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    Anthropic,
    /// The Responses and the Chat Completions API.
    OpenAi,
}

/// The header with which a key is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyHeader {
    XApiKey,
    Bearer,
}

/// The value of a variable in [`Provider::aliases`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alias {
    Key,
    BaseUrl,
}

/// Whether clients or the base URL add the segment `/v1` to paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionSegment {
    /// Clients append `/v1` to the base URL, unless the base URL already ends with `/v1`.
    IsAppended,
    /// The base URL ends with `/v1`. The base URL of another service may end with `/v4`, or have no version.
    BelongsToBaseUrl,
}

/// A request that the model gateway forwards.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    pub methods: &'static [&'static str],
    /// The path after `/v1`. A `*` at the end stands for one more segment.
    pub path: &'static str,
    pub price: RoutePrice,
}

/// Whether a request costs tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoutePrice {
    Free,
    Tokens,
}

/// All providers.
pub static PROVIDERS: [&Provider; 2] = [&ANTHROPIC, &OPENAI];

pub static ANTHROPIC: Provider = Provider {
    name: "anthropic",
    own_base_url: "https://api.anthropic.com",
    api: Api::Anthropic,
    key_header: KeyHeader::XApiKey,
    placeholder: "sk-ant-api03-placeholder-of-descartes-worker-the-model-gateway-has-the-real-key-0000000000000000000000000000-00000000AA",
    key_variable: "ANTHROPIC_API_KEY",
    token_variable: Some("ANTHROPIC_AUTH_TOKEN"),
    base_url_variable: "ANTHROPIC_BASE_URL",
    aliases: &[],
    version: VersionSegment::IsAppended,
    routes: &[
        costs_tokens("/messages"),
        free(&["POST"], "/messages/count_tokens"),
        free(&["GET", "HEAD"], "/models"),
        free(&["GET", "HEAD"], "/models/*"),
    ],
};

pub static OPENAI: Provider = Provider {
    name: "openai",
    own_base_url: "https://api.openai.com/v1",
    api: Api::OpenAi,
    key_header: KeyHeader::Bearer,
    placeholder: "sk-proj-placeholder-of-descartes-worker-the-model-gateway-has-the-real-key-000000000000",
    key_variable: "OPENAI_API_KEY",
    token_variable: None,
    base_url_variable: "OPENAI_BASE_URL",
    // For codex, and for programs that use LiteLLM.
    aliases: &[
        ("CODEX_API_KEY", Alias::Key),
        ("OPENAI_API_BASE", Alias::BaseUrl),
    ],
    version: VersionSegment::BelongsToBaseUrl,
    routes: &[
        costs_tokens("/responses"),
        costs_tokens("/responses/compact"),
        costs_tokens("/chat/completions"),
        free(&["GET", "HEAD"], "/models"),
        free(&["GET", "HEAD"], "/models/*"),
    ],
};

/// A route whose requests cost tokens.
const fn costs_tokens(path: &'static str) -> Route {
    Route {
        methods: &["POST"],
        path,
        price: RoutePrice::Tokens,
    }
}

/// A route whose requests cost nothing.
const fn free(methods: &'static [&'static str], path: &'static str) -> Route {
    Route {
        methods,
        path,
        price: RoutePrice::Free,
    }
}

impl Provider {
    /// The provider with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PROVIDERS.into_iter().find(|provider| provider.name == name)
    }
}
