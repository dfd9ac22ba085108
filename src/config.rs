//! Settings from flags and environment, checked all together: the only reader of the environment.
//!
//! [`settings`] is the table of everything that can be set; flags, `--help`, the variables' names
//! and the defaults all come from it. Here the values get their types. Nothing is started, opened
//! or sent: a configuration with a mistake in it has had no effect.

pub mod environment;
mod reader;
pub mod settings;
mod values;

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::builtin;
use crate::callback::{self, credentials::Bearer};
use crate::environment::{Variables, value_of};
use crate::local;
use crate::merge_graph::Versions;
use crate::model::{self, DEFAULT_MODEL};
use crate::redact::Redactor;
use crate::runner;
use crate::runner::agent::Sandbox;
use crate::runner::workspace::{Access, Repository, Source};
use crate::scud::Actionable;
use crate::terminal::Log;
pub use reader::Problem;
use reader::Reader;

/// What the program was asked to do.
#[derive(Debug)]
pub struct Config {
    pub log: Log,
    /// Knows every secret that must never leave.
    pub redactor: Redactor,
    /// What a person should know, though it stops nothing.
    pub warnings: Vec<String>,
    pub command: Command,
}

/// One of the program's lives.
#[derive(Debug)]
pub enum Command {
    Run(Box<Run>),
    Demo(local::Settings),
    Local(local::Settings),
    Receive {
        listen: SocketAddr,
    },
    Check(Box<Run>),
    /// The built-in agent, as the worker's child.
    Agent(Box<builtin::Settings>),
    MergeGraph(Versions),
    Completions {
        shell: clap_complete::Shell,
        cli: Box<clap::Command>,
    },
    Vocabulary {
        cli: Box<clap::Command>,
    },
}

/// One task's worker.
#[derive(Debug)]
pub struct Run {
    pub callback: callback::Settings,
    pub runner: runner::Settings,
    /// What the platform grants between its stop signal and the kill.
    pub stop_window: Duration,
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum Rejected {
    /// clap's own words: a flag that there is not, or the help that was asked for.
    Usage(clap::Error),
    /// The settings that are wrong, all of them.
    Settings(Vec<Problem>),
}

impl Config {
    /// Reads the process's own arguments and environment.
    pub fn from_process() -> Result<Self, Rejected> {
        #[expect(clippy::disallowed_methods, reason = "this is the one reader")]
        let environment = std::env::vars_os().collect();
        Self::read(std::env::args_os().collect(), environment)
    }

    /// Reads the given arguments (the first is the program) and environment.
    fn read(args: Vec<OsString>, environment: Vec<(OsString, OsString)>) -> Result<Self, Rejected> {
        let matches = settings::cli().try_get_matches_from(without_own_path(args));
        let matches = matches.map_err(Rejected::Usage)?;
        let (name, flags) = matches.subcommand().unwrap_or(("", &matches));
        let flags = flags.clone();
        let mut reader = Reader::new(&flags, environment);
        let log = log(&mut reader);
        let command = match name {
            "" => Command::Run(Box::new(run(&mut reader))),
            "check" => Command::Check(Box::new(run(&mut reader))),
            // The sample project's place and task are known when it is made.
            "demo" => Command::Demo(local_settings(&mut reader, PathBuf::new(), String::new())),
            "local" => {
                let project = flags
                    .get_one::<PathBuf>("project")
                    .cloned()
                    .unwrap_or_default();
                let task = reader.required(&settings::TASK_ID, values::line);
                Command::Local(local_settings(&mut reader, project, task))
            }
            "receive" => Command::Receive {
                listen: reader.given(&settings::LISTEN, values::address),
            },
            builtin::COMMAND => Command::Agent(Box::new(agent(&mut reader, &flags))),
            "merge-graph" => {
                let file = |name| flags.get_one::<PathBuf>(name).cloned().unwrap_or_default();
                Command::MergeGraph(Versions {
                    base: file("base"),
                    ours: file("ours"),
                    theirs: file("theirs"),
                })
            }
            "vocabulary" => Command::Vocabulary {
                cli: Box::new(settings::cli()),
            },
            _ => completions(&flags),
        };
        let redactor = Redactor::new(&reader.environment.secrets());
        // The built-in agent's variables are what the worker gave it.
        let mut warnings = match command {
            Command::Agent(_) => Vec::new(),
            _ => reader.environment.unknown_settings(),
        };
        warnings.append(&mut reader.warnings);
        let config = Self {
            log,
            redactor,
            warnings,
            command,
        };
        reader.finish(config).map_err(Rejected::Settings)
    }
}

/// Spawners that replace an image's CMD but not its entrypoint send the program its own path.
fn without_own_path(mut args: Vec<OsString>) -> Vec<OsString> {
    const NAMES: [&str; 2] = ["worker", "descartes-worker"];
    let own = |arg: &OsString| {
        let path = PathBuf::from(arg);
        let name = path.file_name().and_then(|name| name.to_str());
        Some(arg) == args.first()
            || path.is_absolute() && name.is_some_and(|name| NAMES.contains(&name))
    };
    if args.get(1).is_some_and(own) {
        args.remove(1);
    }
    args
}

fn log(reader: &mut Reader) -> Log {
    Log {
        filter: reader.given(&settings::RUST_LOG, values::log_filter),
        format: reader.given(&settings::LOG_FORMAT, values::log_format),
    }
}

fn run(reader: &mut Reader) -> Run {
    let task_id = reader.required(&settings::TASK_ID, values::line);
    let project_id = reader.required(&settings::PROJECT_ID, values::line);
    let run_id = reader
        .optional(&settings::RUN_ID, values::line)
        .unwrap_or_else(random_run_id);
    let mut callback = callback(reader, task_id.clone(), project_id.clone(), run_id.clone());
    let runner = runner(reader, task_id, project_id, run_id);
    callback.identity.agent = runner::agent::chosen(&runner.agent).map(|kind| kind.word);
    Run {
        callback,
        runner,
        stop_window: reader.given(&settings::STOP_WINDOW, values::duration),
    }
}

fn callback(
    reader: &mut Reader,
    task_id: String,
    project_id: String,
    run_id: String,
) -> callback::Settings {
    callback::Settings {
        url: reader.required(&settings::CALLBACK_URL, values::callback_url),
        request_timeout: reader.given(&settings::CALLBACK_TIMEOUT, values::duration),
        claim_deadline: reader.given(&settings::CLAIM_DEADLINE, values::duration),
        finish_deadline: reader.given(&settings::FINISH_DEADLINE, values::duration),
        heartbeat: reader.given(&settings::HEARTBEAT, values::duration_or_off),
        credentials: credentials(reader),
        authorities: reader.environment.get("SSL_CERT_FILE").map(PathBuf::from),
        identity: callback::Identity {
            task_id,
            project_id,
            run_id,
            // Known when the agent's settings are.
            agent: None,
            hostname: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            revision: reader.environment.revision(),
            machine: reader.environment.machine(),
        },
    }
}

fn credentials(reader: &mut Reader) -> callback::credentials::Settings {
    let token = reader.optional(&settings::CALLBACK_TOKEN, values::token);
    let audience = reader.optional(&settings::CALLBACK_OIDC_AUDIENCE, values::line);
    let socket = reader.given(&settings::CALLBACK_OIDC_SOCKET, values::path);
    if token.is_some() && audience.is_some() {
        reader.reject(&settings::CALLBACK_OIDC_AUDIENCE, "is set beside DESCARTES_CALLBACK_TOKEN; there is one bearer token, so unset one of the two");
    }
    let identity = audience.map(|audience| Bearer::Identity { audience, socket });
    let traceparent = reader.tolerated(&settings::TRACEPARENT, values::traceparent);
    callback::credentials::Settings {
        signing: reader
            .optional(&settings::CALLBACK_SECRET, values::signing_keys)
            .unwrap_or_default(),
        bearer: token.map(Bearer::Token).or(identity),
        traceparent,
    }
}

/// Different for every run, on machines cloned from one image too.
fn random_run_id() -> String {
    let random = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
    format!("{random:016x}")
}

fn runner(
    reader: &mut Reader,
    task_id: String,
    project_id: String,
    run_id: String,
) -> runner::Settings {
    let forced = reader.given(&settings::FORCE, values::boolean);
    let agent_env = reader
        .optional(&settings::AGENT_ENV, values::names)
        .unwrap_or_default();
    let base = reader.environment.for_agent(&agent_env);
    let source = source(reader, &task_id, &project_id, &run_id);
    let idle_timeout = reader.given(&settings::IDLE_TIMEOUT, values::duration_or_off);
    runner::Settings {
        source,
        run_id,
        task: task_id,
        project: project_id,
        tag: reader.optional(&settings::TAG, values::line),
        actionable: if forced {
            Actionable::Forced
        } else {
            Actionable::Required
        },
        agent: agent_settings(reader, &base, idle_timeout),
        environment: base,
        task_timeout: reader.given(&settings::TASK_TIMEOUT, values::duration),
        idle_timeout,
        checks: reader.optional(&settings::CHECKS, values::checks),
        repairs: reader.given(&settings::REPAIRS, values::count),
    }
}

/// What is said about the agent; `base` is its environment.
fn agent_settings(
    reader: &mut Reader,
    base: &Variables,
    patience: Option<Duration>,
) -> runner::agent::Settings {
    runner::agent::Settings {
        kind: reader.given(&settings::AGENT, values::agent),
        command: reader.optional(&settings::AGENT_COMMAND, values::text),
        model: reader.optional(&settings::MODEL, values::line),
        limits: budget(reader),
        access: access(reader),
        path: value_of(base, "PATH").unwrap_or_default().to_owned(),
        sandbox: sandbox(base),
        patience,
    }
}

/// How agents reach their model. The base URL is checked here and passed on as it was written.
fn access(reader: &mut Reader) -> model::Access {
    reader.optional(&settings::ANTHROPIC_BASE_URL, values::service_url);
    let base_url = reader.environment.get(settings::ANTHROPIC_BASE_URL.name());
    model::Access {
        base_url: base_url.map(OsStr::to_owned),
        api_key: reader.optional(&settings::ANTHROPIC_API_KEY, values::token),
        auth_token: reader.optional(&settings::ANTHROPIC_AUTH_TOKEN, values::token),
        oauth_token: reader.optional(&settings::CLAUDE_CODE_OAUTH_TOKEN, values::token),
    }
}

/// How much the agent may take.
fn budget(reader: &mut Reader) -> model::Limits {
    model::Limits {
        turns: reader.optional(&settings::MAX_TURNS, values::some),
        usd: reader.optional(&settings::MAX_BUDGET_USD, values::dollars),
    }
}

/// What Claude Code makes of who the worker is.
fn sandbox(environment: &Variables) -> Sandbox {
    if !rustix::process::geteuid().is_root() {
        Sandbox::User
    } else if value_of(environment, settings::IS_SANDBOX.variable) == Some(OsStr::new("1")) {
        Sandbox::DeclaredRoot
    } else {
        Sandbox::Root
    }
}

/// The built-in agent, told everything by the worker that starts it.
fn agent(reader: &mut Reader, flags: &clap::ArgMatches) -> builtin::Settings {
    let key = reader.optional(&settings::ANTHROPIC_API_KEY, values::token);
    let token = reader.optional(&settings::ANTHROPIC_AUTH_TOKEN, values::token);
    builtin::Settings {
        service: builtin::ServiceSettings {
            url: reader
                .optional(&settings::ANTHROPIC_BASE_URL, values::service_url)
                .unwrap_or_else(model::anthropic),
            key,
            token,
            authorities: reader.environment.get("SSL_CERT_FILE").map(PathBuf::from),
            patience: reader.given(&settings::IDLE_TIMEOUT, values::duration_or_off),
        },
        model: reader
            .optional(&settings::MODEL, values::line)
            .unwrap_or_else(|| DEFAULT_MODEL.to_owned()),
        limits: budget(reader),
        session: flags.get_one::<PathBuf>("session").cloned(),
        environment: reader.environment.for_tools(),
        path: reader
            .environment
            .get("PATH")
            .unwrap_or_default()
            .to_owned(),
    }
}

/// The variables by which git finds proxies. curl ignores `HTTP_PROXY` in capitals on purpose.
const PROXIES: [&str; 7] = [
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// Where the project comes from, and where the work goes.
fn source(reader: &mut Reader, task_id: &str, project_id: &str, run_id: &str) -> Source {
    let workspace = reader.optional(&settings::WORKSPACE, values::path);
    let reference = reader.optional(&settings::REF, values::git_reference);
    let branch = reader.optional(&settings::BRANCH, values::branch);
    let default = || {
        Some(format!(
            "descartes/{}/{}",
            values::branch_part(project_id),
            values::branch_part(task_id)
        ))
    };
    let (name, email) = (
        reader.given(&settings::GIT_NAME, values::line),
        reader.given(&settings::GIT_EMAIL, values::line),
    );
    let token = reader.optional(&settings::GIT_TOKEN, values::token);
    let stalled = reader.given(&settings::GIT_IDLE_TIMEOUT, values::duration);
    let submodules = reader.given(&settings::SUBMODULES, values::boolean);
    let keep_clone = reader.given(&settings::KEEP_WORKSPACE, values::boolean);
    let Some(url) = reader.optional(&settings::REPO, values::repository) else {
        return Source::Given(workspace.unwrap_or_else(|| ".".into()));
    };
    let proxies = PROXIES.iter().filter_map(|name| {
        let value = reader.environment.get(name)?;
        Some(((*name).into(), value.to_owned()))
    });
    let access = Access {
        token,
        proxies: proxies.collect(),
        authorities: reader.environment.get("SSL_CERT_FILE").map(PathBuf::from),
        ssh_agent: reader.environment.get("SSH_AUTH_SOCK").map(OsStr::to_owned),
        stalled,
    };
    let branch = branch.unwrap_or_else(default);
    Source::Repository(Repository {
        url,
        reference,
        access,
        into: workspace,
        keep_clone,
        submodules,
        branch,
        suffix: values::branch_part(run_id),
        name,
        email,
    })
}

/// A worker on a project that is here.
fn local_settings(reader: &mut Reader, project: PathBuf, task: String) -> local::Settings {
    let project_id = reader.optional(&settings::PROJECT_ID, values::line);
    local::Settings {
        project,
        task,
        project_id: project_id.unwrap_or_else(|| "local".into()),
        agent: local_agent(reader),
        variables: reader.flags_as_variables(),
    }
}

fn local_agent(reader: &mut Reader) -> local::Agent {
    if reader.is_set(&settings::AGENT) || reader.is_set(&settings::AGENT_COMMAND) {
        return local::Agent::Chosen;
    }
    let base = reader.environment.for_agent(&[]);
    let settings = agent_settings(reader, &base, None);
    runner::agent::chosen(&settings).map_or(local::Agent::Absent, local::Agent::Known)
}

fn completions(flags: &clap::ArgMatches) -> Command {
    let shell = flags
        .get_one("shell")
        .copied()
        .unwrap_or(clap_complete::Shell::Bash);
    Command::Completions {
        shell,
        cli: Box::new(settings::cli()),
    }
}
