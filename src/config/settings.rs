//! The table of everything that can be set; the command line is made of it.
//!
//! Reads nothing: [`super::reader`] does, [`super::values`] knows what the words mean.

use clap::{Arg, ArgAction, Command, value_parser};

use crate::builtin::COMMAND as BUILTIN;

/// One setting: an environment variable, and a flag unless it is a secret.
#[derive(Debug)]
pub struct Setting {
    /// The variable's full name.
    pub variable: &'static str,
    /// Another name of the variable that wins over the full one.
    pub bare: Option<&'static str>,
    /// The flag without its dashes. Secrets have none, because every process may read the
    /// arguments of every other.
    pub flag: Option<&'static str>,
    /// What stands for the value in the help.
    pub value: &'static str,
    /// As it would be written; none where unset means something of its own.
    pub default: Option<&'static str>,
    pub help: &'static str,
}

impl Setting {
    const fn new(
        variable: &'static str,
        flag: &'static str,
        value: &'static str,
        help: &'static str,
    ) -> Self {
        Self {
            variable,
            bare: None,
            flag: Some(flag),
            value,
            default: None,
            help,
        }
    }

    const fn bare(self, name: &'static str) -> Self {
        Self {
            bare: Some(name),
            ..self
        }
    }

    const fn default(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }

    /// Only ever a variable: a secret, or a variable that other programs define.
    const fn unflagged(variable: &'static str, help: &'static str) -> Self {
        Self {
            variable,
            bare: None,
            flag: None,
            value: "",
            default: None,
            help,
        }
    }

    /// The name that messages and the help use: the one people set.
    pub fn name(&self) -> &'static str {
        self.bare.unwrap_or(self.variable)
    }
}

pub const TASK_ID: Setting = Setting::new(
    "DESCARTES_TASK_ID",
    "task",
    "ID",
    "The task in the project's SCUD graph: 8, 8.2 or phase:8",
)
.bare("TASK_ID");
pub const PROJECT_ID: Setting = Setting::new(
    "DESCARTES_PROJECT_ID",
    "project-id",
    "ID",
    "The orchestrator's name for the project",
)
.bare("PROJECT_ID");
pub const CALLBACK_URL: Setting = Setting::new(
    "DESCARTES_CALLBACK_URL",
    "callback-url",
    "URL",
    "Where the orchestrator listens, http or https; /started and the others are appended",
)
.bare("CALLBACK_URL");
pub const RUN_ID: Setting = Setting::new(
    "DESCARTES_RUN_ID",
    "run-id",
    "ID",
    "The orchestrator's name for this attempt; random where unset",
);
pub const REPO: Setting = Setting::new(
    "DESCARTES_REPO",
    "repo",
    "URL",
    "Where the project comes from (https, ssh, git, file); without it the workspace is used as it is",
);
pub const REF: Setting = Setting::new(
    "DESCARTES_REF",
    "ref",
    "REF",
    "The branch, tag or commit to work on; the default branch where unset",
);
pub const BRANCH: Setting = Setting::new(
    "DESCARTES_BRANCH",
    "branch",
    "BRANCH",
    "The branch that the work is pushed to, or none; descartes/<project>/<task> where unset",
);
pub const GIT_NAME: Setting = Setting::new("DESCARTES_GIT_NAME", "git-name", "NAME", "Who commits")
    .default("descartes-worker");
pub const GIT_EMAIL: Setting = Setting::new(
    "DESCARTES_GIT_EMAIL",
    "git-email",
    "EMAIL",
    "The address of who commits",
)
.default("descartes-worker@localhost");
pub const GIT_TOKEN: Setting = Setting::unflagged(
    "DESCARTES_GIT_TOKEN",
    "The token for https remotes, both ways",
);
pub const GIT_IDLE_TIMEOUT: Setting = Setting::new(
    "DESCARTES_GIT_IDLE_TIMEOUT",
    "git-idle-timeout",
    "DURATION",
    "How long a clone or a push may show no progress",
)
.default("60s");
pub const WORKSPACE: Setting = Setting::new(
    "DESCARTES_WORKSPACE",
    "workspace",
    "DIR",
    "Where the agent works: the project as it is, else where to clone it to; . or somewhere fresh where unset",
);
pub const TAG: Setting = Setting::new(
    "DESCARTES_TAG",
    "tag",
    "PHASE",
    "The SCUD phase, where the task's id alone is ambiguous",
);
pub const FORCE: Setting = Setting::new(
    "DESCARTES_FORCE",
    "force",
    "BOOL",
    "Run a task that is done, cancelled or expanded",
)
.default("false");
pub const AGENT: Setting = Setting::new(
    "DESCARTES_AGENT",
    "agent",
    "KIND",
    "Which agent: command, claude-code, builtin, or auto, which takes the first of them that can work here",
)
.default("auto");
pub const AGENT_COMMAND: Setting = Setting::new(
    "DESCARTES_AGENT_COMMAND",
    "agent-command",
    "COMMAND",
    "The agent, run by sh -c in the workspace; the prompt is on its stdin and in $DESCARTES_PROMPT_FILE",
);
pub const AGENT_ENV: Setting = Setting::new(
    "DESCARTES_AGENT_ENV",
    "agent-env",
    "NAMES",
    "Further variables that the agent may see, by name, separated by commas or spaces",
);
pub const MODEL: Setting = Setting::new(
    "DESCARTES_MODEL",
    "model",
    "MODEL",
    "The model, for agents that let one choose; wins over the agent definition's",
);
pub const MAX_TURNS: Setting = Setting::new(
    "DESCARTES_MAX_TURNS",
    "max-turns",
    "COUNT",
    "How many answers of its model the agent may take, repairs included; for agents that know turns",
);
pub const MAX_BUDGET_USD: Setting = Setting::new(
    "DESCARTES_MAX_BUDGET_USD",
    "max-budget-usd",
    "DOLLARS",
    "What the agent may cost, repairs included; for agents that know prices",
);
pub const TASK_TIMEOUT: Setting = Setting::new(
    "DESCARTES_TASK_TIMEOUT",
    "task-timeout",
    "DURATION",
    "How long the agent and the checks may take together, wall clock",
)
.default("1h");
pub const IDLE_TIMEOUT: Setting = Setting::new(
    "DESCARTES_IDLE_TIMEOUT",
    "idle-timeout",
    "DURATION",
    "How long the agent may give no sign of life; 0 for ever",
)
.default("15m");
pub const STOP_WINDOW: Setting = Setting::new(
    "DESCARTES_STOP_WINDOW", "stop-window", "DURATION",
    "What the platform grants between its stop signal and the kill; the agent's grace and the last callback share it",
).default("5s");
pub const CHECKS: Setting = Setting::new(
    "DESCARTES_CHECKS",
    "checks",
    "COMMANDS",
    "Commands that must pass, one per line, or none; where unset, those of .scud/config.toml",
);
pub const REPAIRS: Setting = Setting::new(
    "DESCARTES_REPAIRS",
    "repairs",
    "COUNT",
    "How often failed checks go back to the agent",
)
.default("1");
pub const CALLBACK_TIMEOUT: Setting = Setting::new(
    "DESCARTES_CALLBACK_TIMEOUT",
    "callback-timeout",
    "DURATION",
    "How long one callback request may take",
)
.default("10s");
pub const CLAIM_DEADLINE: Setting = Setting::new(
    "DESCARTES_CLAIM_DEADLINE",
    "claim-deadline",
    "DURATION",
    "How long to try to claim the task",
)
.default("60s");
pub const FINISH_DEADLINE: Setting = Setting::new(
    "DESCARTES_FINISH_DEADLINE",
    "finish-deadline",
    "DURATION",
    "How long to try to deliver the outcome",
)
.default("15m");
pub const HEARTBEAT: Setting = Setting::new(
    "DESCARTES_HEARTBEAT",
    "heartbeat",
    "DURATION",
    "How often to tell the orchestrator how it goes; 0 for never",
)
.default("15s");
pub const CALLBACK_SECRET: Setting = Setting::unflagged(
    "DESCARTES_CALLBACK_SECRET",
    "Signs every callback as Standard Webhooks has it: whsec_ and base64, several separated by spaces",
);
pub const CALLBACK_TOKEN: Setting = Setting::unflagged(
    "DESCARTES_CALLBACK_TOKEN",
    "The bearer token of every callback",
);
pub const CALLBACK_OIDC_AUDIENCE: Setting = Setting::new(
    "DESCARTES_CALLBACK_OIDC_AUDIENCE",
    "callback-oidc-audience",
    "AUDIENCE",
    "On Fly: the machine's identity token for this audience is the bearer token",
);
pub const CALLBACK_OIDC_SOCKET: Setting = Setting::new(
    "DESCARTES_CALLBACK_OIDC_SOCKET",
    "callback-oidc-socket",
    "PATH",
    "The platform's socket that gives identity tokens",
)
.default("/.fly/api");
pub const TRACEPARENT: Setting = Setting::unflagged(
    "TRACEPARENT",
    "The trace that this run belongs to (W3C Trace Context); sent with every callback",
);
pub const RUST_LOG: Setting = Setting::new(
    "DESCARTES_RUST_LOG",
    "log",
    "FILTER",
    "Log filter: off, error, warn, info, debug, trace, or target=level, separated by commas",
)
.bare("RUST_LOG")
.default("info");
pub const LOG_FORMAT: Setting = Setting::new(
    "DESCARTES_LOG_FORMAT",
    "log-format",
    "FORMAT",
    "pretty, json, or auto: pretty on a terminal, else json",
)
.default("auto");

pub const ANTHROPIC_API_KEY: Setting = Setting::unflagged(
    "DESCARTES_ANTHROPIC_API_KEY",
    "The key of the model's service, for the agents that need one",
)
.bare("ANTHROPIC_API_KEY");
pub const ANTHROPIC_AUTH_TOKEN: Setting =
    Setting::unflagged("ANTHROPIC_AUTH_TOKEN", "A bearer token instead of the key");
pub const ANTHROPIC_BASE_URL: Setting = Setting::unflagged(
    "ANTHROPIC_BASE_URL",
    "Where the model's service is, if not at its usual place",
);
pub const CLAUDE_CODE_OAUTH_TOKEN: Setting = Setting::unflagged(
    "CLAUDE_CODE_OAUTH_TOKEN",
    "A subscription's token, for Claude Code",
);
pub const IS_SANDBOX: Setting = Setting::unflagged(
    "IS_SANDBOX",
    "1 where nothing on the machine is worth protecting, so that Claude Code works for root, too",
);
/// What an agent needs to reach its model; given to it, never to the checks.
pub const MODEL_ACCESS: [&Setting; 4] = [
    &ANTHROPIC_API_KEY,
    &ANTHROPIC_AUTH_TOKEN,
    &ANTHROPIC_BASE_URL,
    &CLAUDE_CODE_OAUTH_TOKEN,
];

/// Set by `local` for its worker only.
pub const STOP_AT_END_OF_STDIN: Setting = Setting::unflagged(
    "DESCARTES_STOP_AT_END_OF_STDIN",
    "Whether to stop when standard input, a pipe, ends",
)
.default("false");
/// Set by `local` for its worker only.
pub const TASK_LOCK: Setting = Setting::unflagged(
    "DESCARTES_TASK_LOCK",
    "A file to keep locked until the worker has ended",
);

/// `receive` only.
pub const LISTEN: Setting =
    Setting::new("DESCARTES_LISTEN", "listen", "ADDRESS", "Where to listen")
        .default("127.0.0.1:8080");

/// What a worker can be told, in the order of the help.
pub const WORKER: [&Setting; 41] = [
    &TASK_ID,
    &PROJECT_ID,
    &CALLBACK_URL,
    &RUN_ID,
    &REPO,
    &REF,
    &BRANCH,
    &GIT_NAME,
    &GIT_EMAIL,
    &GIT_IDLE_TIMEOUT,
    &WORKSPACE,
    &TAG,
    &FORCE,
    &AGENT,
    &AGENT_COMMAND,
    &AGENT_ENV,
    &MODEL,
    &MAX_TURNS,
    &MAX_BUDGET_USD,
    &TASK_TIMEOUT,
    &IDLE_TIMEOUT,
    &STOP_WINDOW,
    &CHECKS,
    &REPAIRS,
    &CALLBACK_TIMEOUT,
    &CLAIM_DEADLINE,
    &FINISH_DEADLINE,
    &CALLBACK_OIDC_AUDIENCE,
    &CALLBACK_OIDC_SOCKET,
    &HEARTBEAT,
    &RUST_LOG,
    &LOG_FORMAT,
    &CALLBACK_SECRET,
    &CALLBACK_TOKEN,
    &GIT_TOKEN,
    &TRACEPARENT,
    &ANTHROPIC_API_KEY,
    &ANTHROPIC_AUTH_TOKEN,
    &ANTHROPIC_BASE_URL,
    &CLAUDE_CODE_OAUTH_TOKEN,
    &IS_SANDBOX,
];

/// The flags that `local` does not have: it sets them itself, or calls them differently.
const NOT_FOR_LOCAL: [&str; 2] = ["callback-url", "workspace"];
/// The flags that `demo` does not have: it makes its own project.
const NOT_FOR_DEMO: [&str; 9] = [
    "branch",
    "callback-url",
    "git-email",
    "git-idle-timeout",
    "git-name",
    "ref",
    "repo",
    "task",
    "workspace",
];

/// The command line. The flags of subcommands are made only where one is given: a worker is in a
/// hurry to claim its task.
pub fn cli() -> Command {
    let name = env!("CARGO_PKG_NAME");
    with_worker(Command::new(name))
        .version(env!("CARGO_PKG_VERSION"))
        .about("Runs one coding-agent task: claims it, supervises the agent, checks the work, reports the outcome exactly once")
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .subcommand(
            Command::new("demo")
                .about("The whole life of a worker on a sample project, nothing to set up")
                .defer(|demo| demo.args(flags_except(&NOT_FOR_DEMO))),
        )
        .subcommand(
            Command::new("local")
                .about("One task of a project on this machine, under an embedded orchestrator")
                .defer(|local| {
                    let project = Arg::new("project")
                        .long("project")
                        .value_name("DIR")
                        .help("The project's directory; with --repo, the directory to clone to [DESCARTES_WORKSPACE; default: the current directory, with --repo a new temporary one]")
                        .value_parser(value_parser!(std::path::PathBuf));
                    local.arg(project).args(flags_except(&NOT_FOR_LOCAL)).after_help(unflagged())
                }),
        )
        .subcommand(
            Command::new("receive")
                .about("The embedded orchestrator alone: prints, and verifies, what workers report")
                .defer(|receive| receive.args([&LISTEN, &RUST_LOG, &LOG_FORMAT].into_iter().filter_map(flag))),
        )
        .subcommand(
            Command::new("check")
                .about("Is everything here that a run would need? One line each, exit 0 or 2")
                .defer(with_worker),
        )
        .subcommand(
            Command::new("merge-graph")
                .about("A merge driver for git: letters of a task graph that two branches have changed")
                .defer(|merge| {
                    let file = |name, help| {
                        let path = value_parser!(std::path::PathBuf);
                        Arg::new(name).required(true).value_parser(path).help(help)
                    };
                    merge.args([
                        file("base", "The version that both began with (%O)"),
                        file("ours", "Our version, and what the merge is written to (%A)"),
                        file("theirs", "Their version (%B)"),
                    ])
                }),
        )
        // For the worker itself, which starts it as its own child.
        .subcommand(
            Command::new(BUILTIN)
                .hide(true)
                .about("The built-in agent: the prompt on standard input, what it does as stream-json on standard output")
                .defer(|agent| {
                    let session = Arg::new("session")
                        .long("session")
                        .value_name("FILE")
                        .help("Where the conversation is kept from one round to the next")
                        .value_parser(value_parser!(std::path::PathBuf));
                    let settings = [&MODEL, &MAX_TURNS, &MAX_BUDGET_USD, &IDLE_TIMEOUT, &RUST_LOG, &LOG_FORMAT];
                    agent.arg(session).args(settings.into_iter().filter_map(flag))
                }),
        )
        .subcommand(Command::new("completions").about("Prints a completion script").defer(|completions| {
            let shell = Arg::new("shell").required(true);
            completions.arg(shell.value_parser(value_parser!(clap_complete::Shell)))
        }))
}

/// A command that takes all of the worker's settings.
fn with_worker(command: Command) -> Command {
    command
        .args(WORKER.into_iter().filter_map(flag))
        .after_help(unflagged())
}

/// The worker's flags except some.
fn flags_except(excluded: &[&str]) -> impl Iterator<Item = Arg> {
    let flags = WORKER.into_iter().filter_map(flag);
    flags.filter(|arg| !excluded.contains(&arg.get_id().as_str()))
}

/// The settings that are no flags, for the end of the help.
fn unflagged() -> String {
    let unflagged = WORKER.into_iter().filter(|setting| setting.flag.is_none());
    let lines =
        unflagged.map(|setting| format!("\n  {}\n          {}", setting.name(), setting.help));
    format!("From the environment only:{}", lines.collect::<String>())
}

/// The flag of a setting. clap only collects words; what is wrong with them is said together with
/// what is wrong in the environment.
fn flag(setting: &Setting) -> Option<Arg> {
    let flag = setting.flag?;
    let default = setting
        .default
        .map(|default| format!("; default: {default}"))
        .unwrap_or_default();
    let arg = Arg::new(flag)
        .long(flag)
        .value_name(setting.value)
        .action(ArgAction::Set)
        .allow_hyphen_values(true)
        .value_parser(value_parser!(std::ffi::OsString))
        .help(format!("{} [{}{default}]", setting.help, setting.name()));
    Some(match setting.value {
        "BOOL" => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        _ => arg,
    })
}
