//! The settings of agents: their environment, their model, and their access to the model's service.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::Reader;
use super::{environment, settings, values};
use crate::builtin;
use crate::environment::{Variables, VariablesFile, value_of};
use crate::gateway;
use crate::model::{self, ANTHROPIC, DEFAULT_MODEL, OPENAI, ServiceAccess};
use crate::runner;
use crate::runner::agent::RootStatus;

/// The worker's variables that the agent and the checks get, and the file with further ones.
pub fn agent_environment(reader: &mut Reader) -> (Variables, Option<VariablesFile>) {
    let names = reader
        .optional(&settings::AGENT_ENV, values::names)
        .unwrap_or_default();
    let mode = reader.with_default(&settings::MODEL_GATEWAY, values::model_gateway);
    // The agent and the checks do not get the keys that only the model gateway uses.
    let is_for_gateway =
        |name: &String| mode == gateway::Mode::Auto && settings::is_model_key(name);
    let names: Vec<String> = names
        .into_iter()
        .filter(|name| !is_for_gateway(name))
        .collect();
    let base = reader.environment.for_agent(&names);
    let file = reader.optional(&settings::AGENT_ENV_FILE, |path| {
        values::variables_file(path, &names, &base)
    });
    if let Some(file) = &file {
        reader
            .secrets_of_file
            .extend(environment::secrets(&file.variables));
    }
    (base, file)
}

/// The settings of the agent; `base` is its environment without the variables of the file.
pub fn agent_settings(
    reader: &mut Reader,
    base: &Variables,
    variables_file: Option<&VariablesFile>,
    idle_timeout: Option<Duration>,
) -> runner::agent::Settings {
    let environment = variables_file.map_or_else(|| base.clone(), |file| file.merged_over(base));
    runner::agent::Settings {
        kind: reader.with_default(&settings::AGENT, values::agent_kind),
        command: reader.optional(&settings::AGENT_COMMAND, values::text),
        model: reader.optional(&settings::MODEL, values::line),
        limits: model::Limits {
            tokens: reader.optional(&settings::MAX_TOKENS, values::tokens),
            ..turn_and_cost_limits(reader)
        },
        model_access: model_access(reader),
        gateway: gateway::Settings {
            mode: reader.with_default(&settings::MODEL_GATEWAY, values::model_gateway),
            proxies: reader.environment.proxy_variables(&["HTTP_PROXY"]),
        },
        path: value_of(&environment, "PATH")
            .unwrap_or_default()
            .to_owned(),
        root_status: root_status(&environment),
        idle_timeout,
    }
}

/// How agents reach their model. The base URL is validated here and passed on unchanged.
fn model_access(reader: &mut Reader) -> model::Access {
    let mut base_url = |setting: &'static settings::Setting| {
        reader.optional(setting, values::service_url);
        let text = reader.environment.get(setting.name());
        text.map(OsStr::to_owned)
    };
    let urls = [
        base_url(&settings::ANTHROPIC_BASE_URL),
        base_url(&settings::OPENAI_BASE_URL),
    ];
    let [anthropic_url, openai_url] = urls;
    model::Access {
        services: vec![
            ServiceAccess {
                provider: &ANTHROPIC,
                base_url: anthropic_url,
                api_key: reader.optional(&settings::ANTHROPIC_API_KEY, values::token),
                auth_token: reader.optional(&settings::ANTHROPIC_AUTH_TOKEN, values::token),
                is_behind_gateway: false,
            },
            ServiceAccess {
                provider: &OPENAI,
                base_url: openai_url,
                api_key: reader.optional(&settings::OPENAI_API_KEY, values::token),
                auth_token: None,
                is_behind_gateway: false,
            },
        ],
        oauth_token: reader.optional(&settings::CLAUDE_CODE_OAUTH_TOKEN, values::token),
    }
}

/// The limits of turns and dollars, which agents enforce themselves. The limit of tokens is left out, because only the
/// model gateway enforces it.
fn turn_and_cost_limits(reader: &mut Reader) -> model::Limits {
    model::Limits {
        turns: reader.optional(&settings::MAX_TURNS, values::positive_count),
        usd: reader.optional(&settings::MAX_BUDGET_USD, values::dollars),
        tokens: None,
    }
}

/// The worker's user, for Claude Code, which rejects root unless the machine is declared a sandbox.
fn root_status(environment: &Variables) -> RootStatus {
    if !rustix::process::geteuid().is_root() {
        RootStatus::NotRoot
    } else if value_of(environment, settings::IS_SANDBOX.variable) == Some(OsStr::new("1")) {
        RootStatus::RootInSandbox
    } else {
        RootStatus::Root
    }
}

/// The settings of the built-in agent. The worker that starts it passes them as variables of its environment.
pub fn builtin_agent_settings(reader: &mut Reader, flags: &clap::ArgMatches) -> builtin::Settings {
    let key = reader.optional(&settings::ANTHROPIC_API_KEY, values::token);
    let token = reader.optional(&settings::ANTHROPIC_AUTH_TOKEN, values::token);
    // The variables of the file are for the agent's tools; the built-in agent itself does not use them.
    let mut tools = reader.environment.for_tools();
    if let (_, Some(file)) = agent_environment(reader) {
        tools = file.merged_over(&tools);
    }
    builtin::Settings {
        service: builtin::ServiceSettings {
            url: reader
                .optional(&settings::ANTHROPIC_BASE_URL, values::service_url)
                .unwrap_or_else(|| model::service_url(&ANTHROPIC)),
            key,
            token,
            authorities: reader.environment.get("SSL_CERT_FILE").map(PathBuf::from),
            idle_timeout: reader.with_default(&settings::IDLE_TIMEOUT, values::duration_or_off),
        },
        model: reader
            .optional(&settings::MODEL, values::line)
            .unwrap_or_else(|| DEFAULT_MODEL.to_owned()),
        limits: turn_and_cost_limits(reader),
        session: flags.get_one::<PathBuf>("session").cloned(),
        path: value_of(&tools, "PATH").unwrap_or_default().to_owned(),
        environment: tools,
    }
}
