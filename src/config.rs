//! Reads all settings from flags and environment, and reports all mistakes at once. No other module reads
//! the environment.
//!
//! [`settings`] is the table of all settings; the flags, `--help`, the names of the variables and the
//! defaults come from it. This file turns the values into types. It starts and sends nothing, and the only
//! file that it reads is the one with the agent's variables, so an invalid configuration has no effect.

mod dispatch;
pub mod environment;
mod reader;
pub mod settings;
mod values;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;

use crate::builtin;
use crate::callback::{self, credentials::Bearer};
use crate::check;
use crate::environment::{Variables, VariablesFile, value_of};
use crate::gateway;
use crate::isolation::Isolation;
use crate::local;
use crate::merge_graph::Versions;
use crate::model::{self, ANTHROPIC, DEFAULT_MODEL, OPENAI, ServiceAccess};
use crate::probe;
use crate::receiver::{self, ScriptedAnswers};
use crate::redact::Redactor;
use crate::runner;
use crate::runner::agent::Sandbox;
use crate::runner::workspace::{Access, Repository, Source};
use crate::scud::FinishedTasks;
use crate::task_list;
use crate::terminal::Log;
pub use reader::Problem;
use reader::Reader;

/// The project's name for a worker without an orchestrator.
const LOCAL_PROJECT: &str = "local";

/// The project's name for `probe`.
const PROBE_PROJECT: &str = "probe";

/// What the program is to do.
#[derive(Debug)]
pub struct Config {
    pub log: Log,
    /// Masks every secret of the environment.
    pub redactor: Redactor,
    /// Mistakes that do not prevent the run.
    pub warnings: Vec<String>,
    pub command: Command,
    /// Where a test wants the worker to panic.
    #[cfg(debug_assertions)]
    pub failure_point: Option<OsString>,
}

/// A subcommand, or the worker.
#[derive(Debug)]
pub enum Command {
    Run(Box<Run>),
    Demo(local::Settings),
    DemoGraph(Box<crate::dispatch::Settings>),
    Local(local::Settings),
    Receive(local::ReceiveSettings),
    Dispatch(Box<crate::dispatch::Settings>),
    Tasks(task_list::Settings),
    /// `local` without a task: shows what is ready in a project.
    ChooseTask(PathBuf),
    Probe(Box<probe::Settings>),
    Check(Box<check::Settings>),
    /// The built-in agent, started by the worker.
    Agent(Box<builtin::Settings>),
    /// The model gateway, started by the worker.
    Gateway(gateway::ServerSettings),
    MergeGraph(Versions),
    Completions {
        shell: clap_complete::Shell,
        cli: Box<clap::Command>,
    },
    Vocabulary {
        cli: Box<clap::Command>,
    },
}

/// The worker for one task.
#[derive(Debug)]
pub struct Run {
    pub callback: callback::Settings,
    pub runner: runner::Settings,
    /// The time between the platform's stop signal and its kill.
    pub stop_window: Duration,
    /// Whether the end of standard input is a reason to stop.
    pub stop_at_end_of_stdin: bool,
    /// A lock file that is kept locked until the worker has ended.
    pub task_lock: Option<PathBuf>,
    /// Whether to begin a session.
    pub new_session: bool,
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum Rejected {
    Usage(Usage),
    /// All settings that are invalid.
    Settings(Vec<Problem>),
    /// All settings that are invalid, for a `check` that must print JSON.
    CheckAsJson(Vec<Problem>),
}

/// Arguments that the command line does not have, or a request for help.
#[derive(Debug)]
pub struct Usage {
    pub error: clap::Error,
    /// What to do next, if clap does not say it.
    pub advice: Option<&'static str>,
    /// git waits for the exit status of a merge driver.
    pub is_merge: bool,
}

impl Usage {
    fn new(error: clap::Error, args: &[OsString]) -> Self {
        let is_flag_without_value = |flag: &OsStr| {
            flag.as_encoded_bytes().starts_with(b"--") && !flag.as_encoded_bytes().contains(&b'=')
        };
        let hyphen_after_flag = args.windows(2).any(|pair| {
            is_flag_without_value(&pair[0]) && pair[1].as_encoded_bytes().starts_with(b"-")
        });
        let advice = "a value that begins with a hyphen needs an equals sign: --flag=VALUE";
        let is_about_value = matches!(
            error.kind(),
            ErrorKind::InvalidValue | ErrorKind::UnknownArgument
        );
        Self {
            advice: (is_about_value && hyphen_after_flag).then_some(advice),
            is_merge: args.iter().any(|arg| arg == "merge-graph"),
            error,
        }
    }
}

impl Config {
    /// Reads the arguments and the environment of this process.
    pub fn from_process() -> Result<Self, Rejected> {
        #[expect(
            clippy::disallowed_methods,
            reason = "no other module reads the environment"
        )]
        let environment = std::env::vars_os().collect();
        Self::read(std::env::args_os().collect(), environment)
    }

    /// Reads arguments (the first is the program) and environment.
    fn read(args: Vec<OsString>, environment: Vec<(OsString, OsString)>) -> Result<Self, Rejected> {
        let args = without_own_path(args);
        let matches = settings::cli().try_get_matches_from(&args);
        let matches = matches.map_err(|error| Rejected::Usage(Usage::new(error, &args)))?;
        let (name, flags) = matches.subcommand().unwrap_or(("", &matches));
        let flags = flags.clone();
        let mut reader = Reader::new(&flags, environment);
        let log = match name {
            // These commands read no settings, so an invalid setting must not stop them.
            "merge-graph" | "completions" | "vocabulary" | gateway::COMMAND => default_log(),
            _ => log(&mut reader),
        };
        let command = match name {
            "" => Command::Run(Box::new(run(&mut reader))),
            "check" => Command::Check(Box::new(check_settings(&mut reader, &flags))),
            "demo" if flags.get_flag("graph") => {
                let given = for_dispatch(&mut reader);
                Command::DemoGraph(Box::new(dispatch::demo_settings(&mut reader, given)))
            }
            "demo" => {
                // The sample project does not exist yet.
                let project = local::Project::InPlace(PathBuf::new());
                Command::Demo(local_settings(&mut reader, project, String::new()))
            }
            "local" => {
                let project = local_project(&mut reader, &flags);
                match project {
                    local::Project::InPlace(dir) if !reader.is_set(&settings::TASK_ID) => {
                        let project = local::Project::InPlace(dir.clone());
                        // Other mistakes are still reported.
                        local_settings(&mut reader, project, String::new());
                        Command::ChooseTask(dir)
                    }
                    project => {
                        let task = reader.required(&settings::TASK_ID, values::line);
                        Command::Local(local_settings(&mut reader, project, task))
                    }
                }
            }
            "dispatch" => {
                let given = for_dispatch(&mut reader);
                let settings = dispatch::settings(&mut reader, &flags, given);
                Command::Dispatch(Box::new(settings))
            }
            "tasks" => Command::Tasks(tasks(&mut reader, &flags)),
            "receive" => Command::Receive(receive(&mut reader, &flags)),
            "probe" => Command::Probe(Box::new(probe_settings(&mut reader, &flags))),
            gateway::COMMAND => Command::Gateway(gateway::ServerSettings {
                authorities: reader.environment.get("SSL_CERT_FILE").map(PathBuf::from),
            }),
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
        let mut secrets = reader.environment.secrets();
        secrets.append(&mut reader.secrets);
        if let Command::Receive(settings) = &command {
            secrets.extend(settings.secret.iter().cloned());
        }
        let redactor = Redactor::new(&secrets);
        let mut warnings = match command {
            // The built-in agent has its variables from the worker; the others use none.
            Command::Agent(_)
            | Command::Gateway(_)
            | Command::MergeGraph(_)
            | Command::Completions { .. } => Vec::new(),
            _ => reader.environment.unknown_settings(),
        };
        warnings.append(&mut reader.warnings);
        let config = Self {
            log,
            redactor,
            warnings,
            command,
            #[cfg(debug_assertions)]
            failure_point: reader
                .environment
                .get("DESCARTES_FAILURE_POINT")
                .map(OsStr::to_owned),
        };
        let as_json = matches!(&config.command, Command::Check(settings) if settings.format == check::Format::Json);
        reader.finish(config).map_err(|problems| {
            if as_json {
                Rejected::CheckAsJson(problems)
            } else {
                Rejected::Settings(problems)
            }
        })
    }
}

/// Removes the path of this program from its first argument: a platform that replaces the CMD of an image,
/// but not its entrypoint, passes it twice.
fn without_own_path(mut args: Vec<OsString>) -> Vec<OsString> {
    const NAMES: [&str; 2] = ["worker", "descartes-worker"];
    let is_own_path = |arg: &OsString| {
        let path = PathBuf::from(arg);
        let name = path.file_name().and_then(|name| name.to_str());
        Some(arg) == args.first()
            || path.is_absolute() && name.is_some_and(|name| NAMES.contains(&name))
    };
    if args.get(1).is_some_and(is_own_path) {
        args.remove(1);
    }
    args
}

fn log(reader: &mut Reader) -> Log {
    Log {
        filter: reader.with_default(&settings::RUST_LOG, values::log_filter),
        format: reader.with_default(&settings::LOG_FORMAT, values::log_format),
    }
}

/// The log of a command that reads no settings.
fn default_log() -> Log {
    let default = |setting: &settings::Setting| setting.default.expect("the table has a default");
    Log {
        filter: values::log_filter(default(&settings::RUST_LOG)).expect("a valid default"),
        format: values::log_format(default(&settings::LOG_FORMAT)).expect("a valid default"),
    }
}

/// With `--local`, the settings that only an orchestrator knows are not needed.
fn check_settings(reader: &mut Reader, flags: &clap::ArgMatches) -> check::Settings {
    let (runner, stop_window) = if flags.get_flag("local") {
        let task_id = reader.required(&settings::TASK_ID, values::line);
        let project_id = reader.optional(&settings::PROJECT_ID, values::line);
        let project_id = project_id.unwrap_or_else(|| LOCAL_PROJECT.to_owned());
        let runner = runner(reader, task_id, project_id, random_run_id());
        (
            runner,
            reader.with_default(&settings::STOP_WINDOW, values::duration),
        )
    } else {
        let run = run(reader);
        (run.runner, run.stop_window)
    };
    let format = if flags.get_flag("json") {
        check::Format::Json
    } else {
        check::Format::Lines
    };
    check::Settings {
        runner,
        stop_window,
        format,
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
    callback.identity.isolation = Some(runner.isolation.clone());
    if runner.steps == runner::Steps::All {
        callback.identity.agent = runner::agent::selected_kind(&runner.agent).map(|kind| kind.word);
    }
    let stop_window = reader.with_default(&settings::STOP_WINDOW, values::duration);
    callback.limits = callback::Limits {
        task_timeout: runner.task_timeout,
        idle_timeout: runner.idle_timeout,
        stop_window,
        max_turns: runner.agent.limits.turns,
        max_budget_usd: runner.agent.limits.usd,
        max_tokens: runner.agent.limits.tokens,
    };
    Run {
        callback,
        runner,
        stop_window,
        stop_at_end_of_stdin: reader.with_default(&settings::STOP_AT_END_OF_STDIN, values::boolean),
        task_lock: reader.optional(&settings::TASK_LOCK, values::path),
        new_session: reader.with_default(&settings::NEW_SESSION, values::boolean),
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
        request_timeout: reader.with_default(&settings::CALLBACK_TIMEOUT, values::duration),
        claim_deadline: reader.with_default(&settings::CLAIM_DEADLINE, values::duration),
        finish_deadline: reader.with_default(&settings::FINISH_DEADLINE, values::duration),
        heartbeat: reader.with_default(&settings::HEARTBEAT, values::duration_or_off),
        credentials: credentials(reader),
        traceparent: reader.or_warning(&settings::TRACEPARENT, values::traceparent),
        authorities: reader.environment.get("SSL_CERT_FILE").map(PathBuf::from),
        identity: callback::Identity {
            task_id,
            project_id,
            run_id,
            // Set as soon as the settings of the agent are known.
            agent: None,
            isolation: None,
            hostname: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            revision: reader.environment.revision(),
            machine: reader.environment.machine(),
        },
        // Set as soon as the runner's settings are known.
        limits: callback::Limits::default(),
    }
}

fn credentials(reader: &mut Reader) -> callback::credentials::Settings {
    let token = reader.optional(&settings::CALLBACK_TOKEN, values::token);
    let audience = reader.optional(&settings::CALLBACK_OIDC_AUDIENCE, values::line);
    let socket = reader.with_default(&settings::CALLBACK_OIDC_SOCKET, values::path);
    if token.is_some() && audience.is_some() {
        reader.reject(&settings::CALLBACK_OIDC_AUDIENCE, "and DESCARTES_CALLBACK_TOKEN are both set, but a request has only one bearer token; unset one of them");
    }
    let identity = audience.map(|audience| Bearer::Identity { audience, socket });
    callback::credentials::Settings {
        signing: reader
            .optional(&settings::CALLBACK_SECRET, values::signing_keys)
            .unwrap_or_default(),
        bearer: token.map(Bearer::Token).or(identity),
    }
}

/// A random id, so that machines cloned from one image have different ones.
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
    let forced = reader.with_default(&settings::FORCE, values::boolean);
    let (base, variables_file) = agent_environment(reader);
    let source = source(reader, &task_id, &project_id, &run_id);
    let idle_timeout = reader.with_default(&settings::IDLE_TIMEOUT, values::duration_or_off);
    runner::Settings {
        source,
        run_id,
        task: task_id,
        project: project_id,
        tag: reader.optional(&settings::TAG, values::line),
        finished_tasks: if forced {
            FinishedTasks::Allow
        } else {
            FinishedTasks::Reject
        },
        isolation: isolation(reader, &base),
        agent: agent_settings(reader, &base, variables_file.as_ref(), idle_timeout),
        environment: base,
        variables_file,
        task_timeout: reader.with_default(&settings::TASK_TIMEOUT, values::duration),
        idle_timeout,
        checks: reader.optional(&settings::CHECKS, values::checks),
        repairs: reader.with_default(&settings::REPAIRS, values::count),
        steps: if reader.with_default(&settings::ONLY_CHECKS, values::boolean) {
            runner::Steps::OnlyChecks
        } else {
            runner::Steps::All
        },
        note: reader.optional(&settings::NOTE, values::text),
    }
}

/// What separates the agent from the worker; `base` is the agent's environment.
fn isolation(reader: &mut Reader, base: &Variables) -> Isolation {
    let mode = reader.with_default(&settings::ISOLATION, values::isolation);
    Isolation::new(mode, value_of(base, "PATH").unwrap_or_default())
}

/// The worker's variables that the agent and the checks get, and the file with further ones.
fn agent_environment(reader: &mut Reader) -> (Variables, Option<VariablesFile>) {
    let names = reader
        .optional(&settings::AGENT_ENV, values::names)
        .unwrap_or_default();
    let mode = reader.with_default(&settings::MODEL_GATEWAY, values::model_gateway);
    // No agent and no check gets a key that the gateway keeps.
    let is_kept = |name: &String| mode == gateway::Mode::Auto && settings::is_model_key(name);
    let names: Vec<String> = names.into_iter().filter(|name| !is_kept(name)).collect();
    let base = reader.environment.for_agent(&names);
    let file = reader.optional(&settings::AGENT_ENV_FILE, |path| {
        values::variables_file(path, &names, &base)
    });
    if let Some(file) = &file {
        reader.secrets.extend(environment::secrets(&file.variables));
    }
    (base, file)
}

/// The settings of the agent; `base` is its environment.
fn agent_settings(
    reader: &mut Reader,
    base: &Variables,
    variables_file: Option<&VariablesFile>,
    idle_timeout: Option<Duration>,
) -> runner::agent::Settings {
    let environment = variables_file.map_or_else(|| base.clone(), |file| file.over(base));
    runner::agent::Settings {
        kind: reader.with_default(&settings::AGENT, values::agent),
        command: reader.optional(&settings::AGENT_COMMAND, values::text),
        model: reader.optional(&settings::MODEL, values::line),
        limits: model::Limits {
            tokens: reader.optional(&settings::MAX_TOKENS, values::tokens),
            ..budget(reader)
        },
        access: access(reader),
        gateway: gateway::Settings {
            mode: reader.with_default(&settings::MODEL_GATEWAY, values::model_gateway),
            proxies: proxies(reader, &["HTTP_PROXY"]),
        },
        path: value_of(&environment, "PATH")
            .unwrap_or_default()
            .to_owned(),
        sandbox: sandbox(&environment),
        idle_timeout,
    }
}

/// How agents reach their model. The base URL is validated here and passed on unchanged.
fn access(reader: &mut Reader) -> model::Access {
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

/// How much the agent may spend.
fn budget(reader: &mut Reader) -> model::Limits {
    model::Limits {
        turns: reader.optional(&settings::MAX_TURNS, values::positive_count),
        usd: reader.optional(&settings::MAX_BUDGET_USD, values::dollars),
        tokens: None,
    }
}

/// Whether Claude Code accepts the user that the worker runs as.
fn sandbox(environment: &Variables) -> Sandbox {
    if !rustix::process::geteuid().is_root() {
        Sandbox::User
    } else if value_of(environment, settings::IS_SANDBOX.variable) == Some(OsStr::new("1")) {
        Sandbox::DeclaredRoot
    } else {
        Sandbox::Root
    }
}

/// The settings of the built-in agent, which the worker passes in its environment.
fn agent(reader: &mut Reader, flags: &clap::ArgMatches) -> builtin::Settings {
    let key = reader.optional(&settings::ANTHROPIC_API_KEY, values::token);
    let token = reader.optional(&settings::ANTHROPIC_AUTH_TOKEN, values::token);
    // The tools get the variables of the file; this program, which the worker started, does not use them.
    let mut tools = reader.environment.for_tools();
    if let (_, Some(file)) = agent_environment(reader) {
        tools = file.over(&tools);
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
        limits: budget(reader),
        session: flags.get_one::<PathBuf>("session").cloned(),
        path: value_of(&tools, "PATH").unwrap_or_default().to_owned(),
        environment: tools,
    }
}

/// How git reaches remotes.
fn git_access(reader: &mut Reader) -> Access {
    Access {
        token: reader.optional(&settings::GIT_TOKEN, values::token),
        proxies: proxies(reader, &[]),
        authorities: reader.environment.get("SSL_CERT_FILE").map(PathBuf::from),
        ssh_agent: reader.environment.get("SSH_AUTH_SOCK").map(OsStr::to_owned),
        stalled: reader.with_default(&settings::GIT_IDLE_TIMEOUT, values::duration),
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

/// The variables with proxies that are set, some further ones included.
fn proxies(reader: &Reader, further: &[&str]) -> Variables {
    let names = PROXIES.iter().chain(further);
    let set = names.filter_map(|name| {
        let value = reader.environment.get(name)?;
        Some(((*name).into(), value.to_owned()))
    });
    set.collect()
}

/// Where the project comes from, and where the work is pushed to.
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
        reader.with_default(&settings::GIT_NAME, values::line),
        reader.with_default(&settings::GIT_EMAIL, values::line),
    );
    let access = git_access(reader);
    let submodules = reader.with_default(&settings::SUBMODULES, values::boolean);
    let lfs = reader.with_default(&settings::LFS, values::boolean);
    let keep_clone = reader.with_default(&settings::KEEP_WORKSPACE, values::boolean);
    let Some(url) = reader.optional(&settings::REPO, values::repository) else {
        return Source::Given(workspace.unwrap_or_else(|| ".".into()));
    };
    let branch = branch.unwrap_or_else(default);
    Source::Repository(Box::new(Repository {
        url,
        reference,
        access,
        into: workspace,
        keep_clone,
        submodules,
        lfs,
        branch,
        suffix: values::branch_part(run_id),
        name,
        email,
    }))
}

/// The project that `local` works on.
fn local_project(reader: &mut Reader, flags: &clap::ArgMatches) -> local::Project {
    let flag = flags.get_one::<PathBuf>("project").cloned();
    let dir = flag.or_else(|| reader.optional(&settings::WORKSPACE, values::path));
    if let Some(url) = reader.optional(&settings::REPO, values::repository) {
        return local::Project::Cloned { url, into: dir };
    }
    let branch = reader.optional(&settings::BRANCH, values::branch);
    let reference = reader.optional(&settings::REF, values::git_reference);
    let useless = [
        (&settings::BRANCH, branch.flatten().is_some()),
        (&settings::REF, reference.is_some()),
    ];
    for (setting, is_set) in useless {
        if is_set {
            reader.reject(setting, "needs a repository (--repo or DESCARTES_REPO); without one, `local` changes the project's directory in place, and checks out and pushes nothing");
        }
    }
    local::Project::InPlace(dir.unwrap_or_else(|| ".".into()))
}

fn for_dispatch(reader: &mut Reader) -> dispatch::Given {
    let (base, variables_file) = agent_environment(reader);
    let agent = agent_settings(reader, &base, variables_file.as_ref(), None);
    let missing = runner::preflight::usable_agent(&agent).err();
    dispatch::Given {
        missing_agent: missing.map(|failure| failure.sentence()),
        access: git_access(reader),
    }
}

/// The tasks of a project.
fn tasks(reader: &mut Reader, flags: &clap::ArgMatches) -> task_list::Settings {
    let flag = flags.get_one::<PathBuf>("project").cloned();
    let dir = flag.or_else(|| reader.optional(&settings::WORKSPACE, values::path));
    task_list::Settings {
        project: dir.unwrap_or_else(|| ".".into()),
        tag: reader.optional(&settings::TAG, values::line),
        shown: match (flags.get_flag("ready"), flags.get_flag("blocked")) {
            (true, _) => task_list::Shown::Ready,
            (_, true) => task_list::Shown::Blocked,
            _ => task_list::Shown::All,
        },
        format: match (flags.get_flag("json"), flags.get_flag("ids")) {
            (true, _) => task_list::Format::Json,
            (_, true) => task_list::Format::Ids,
            _ => task_list::Format::Lines,
        },
    }
}

/// A worker under the embedded orchestrator.
fn local_settings(reader: &mut Reader, project: local::Project, task: String) -> local::Settings {
    let project_id = reader.optional(&settings::PROJECT_ID, values::line);
    local::Settings {
        project,
        task,
        project_id: project_id.unwrap_or_else(|| LOCAL_PROJECT.to_owned()),
        tag: reader.optional(&settings::TAG, values::line),
        agent: local_agent(reader),
        lock_dirs: lock_dirs(reader),
        variables: reader.flags_as_variables(),
    }
}

/// The embedded orchestrator alone.
fn receive(reader: &mut Reader, flags: &clap::ArgMatches) -> local::ReceiveSettings {
    let flag = |name| flags.get_one::<String>(name).map(String::as_str);
    let repeated = |name| flags.get_many::<String>(name).unwrap_or_default();
    let mut answers = ScriptedAnswers::default();
    for text in repeated("answer") {
        if let Err(why) = answers.add(text) {
            reader.reject_flag("answer", &format!("{text:?} {why}"));
        }
    }
    let lease = flag("lease").and_then(|text| {
        let lease = values::duration(text);
        let reject = |why: String| reader.reject_flag("lease", &format!("{text:?} {why}"));
        lease.map_err(reject).ok()
    });
    // The value of a secret is not shown.
    let flag_keys = flag("secret").and_then(|text| {
        let keys = values::signing_keys(text);
        keys.map_err(|why| reader.reject_flag("secret", &why)).ok()
    });
    let variable_keys = reader.optional(&settings::CALLBACK_SECRET, values::signing_keys);
    local::ReceiveSettings {
        listen: reader.with_default(&settings::LISTEN, values::address),
        secret: flag("secret").map(Into::into),
        receiver: receiver::Settings {
            signing_keys: flag_keys.or(variable_keys).unwrap_or_default(),
            cancelled: repeated("cancel").cloned().collect(),
            answers,
            lease,
            repetition: if flags.get_flag("again") {
                receiver::Repetition::Grant
            } else {
                receiver::Repetition::Refuse
            },
        },
    }
}

/// The test of an orchestrator.
fn probe_settings(reader: &mut Reader, flags: &clap::ArgMatches) -> probe::Settings {
    let project = reader.optional(&settings::PROJECT_ID, values::line);
    let project = project.unwrap_or_else(|| PROBE_PROJECT.to_owned());
    let given: Vec<String> = flags
        .get_many("task")
        .unwrap_or_default()
        .cloned()
        .collect();
    if given.len() > 4 {
        reader.reject_flag("task", "there are at most four");
    }
    let task = |number: usize| {
        let given = given.get(number - 1).cloned();
        given.unwrap_or_else(|| format!("probe-{number}"))
    };
    let tasks = probe::Tasks {
        completed: task(1),
        contested: task(2),
        silent: task(3),
        cancelled: task(4),
    };
    let other_project = flags.get_one::<String>("other-project-id").cloned();
    let cancel_within = flags.get_one::<String>("cancel-within").and_then(|text| {
        let patience = values::duration(text);
        let reject = |why: String| reader.reject_flag("cancel-within", &format!("{text:?} {why}"));
        patience.map_err(reject).ok()
    });
    probe::Settings {
        callback: callback(
            reader,
            tasks.completed.clone(),
            project.clone(),
            random_run_id(),
        ),
        tasks,
        other_project: other_project.unwrap_or_else(|| format!("{project}-other")),
        cancel_within,
        leases: if flags.get_flag("leases") {
            probe::Leases::Wait
        } else {
            probe::Leases::LeaveOut
        },
        format: if flags.get_flag("json") {
            probe::Format::Json
        } else {
            probe::Format::Lines
        },
    }
}

/// Where lock files may be, best first. The same in every session of a user, so not `XDG_RUNTIME_DIR`.
fn lock_dirs(reader: &Reader) -> Vec<PathBuf> {
    let directory = |name| reader.environment.get(name).map(PathBuf::from);
    let state = directory("XDG_STATE_HOME")
        .or_else(|| Some(directory("HOME")?.join(".local/state")))
        .filter(|path| path.is_absolute());
    let user = rustix::process::geteuid().as_raw();
    let temporary = directory("TMPDIR").unwrap_or_else(|| "/tmp".into());
    let state = state.map(|state| state.join("descartes-worker"));
    let temporary = temporary.join(format!("descartes-worker-{user}"));
    state.into_iter().chain([temporary]).collect()
}

fn local_agent(reader: &mut Reader) -> local::Agent {
    if reader.is_set(&settings::AGENT) || reader.is_set(&settings::AGENT_COMMAND) {
        return local::Agent::Chosen;
    }
    let (base, variables_file) = agent_environment(reader);
    let settings = agent_settings(reader, &base, variables_file.as_ref(), None);
    runner::agent::selected_kind(&settings).map_or(local::Agent::Absent, local::Agent::Known)
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
