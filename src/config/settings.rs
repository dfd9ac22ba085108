//! The table of all settings.
//!
//! `command_line` makes flags and help from it, `reader` reads the values, `values` parses them.

mod dispatch;
mod internal;
mod receive;

pub use super::setting::{InProjectFile, Setting};
pub use dispatch::*;
pub use internal::*;
pub use receive::*;

/// Defines the settings of a worker, and `WORKER_SETTINGS`, the list of them in the order of the help.
macro_rules! settings {
    ($($(#[$attribute:meta])* pub const $name:ident: Setting = $setting:expr;)*) => {
        $($(#[$attribute])* pub const $name: Setting = $setting;)*

        /// All settings of a worker, in the order of the help.
        pub const WORKER_SETTINGS: &[&Setting] = &[$(&$name),*];
    };
}

settings! {
pub const TASK_ID: Setting = Setting::new(
    "DESCARTES_TASK_ID",
    "task",
    "ID",
    "The task in the project's SCUD graph: 8, 8.2 or phase:8",
)
.short_name("TASK_ID");
pub const PROJECT_ID: Setting = Setting::new(
    "DESCARTES_PROJECT_ID",
    "project-id",
    "ID",
    "The orchestrator's name for the project",
)
.short_name("PROJECT_ID");
pub const CALLBACK_URL: Setting = Setting::new(
    "DESCARTES_CALLBACK_URL",
    "callback-url",
    "URL",
    "The orchestrator's http or https URL; /started and the other routes are appended to it",
)
.short_name("CALLBACK_URL");
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
pub const PUSH_TIMEOUT: Setting = Setting::new(
    "DESCARTES_PUSH_TIMEOUT",
    "push-timeout",
    "DURATION",
    "How long the commit and the push of the work may take, with all attempts",
)
.default("10m");
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
    "Whether the clone gets the content of files in Git LFS; otherwise it has only pointers to the content",
)
.default("false");
pub const KEEP_WORKSPACE: Setting = Setting::new(
    "DESCARTES_KEEP_WORKSPACE",
    "keep-workspace",
    "BOOL",
    "Whether a clone, or the copy of a sample, in a temporary directory stays when the run has ended",
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
pub const AGENT: Setting = Setting::new("DESCARTES_AGENT", "agent", "KIND", "The kind of agent: command, claude-code, builtin, or auto for the first of them that can work here").default("auto")
.in_project_file(InProjectFile::Text);
pub const AGENT_COMMAND: Setting = Setting::new(
    "DESCARTES_AGENT_COMMAND",
    "agent-command",
    "COMMAND",
    "The command line of the agent, run by sh -c in the workspace; the prompt is on its standard input and in $DESCARTES_PROMPT_FILE",
)
.in_project_file(InProjectFile::Text);
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
    "What separates the agent and the checks from the worker: auto for the best that this machine allows, strict to fail without a PID namespace, off for no separation",
)
.default("auto");
pub const AGENT_USER: Setting = Setting::new(
    "DESCARTES_AGENT_USER",
    "agent-user",
    "USER",
    "If the worker is root: the user, by name or number, that runs the agent, the checks and the git commands on the agent's files; a clone belongs to it",
)
.when_unset("the worker's");
pub const MODEL: Setting = Setting::new(
    "DESCARTES_MODEL",
    "model",
    "MODEL",
    "The model, for agents that let you choose one; replaces the model in the agent definition",
)
.when_unset("the model in the agent definition, else the default of the agent")
.in_project_file(InProjectFile::Text);
pub const MAX_TURNS: Setting = Setting::new("DESCARTES_MAX_TURNS", "max-turns", "COUNT", "How many answers of its model the agent may use, repairs included; an agent command has no such limit").when_unset("no limit")
.in_project_file(InProjectFile::Number);
pub const MAX_BUDGET_USD: Setting = Setting::new(
    "DESCARTES_MAX_BUDGET_USD",
    "max-budget-usd",
    "DOLLARS",
    "How many US dollars the agent may spend, repairs included; for an agent command only the model gateway enforces it",
)
.when_unset("no limit")
.in_project_file(InProjectFile::Number);
pub const MAX_TOKENS: Setting = Setting::new(
    "DESCARTES_MAX_TOKENS",
    "max-tokens",
    "COUNT",
    "How many tokens the agent may use in all its requests together, cached ones and repairs included; the model gateway enforces it",
)
.when_unset("no limit")
.in_project_file(InProjectFile::Number);
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
.default("1h")
.in_project_file(InProjectFile::DurationUpToDefault);
pub const IDLE_TIMEOUT: Setting = Setting::new(
    "DESCARTES_IDLE_TIMEOUT",
    "idle-timeout",
    "DURATION",
    "How long the agent may print nothing; 0 for no limit",
)
.default("15m")
.in_project_file(InProjectFile::DurationUpToDefault);
pub const STOP_WINDOW: Setting = Setting::new("DESCARTES_STOP_WINDOW", "stop-window", "DURATION", "How long the platform waits between its stop signal and the kill; the agent's grace period, the push and the last callback share this time").default("5s");
pub const CHECKS: Setting = Setting::new(
    "DESCARTES_CHECKS",
    "checks",
    "COMMANDS",
    "Commands that must pass, one per line, or none to run no checks",
)
.when_unset("the commands in .scud/config.toml")
.in_project_file(InProjectFile::Texts);
pub const REPAIRS: Setting = Setting::new(
    "DESCARTES_REPAIRS",
    "repairs",
    "COUNT",
    "How often the agent may try to repair a failed check",
)
.default("1")
.in_project_file(InProjectFile::NumberUpToDefault);
pub const ONLY_CHECKS: Setting = Setting::new(
    "DESCARTES_ONLY_CHECKS",
    "only-checks",
    "BOOL",
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
.short_name("RUST_LOG")
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
.short_name("ANTHROPIC_API_KEY");
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
.short_name("OPENAI_API_KEY");
pub const OPENAI_BASE_URL: Setting =
    Setting::unflagged("OPENAI_BASE_URL", "The URL of the OpenAI-style service")
        .when_unset("https://api.openai.com/v1");
pub const IS_SANDBOX: Setting = Setting::unflagged(
    "IS_SANDBOX",
    "Set to 1 to let Claude Code run as root, on a machine that holds nothing worth protecting",
);
}

/// The settings for an agent's access to its model; the checks do not get them.
pub const MODEL_ACCESS: [&Setting; 6] = [
    &ANTHROPIC_API_KEY,
    &ANTHROPIC_AUTH_TOKEN,
    &ANTHROPIC_BASE_URL,
    &CLAUDE_CODE_OAUTH_TOKEN,
    &OPENAI_API_KEY,
    &OPENAI_BASE_URL,
];

/// Whether a variable contains a key that the model gateway keeps away from the agent.
pub fn is_model_key(name: &str) -> bool {
    [&ANTHROPIC_API_KEY, &ANTHROPIC_AUTH_TOKEN, &OPENAI_API_KEY]
        .into_iter()
        .any(|setting| setting.name() == name)
}

/// The settings that a worker needs before it has read the project's files.
pub const NEEDED_BEFORE_THE_PROJECT: [&Setting; 16] = [
    &TASK_ID,
    &PROJECT_ID,
    &CALLBACK_URL,
    &RUN_ID,
    &REPO,
    &REF,
    &WORKSPACE,
    &GIT_IDLE_TIMEOUT,
    &SUBMODULES,
    &LFS,
    &ISOLATION,
    &AGENT_USER,
    &CALLBACK_TIMEOUT,
    &CLAIM_DEADLINE,
    &RUST_LOG,
    &LOG_FORMAT,
];

/// The settings without which no worker starts.
pub const REQUIRED_SETTINGS: [&Setting; 3] = [&TASK_ID, &PROJECT_ID, &CALLBACK_URL];
