//! The table of all settings; the command line is made from it.
//!
//! [`super::reader`] reads the values, [`super::values`] parses them.

use clap::{Arg, ArgAction, Command, value_parser};

use crate::builtin::COMMAND as BUILTIN;
use crate::gateway::COMMAND as GATEWAY;

/// One setting: an environment variable, and a flag unless it is a secret.
#[derive(Debug)]
pub struct Setting {
    /// The variable's full name.
    pub variable: &'static str,
    /// A shorter name of the variable, which wins over the full one.
    pub bare: Option<&'static str>,
    /// The flag without its dashes. Secrets have no flag, because every process can read the arguments of
    /// every other.
    pub flag: Option<&'static str>,
    /// The placeholder for the value in the help.
    pub value: &'static str,
    /// The default value, as a user would write it.
    pub default: Option<&'static str>,
    /// What an unset setting means, in words, for settings without a default value.
    pub when_unset: Option<&'static str>,
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
            when_unset: None,
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

    const fn when_unset(self, meaning: &'static str) -> Self {
        Self {
            when_unset: Some(meaning),
            ..self
        }
    }

    /// A setting without a flag: a secret, or a variable that other programs define.
    const fn unflagged(variable: &'static str, help: &'static str) -> Self {
        Self {
            variable,
            bare: None,
            flag: None,
            value: "",
            default: None,
            when_unset: None,
            help,
        }
    }

    /// The name of the variable in messages and in the help.
    pub fn name(&self) -> &'static str {
        self.bare.unwrap_or(self.variable)
    }
}

/// Defines the settings of a worker, and `WORKER`, the list of them in the order of the help.
macro_rules! settings {
    ($($(#[$attribute:meta])* pub const $name:ident: Setting = $setting:expr;)*) => {
        $($(#[$attribute])* pub const $name: Setting = $setting;)*

        /// All settings of a worker, in the order of the help.
        pub const WORKER: &[&Setting] = &[$(&$name),*];
    };
}

settings! {
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
    "The orchestrator's http or https URL; /started and the other routes are appended to it",
)
.bare("CALLBACK_URL");
pub const RUN_ID: Setting = Setting::new(
    "DESCARTES_RUN_ID",
    "run-id",
    "ID",
    "The orchestrator's name for this attempt; it must differ between attempts",
)
.when_unset("a random id");
pub const REPO: Setting = Setting::new(
    "DESCARTES_REPO",
    "repo",
    "URL",
    "The URL of the git repository to clone (https, ssh, git or file)",
)
.when_unset("no clone; the workspace is used as it is");
pub const REF: Setting = Setting::new(
    "DESCARTES_REF",
    "ref",
    "REF",
    "The branch, tag or commit to check out",
)
.when_unset("the default branch");
pub const BRANCH: Setting = Setting::new(
    "DESCARTES_BRANCH",
    "branch",
    "BRANCH",
    "The branch to push the work to, or none to push nothing",
)
.when_unset("descartes/<project>/<task>");
pub const GIT_NAME: Setting = Setting::new(
    "DESCARTES_GIT_NAME",
    "git-name",
    "NAME",
    "The author's name in commits",
)
.default("descartes-worker");
pub const GIT_EMAIL: Setting = Setting::new(
    "DESCARTES_GIT_EMAIL",
    "git-email",
    "EMAIL",
    "The author's e-mail address in commits",
)
.default("descartes-worker@localhost");
pub const GIT_IDLE_TIMEOUT: Setting = Setting::new(
    "DESCARTES_GIT_IDLE_TIMEOUT",
    "git-idle-timeout",
    "DURATION",
    "How long a clone or a push may make no progress",
)
.default("60s");
pub const WORKSPACE: Setting = Setting::new(
    "DESCARTES_WORKSPACE",
    "workspace",
    "DIR",
    "The directory that the agent works in; a clone needs it empty or absent",
)
.when_unset("the current directory, or a new temporary one when cloning");
pub const SUBMODULES: Setting = Setting::new(
    "DESCARTES_SUBMODULES",
    "submodules",
    "BOOL",
    "Whether the submodules are cloned too, with their own submodules",
)
.default("false");
pub const LFS: Setting = Setting::new(
    "DESCARTES_LFS",
    "lfs",
    "BOOL",
    "Whether the files that Git LFS keeps elsewhere are fetched; otherwise their pointers stay in the clone",
)
.default("false");
pub const KEEP_WORKSPACE: Setting = Setting::new(
    "DESCARTES_KEEP_WORKSPACE",
    "keep-workspace",
    "BOOL",
    "Whether a clone in a temporary directory stays when the run has ended",
)
.default("false");
pub const TAG: Setting = Setting::new(
    "DESCARTES_TAG",
    "tag",
    "PHASE",
    "The SCUD phase to look in, if the task's id occurs in several phases",
)
.when_unset("the phase in .scud/active-tag");
pub const FORCE: Setting = Setting::new(
    "DESCARTES_FORCE",
    "force",
    "BOOL",
    "Run the task even if it is done, cancelled or expanded",
)
.default("false");
pub const AGENT: Setting = Setting::new("DESCARTES_AGENT", "agent", "KIND", "The kind of agent: command, claude-code, builtin, or auto for the first of them that can work here").default("auto");
pub const AGENT_COMMAND: Setting = Setting::new(
    "DESCARTES_AGENT_COMMAND",
    "agent-command",
    "COMMAND",
    "The command line of the agent, run by sh -c in the workspace; the prompt is on its standard input and in $DESCARTES_PROMPT_FILE",
);
pub const AGENT_ENV: Setting = Setting::new(
    "DESCARTES_AGENT_ENV",
    "agent-env",
    "NAMES",
    "Names of further variables to pass to the agent and the checks, separated by commas or spaces",
);
pub const AGENT_ENV_FILE: Setting = Setting::new(
    "DESCARTES_AGENT_ENV_FILE",
    "agent-env-file",
    "FILE",
    "A JSON file with variables for the agent and the checks; the worker itself does not use them",
);
pub const ISOLATION: Setting = Setting::new(
    "DESCARTES_ISOLATION",
    "isolation",
    "MODE",
    "What separates the agent and the checks from the worker: auto for the best that this machine allows, strict for a PID namespace or no run, off for nothing",
)
.default("auto");
pub const MODEL: Setting = Setting::new(
    "DESCARTES_MODEL",
    "model",
    "MODEL",
    "The model, for agents that let you choose one; it wins over the agent definition's",
)
.when_unset("the agent definition's, or the agent's own");
pub const MAX_TURNS: Setting = Setting::new("DESCARTES_MAX_TURNS", "max-turns", "COUNT", "How many answers of its model the agent may use, repairs included; an agent command has no such limit").when_unset("no limit");
pub const MAX_BUDGET_USD: Setting = Setting::new(
    "DESCARTES_MAX_BUDGET_USD",
    "max-budget-usd",
    "DOLLARS",
    "How many US dollars the agent may spend, repairs included; for an agent command only the model gateway enforces it",
)
.when_unset("no limit");
pub const MAX_TOKENS: Setting = Setting::new(
    "DESCARTES_MAX_TOKENS",
    "max-tokens",
    "COUNT",
    "How many tokens the agent may use in all its requests together, cached ones and repairs included; the model gateway enforces it",
)
.when_unset("no limit");
pub const MODEL_GATEWAY: Setting = Setting::new(
    "DESCARTES_MODEL_GATEWAY",
    "model-gateway",
    "MODE",
    "Whether a separate process keeps the key of the model's service away from the agent: auto if there is a key or token, or off",
)
.default("auto");
pub const TASK_TIMEOUT: Setting = Setting::new(
    "DESCARTES_TASK_TIMEOUT",
    "task-timeout",
    "DURATION",
    "How long the agent and the checks may take together; cloning has its own limit of one hour",
)
.default("1h");
pub const IDLE_TIMEOUT: Setting = Setting::new(
    "DESCARTES_IDLE_TIMEOUT",
    "idle-timeout",
    "DURATION",
    "How long the agent may print nothing; 0 for no limit",
)
.default("15m");
pub const STOP_WINDOW: Setting = Setting::new("DESCARTES_STOP_WINDOW", "stop-window", "DURATION", "How long the platform waits between its stop signal and the kill; the agent's grace period, the push and the last callback share this time").default("5s");
pub const CHECKS: Setting = Setting::new(
    "DESCARTES_CHECKS",
    "checks",
    "COMMANDS",
    "Commands that must pass, one per line, or none to run no checks",
)
.when_unset("the commands in .scud/config.toml");
pub const REPAIRS: Setting = Setting::new(
    "DESCARTES_REPAIRS",
    "repairs",
    "COUNT",
    "How often the agent may try to repair a failed check",
)
.default("1");
pub const ONLY_CHECKS: Setting = Setting::new(
    "DESCARTES_ONLY_CHECKS",
    "only-checks",
    "BOOLEAN",
    "Run the project's checks and nothing else: no agent works, the task is not looked up, nothing is pushed",
)
.default("false");
pub const NOTE: Setting = Setting::new(
    "DESCARTES_NOTE",
    "note",
    "TEXT",
    "Further text for the agent's first prompt, for example why an earlier run of the task failed; at most 16 KiB are used",
)
.when_unset("no further text");
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
    "How long the worker tries to claim the task",
)
.default("60s");
pub const FINISH_DEADLINE: Setting = Setting::new(
    "DESCARTES_FINISH_DEADLINE",
    "finish-deadline",
    "DURATION",
    "How long the worker tries to deliver the outcome",
)
.default("15m");
pub const CALLBACK_SECRET: Setting = Setting::unflagged(
    "DESCARTES_CALLBACK_SECRET",
    "The secret that signs every callback as Standard Webhooks specifies: whsec_ and base64; separate several by spaces",
);
pub const CALLBACK_TOKEN: Setting = Setting::unflagged(
    "DESCARTES_CALLBACK_TOKEN",
    "The bearer token sent with every callback",
);
pub const GIT_TOKEN: Setting = Setting::unflagged(
    "DESCARTES_GIT_TOKEN",
    "The access token for https remotes, used to clone and to push",
);
pub const CALLBACK_OIDC_AUDIENCE: Setting = Setting::new(
    "DESCARTES_CALLBACK_OIDC_AUDIENCE",
    "callback-oidc-audience",
    "AUDIENCE",
    "On Fly: send the machine's identity token for this audience as the bearer token",
);
pub const CALLBACK_OIDC_SOCKET: Setting = Setting::new(
    "DESCARTES_CALLBACK_OIDC_SOCKET",
    "callback-oidc-socket",
    "PATH",
    "The platform's socket that issues identity tokens",
)
.default("/.fly/api");
pub const HEARTBEAT: Setting = Setting::new(
    "DESCARTES_HEARTBEAT",
    "heartbeat",
    "DURATION",
    "How often the worker reports progress to the orchestrator; 0 for never",
)
.default("15s");
pub const TRACEPARENT: Setting = Setting::unflagged(
    "TRACEPARENT",
    "The trace that this run belongs to (W3C Trace Context), sent with every callback",
);
pub const RUST_LOG: Setting = Setting::new(
    "DESCARTES_RUST_LOG",
    "log",
    "FILTER",
    "The log filter: off, error, warn, info, debug, trace, or target=level, separated by commas",
)
.bare("RUST_LOG")
.default("info");
pub const LOG_FORMAT: Setting = Setting::new(
    "DESCARTES_LOG_FORMAT",
    "log-format",
    "FORMAT",
    "The log format: pretty, json, or auto for pretty on a terminal and json elsewhere",
)
.default("auto");

pub const ANTHROPIC_API_KEY: Setting = Setting::unflagged(
    "DESCARTES_ANTHROPIC_API_KEY",
    "The key of the model's service, for agents that need one",
)
.bare("ANTHROPIC_API_KEY");
pub const ANTHROPIC_AUTH_TOKEN: Setting = Setting::unflagged(
    "ANTHROPIC_AUTH_TOKEN",
    "A bearer token for the model's service, for use instead of the key",
);
pub const ANTHROPIC_BASE_URL: Setting =
    Setting::unflagged("ANTHROPIC_BASE_URL", "The URL of the model's service")
        .when_unset("https://api.anthropic.com");
pub const CLAUDE_CODE_OAUTH_TOKEN: Setting = Setting::unflagged(
    "CLAUDE_CODE_OAUTH_TOKEN",
    "The OAuth token of a Claude subscription, for Claude Code",
);
pub const OPENAI_API_KEY: Setting = Setting::unflagged(
    "DESCARTES_OPENAI_API_KEY",
    "The key of an OpenAI-style service, for agent commands that need one",
)
.bare("OPENAI_API_KEY");
pub const OPENAI_BASE_URL: Setting =
    Setting::unflagged("OPENAI_BASE_URL", "The URL of the OpenAI-style service")
        .when_unset("https://api.openai.com/v1");
pub const IS_SANDBOX: Setting = Setting::unflagged(
    "IS_SANDBOX",
    "Set to 1 to let Claude Code run as root, on a machine that holds nothing worth protecting",
);
}

/// The settings with which an agent reaches its model; the checks do not get them.
pub const MODEL_ACCESS: [&Setting; 6] = [
    &ANTHROPIC_API_KEY,
    &ANTHROPIC_AUTH_TOKEN,
    &ANTHROPIC_BASE_URL,
    &CLAUDE_CODE_OAUTH_TOKEN,
    &OPENAI_API_KEY,
    &OPENAI_BASE_URL,
];

/// Whether a variable holds a key that the model gateway keeps.
pub fn is_model_key(name: &str) -> bool {
    [&ANTHROPIC_API_KEY, &ANTHROPIC_AUTH_TOKEN, &OPENAI_API_KEY]
        .into_iter()
        .any(|setting| setting.name() == name)
}

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

/// Set by `dispatch` for its workers only.
pub const NEW_SESSION: Setting = Setting::unflagged(
    "DESCARTES_NEW_SESSION",
    "Whether the worker begins a session of its own, so that it outlives who has started it",
)
.default("false");

pub const DISPATCH_STATE: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_STATE",
    "The directory with the journal, the runs' logs and the integration repository of a dispatch",
)
.when_unset("one for each project and branch in $XDG_STATE_HOME/descartes");
pub const DISPATCH_LISTEN: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_LISTEN",
    "The address that a dispatch listens on for its workers",
)
.when_unset("a free port of the loopback interface; after a restart the same one");
pub const DISPATCH_URL: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_URL",
    "The callback URL that the workers of a dispatch are told, if there is a proxy in front of it",
)
.when_unset("the address that the dispatch listens on");
pub const DISPATCH_START_DEADLINE: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_START_DEADLINE",
    "How long a worker of a dispatch may take to claim its task",
)
.default("5m");
pub const DISPATCH_RETRY_DELAY: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_RETRY_DELAY",
    "How long a dispatch waits before the second attempt at a task; the pause doubles with every further one",
)
.default("10s");

pub const DISPATCH_IMAGE: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_IMAGE",
    "The image of the workers' containers, by name, tag or digest; its entrypoint is descartes-worker",
)
.when_unset("no image; the engine docker needs one");
pub const DISPATCH_MEMORY: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_MEMORY",
    "How much memory a worker's container may use, for example 2GiB",
)
.when_unset("no limit");
pub const DISPATCH_CPUS: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_CPUS",
    "How many processors a worker's container may use, for example 1.5",
)
.when_unset("no limit");
pub const DISPATCH_NETWORK: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_NETWORK",
    "The Docker network of the workers' containers; host for the network of the Docker Engine's machine",
)
.default("bridge");
pub const DOCKER_HOST: Setting = Setting::unflagged(
    "DOCKER_HOST",
    "The address of the Docker Engine: unix:///path or tcp://host:port",
)
.default("unix:///var/run/docker.sock");

pub const DISPATCH_COMMAND_START: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_COMMAND_START",
    "The command line that starts a worker, for the engine command",
)
.when_unset("no command; the engine command needs one");
pub const DISPATCH_COMMAND_LOOK: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_COMMAND_LOOK",
    "The command line that prints the state of a worker, for the engine command",
)
.when_unset("no command; the engine command needs one");
pub const DISPATCH_COMMAND_STOP: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_COMMAND_STOP",
    "The command line that ends a worker and removes what is left of it, for the engine command",
)
.when_unset("no command; the engine command needs one");

/// `dispatch` only.
pub const DISPATCH: [&Setting; 13] = [
    &DISPATCH_STATE,
    &DISPATCH_LISTEN,
    &DISPATCH_URL,
    &DISPATCH_START_DEADLINE,
    &DISPATCH_RETRY_DELAY,
    &DISPATCH_IMAGE,
    &DISPATCH_MEMORY,
    &DISPATCH_CPUS,
    &DISPATCH_NETWORK,
    &DOCKER_HOST,
    &DISPATCH_COMMAND_START,
    &DISPATCH_COMMAND_LOOK,
    &DISPATCH_COMMAND_STOP,
];

/// `receive` only.
pub const LISTEN: Setting = Setting::new(
    "DESCARTES_LISTEN",
    "listen",
    "ADDRESS",
    "The address that the receiver listens on",
)
.default("127.0.0.1:8080");

/// The settings without which no worker starts.
pub const REQUIRED: [&Setting; 3] = [&TASK_ID, &PROJECT_ID, &CALLBACK_URL];

/// The flags that `local` does not have: it sets them itself, or calls them differently.
const NOT_FOR_LOCAL: [&str; 2] = ["callback-url", "workspace"];
/// The flags that `dispatch` does not have: it sets them itself, or means something else by them.
const NOT_FOR_DISPATCH: [&str; 10] = [
    "branch",
    "callback-oidc-audience",
    "callback-oidc-socket",
    "callback-url",
    "force",
    "max-budget-usd",
    "ref",
    "run-id",
    "task",
    "workspace",
];
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

/// The command line. The flags of a subcommand are made only if it is used, so that a worker starts fast.
pub fn cli() -> Command {
    let name = env!("CARGO_PKG_NAME");
    with_worker(Command::new(name))
        .version(env!("CARGO_PKG_VERSION"))
        .about("Runs one coding-agent task: claims it, supervises the agent, checks the work, reports the outcome exactly once")
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .subcommand(
            Command::new("demo")
                .about("Runs a worker on a sample project; needs no set-up")
                .defer(|demo| {
                    let graph = Arg::new("graph").long("graph").action(ArgAction::SetTrue);
                    let graph = graph.help("Works through the whole graph of another sample project, as dispatch does");
                    demo.arg(graph).args(flags_except(&NOT_FOR_DEMO))
                }),
        )
        .subcommand(
            Command::new("local")
                .about("Runs one task of a project on this machine, under an embedded orchestrator")
                .defer(|local| {
                    let project = Arg::new("project")
                        .long("project")
                        .value_name("DIR")
                        .help("The project's directory; with --repo, the directory to clone to [DESCARTES_WORKSPACE; default: the current directory, with --repo a new temporary one]")
                        .value_parser(value_parser!(std::path::PathBuf));
                    local.arg(project).args(flags_except(&NOT_FOR_LOCAL)).after_help(unflagged())
                }),
        )
        .subcommand(dispatch())
        .subcommand(tasks())
        .subcommand(
            Command::new("receive")
                .about("Runs the embedded orchestrator alone: prints what workers report, and checks fields, order and signatures")
                .defer(|receive| {
                    let settings = [&LISTEN, &RUST_LOG, &LOG_FORMAT];
                    receive.args(settings.into_iter().filter_map(flag)).args(receive_only())
                }),
        )
        .subcommand(probe())
        .subcommand(
            Command::new("check")
                .about("Checks whether everything that a run needs is there; asks the repository, but not the orchestrator")
                .defer(|check| {
                    let switch = |name, help| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
                    with_worker(check.args([
                        switch("local", "For a run with `local`: PROJECT_ID and CALLBACK_URL are not needed"),
                        switch("json", "Print the findings as JSON"),
                    ]))
                }),
        )
        .subcommand(
            Command::new("merge-graph")
                .about("Merges two versions of a task graph, as a merge driver for git")
                .defer(|merge| {
                    let file = |name, help| {
                        let path = value_parser!(std::path::PathBuf);
                        Arg::new(name).required(true).value_parser(path).help(help)
                    };
                    merge.args([
                        file("base", "The common ancestor of both versions (%O)"),
                        file("ours", "Our version; the result is written to this file (%A)"),
                        file("theirs", "Their version (%B)"),
                    ])
                }),
        )
        // The worker starts this command itself.
        .subcommand(
            Command::new(BUILTIN)
                .hide(true)
                .about("The built-in agent: the prompt on standard input, what it does as stream-json on standard output")
                .defer(|agent| {
                    let session = Arg::new("session")
                        .long("session")
                        .value_name("FILE")
                        .help("The file that keeps the conversation from one round to the next")
                        .value_parser(value_parser!(std::path::PathBuf));
                    let settings = [
                        &AGENT_ENV, &AGENT_ENV_FILE, &MODEL, &MAX_TURNS, &MAX_BUDGET_USD, &IDLE_TIMEOUT, &RUST_LOG,
                        &LOG_FORMAT,
                    ];
                    agent.arg(session).args(settings.into_iter().filter_map(flag))
                }),
        )
        .subcommand(
            Command::new(GATEWAY)
                .hide(true)
                .about("The model gateway: gets the keys on standard input, and forwards the agent's requests to the model's service"),
        )
        .subcommand(
            Command::new("vocabulary")
                .hide(true)
                .about("Prints the settings, exit codes and other words of this program as JSON, for the tests of the documentation"),
        )
        .subcommand(Command::new("completions").about("Prints a completion script for a shell").defer(|completions| {
            let shell = Arg::new("shell").required(true);
            completions.arg(shell.value_parser(value_parser!(clap_complete::Shell)))
        }))
}

fn dispatch() -> Command {
    Command::new("dispatch")
                .about("Works through a project's whole graph: starts a worker for every ready task, merges what is done, until nothing is left")
                .defer(|dispatch| {
                    let variables = DISPATCH.map(|setting| {
                        format!("\n  {}\n          {}", setting.name(), setting.help)
                    });
                    dispatch
                        .args(dispatch_only())
                        .args(flags_except(&NOT_FOR_DISPATCH))
                        .after_help(unflagged() + &variables.concat())
                })
}

fn tasks() -> Command {
    Command::new("tasks")
        .about(
            "Lists the tasks of a project: what is ready, what waits, and what is blocked and why",
        )
        .defer(|tasks| {
            let switch = |name, help| {
                Arg::new(name)
                    .long(name)
                    .action(ArgAction::SetTrue)
                    .help(help)
            };
            let project = Arg::new("project")
                .long("project")
                .value_name("DIR")
                .help(
                    "The project's directory [DESCARTES_WORKSPACE; default: the current directory]",
                )
                .value_parser(value_parser!(std::path::PathBuf));
            let settings = [&TAG, &RUST_LOG, &LOG_FORMAT];
            tasks
                .arg(project)
                .args(settings.into_iter().filter_map(flag))
                .args([
                    switch(
                        "ready",
                        "Only the tasks that are ready, the most important first",
                    )
                    .conflicts_with("blocked"),
                    switch("blocked", "Only the tasks that are blocked, and why"),
                    switch("json", "Print the tasks as JSON"),
                ])
        })
}

/// The arguments of `dispatch` that no variable sets.
fn dispatch_only() -> Vec<Arg> {
    let arg = |name, value, help| Arg::new(name).long(name).value_name(value).help(help);
    let switch = |name, help| {
        Arg::new(name)
            .long(name)
            .action(ArgAction::SetTrue)
            .help(help)
    };
    let path = value_parser!(std::path::PathBuf);
    vec![
        Arg::new("action")
            .value_name("ACTION")
            .value_parser(["status", "retry", "skip", "cancel"])
            .help("A word with the dispatch that runs: status; retry, skip or cancel with a TASK; cancel alone for all"),
        Arg::new("task-of-action").value_name("TASK").help("The task to retry, skip or cancel"),
        arg("project", "DIR", "The project's directory [default: the current directory]")
            .value_parser(path.clone()),
        arg("base", "REF", "The branch, tag or commit to begin at [default: the project's HEAD]"),
        arg("branch", "BRANCH", "The branch for the merged work [default: descartes/<phase>]"),
        arg("into", "BRANCH", "Move this branch forward to the merged work at the end, if it can be"),
        switch("all-phases", "Work on all phases; needs --branch").conflicts_with("tag"),
        arg("only", "IDS", "Only these tasks, separated by commas; a split task stands for its subtasks"),
        arg("engine", "ENGINE", "Where workers run: local, docker or command; local=2 for at most two. Can be repeated: the first one with room gets the next run [default: local]")
            .action(ArgAction::Append),
        arg("jobs", "COUNT", "How many workers at a time [default: as many as the engines may have, or half as many as there are cores, at least 2]"),
        arg("attempts", "COUNT", "How many attempts a task has [default: 3]"),
        arg("max-budget-usd", "DOLLARS", "How much all agents together may spend before nothing new starts; DESCARTES_MAX_BUDGET_USD limits each one"),
        arg("verify", "WHEN", "When the checks run on merged work: changed (if the merged tree differs from the one that a run has checked), always, end or never [default: changed]")
            .value_parser(["changed", "always", "end", "never"]),
        switch("plan", "Print what would run in which order, and what is blocked and why; start nothing"),
        switch("fresh", "Put the journal of the last dispatch aside; what is on the branch stays done"),
        switch("json", "Print every journal entry as a line of JSON"),
        arg("report", "FILE", "Write a report as JSON at the end").value_parser(path),
    ]
}

/// The flags that only `receive` has. A variable sets `--secret` too; the others are flags only.
fn receive_only() -> [Arg; 5] {
    let arg = |name, value, help| Arg::new(name).long(name).value_name(value).help(help);
    [
        arg(
            "secret",
            "SECRET",
            "Accepts only requests with a signature by this secret (whsec_ and base64; several separated by spaces). \
             Other users of this machine can read flags: the variable is safer [DESCARTES_CALLBACK_SECRET]",
        ),
        arg(
            "lease",
            "DURATION",
            "How long a task stays with a worker that sends nothing; default: four of its heartbeat intervals, at least 60s",
        ),
        Arg::new("again").long("again").action(ArgAction::SetTrue).help(
            "Grants also tasks that are completed, or failed in a way that another run would not change",
        ),
        arg(
            "cancel",
            "ID",
            "Cancels this task, or this run, at each of its heartbeats; can be repeated",
        )
        .action(ArgAction::Append),
        arg(
            "answer",
            "ROUTE=STATUS",
            "Answers started, progress, completed or failed with this status; several, separated by commas, are used in \
             order and the last one stays; ok is the normal answer: started=503,503,ok. Can be repeated",
        )
        .action(ArgAction::Append),
    ]
}

fn probe() -> Command {
    Command::new("probe")
        .about("Tests an orchestrator: sends the events of sample runs, and says which rules of the protocol it keeps")
        .defer(|probe| {
            let settings = [&PROJECT_ID, &CALLBACK_TIMEOUT, &CALLBACK_OIDC_AUDIENCE, &CALLBACK_OIDC_SOCKET, &RUST_LOG, &LOG_FORMAT];
            probe.args(probe_only()).args(settings.into_iter().filter_map(flag)).after_help(
                "From the environment only:\n  DESCARTES_CALLBACK_SECRET, DESCARTES_CALLBACK_TOKEN, SSL_CERT_FILE: as for a worker",
            )
        })
}

/// The arguments of `probe` that no variable sets, but for the URL's.
fn probe_only() -> [Arg; 6] {
    let arg = |name, value, help| Arg::new(name).long(name).value_name(value).help(help);
    let switch = |name, help| {
        let arg = Arg::new(name).long(name).help(help);
        arg.action(ArgAction::SetTrue)
    };
    [
        // Read like the flag of the setting.
        Arg::new("callback-url")
            .value_name("URL")
            .value_parser(value_parser!(std::ffi::OsString))
            .help("The orchestrator's callback URL [CALLBACK_URL]"),
        arg(
            "task",
            "ID",
            "A task that the orchestrator knows and that nobody works on; up to four, one flag for each: the first is completed, \
             the second is claimed by several runs at once, the third is left silent, the fourth is cancelled; default: probe-1 to probe-4",
        )
        .action(ArgAction::Append),
        arg(
            "other-project-id",
            "ID",
            "Another project that has a task of the same id as the first; default: the project's id and -other",
        ),
        arg(
            "cancel-within",
            "DURATION",
            "Waits this long for you to cancel the fourth task at the orchestrator; default: cancelling is not tried",
        ),
        switch("leases", "Waits until the lease of a silent run is over, which takes more than a minute"),
        switch("json", "Print the verdicts as JSON"),
    ]
}

/// A command that takes all of the worker's settings.
fn with_worker(command: Command) -> Command {
    command
        .args(WORKER.iter().copied().filter_map(flag))
        .after_help(unflagged())
}

/// The worker's flags except some.
fn flags_except(excluded: &[&str]) -> impl Iterator<Item = Arg> {
    let flags = WORKER.iter().copied().filter_map(flag);
    flags.filter(|arg| !excluded.contains(&arg.get_id().as_str()))
}

/// The settings without a flag, for the end of the help.
fn unflagged() -> String {
    let unflagged = WORKER
        .iter()
        .copied()
        .filter(|setting| setting.flag.is_none());
    let lines =
        unflagged.map(|setting| format!("\n  {}\n          {}", setting.name(), setting.help));
    format!("From the environment only:{}", lines.collect::<String>())
}

/// The flag of a setting. clap does not validate the value; `reader` reports all invalid values together.
fn flag(setting: &Setting) -> Option<Arg> {
    let flag = setting.flag?;
    let default = setting
        .default
        .or(setting.when_unset)
        .map(|default| format!("; default: {default}"))
        .unwrap_or_default();
    let arg = Arg::new(flag)
        .long(flag)
        .value_name(setting.value)
        .action(ArgAction::Set)
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
