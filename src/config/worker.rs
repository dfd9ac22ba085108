//! The settings of a worker: its callback, its project and its repository.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use super::agent::{agent_environment, agent_settings};
use super::reader::Reader;
use super::settings::Setting;
use super::{project_keys, settings, telemetry, values};
use crate::callback::{self, credentials::Bearer};
use crate::environment::{Variables, value_of};
use crate::isolation::{Isolation, Mode};
use crate::runner;
use crate::runner::agent::RootStatus;
use crate::runner::project_settings::ProjectSettingsReader;
use crate::runner::workspace::{Access, RemoteRepository, Source};
use crate::scud::FinishedTasks;
use crate::telemetry::Settings as TelemetrySettings;

/// The settings of a worker for one task.
#[derive(Debug)]
pub struct RunSettings {
    pub callback: callback::Settings,
    pub runner: runner::Settings,
    pub telemetry: TelemetrySettings,
    /// The time between the platform's stop signal and its kill.
    pub stop_window: Duration,
    /// Whether to stop when standard input ends.
    pub stop_at_end_of_stdin: bool,
    /// A lock file that is kept locked until the worker has ended.
    pub task_lock: Option<PathBuf>,
    /// Whether to start a new session.
    pub new_session: bool,
}

/// Reads the settings of a worker. The claim reports some settings of the runner, so they are copied to those of the
/// callbacks.
pub fn run_settings(reader: &mut Reader) -> RunSettings {
    let task_id = reader.required(&settings::TASK_ID, values::line);
    let project_id = reader.required(&settings::PROJECT_ID, values::line);
    let run_id = reader
        .optional(&settings::RUN_ID, values::line)
        .unwrap_or_else(random_run_id);
    let mut callback =
        callback_settings(reader, task_id.clone(), project_id.clone(), run_id.clone());
    let runner = runner_settings(reader, task_id, project_id, run_id);
    callback.identity.isolation = Some(runner.isolation.clone());
    if runner.steps == runner::Steps::All {
        callback.identity.agent = runner::agent::decided_kind(&runner.agent).map(|kind| kind.word);
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
    RunSettings {
        callback,
        runner,
        telemetry: telemetry::settings(reader),
        stop_window,
        stop_at_end_of_stdin: reader.with_default(&settings::STOP_AT_END_OF_STDIN, values::boolean),
        task_lock: reader.optional(&settings::TASK_LOCK, values::path),
        new_session: reader.with_default(&settings::NEW_SESSION, values::boolean),
    }
}

/// The settings of the callbacks.
pub fn callback_settings(
    reader: &mut Reader,
    task_id: String,
    project_id: String,
    run_id: String,
) -> callback::Settings {
    callback::Settings {
        url: reader.required(&settings::CALLBACK_URL, values::callback_url),
        request_timeout: reader.with_default(&settings::CALLBACK_TIMEOUT, values::duration),
        claim_timeout: reader.with_default(&settings::CLAIM_DEADLINE, values::duration),
        finish_timeout: reader.with_default(&settings::FINISH_DEADLINE, values::duration),
        heartbeat_interval: reader.with_default(&settings::HEARTBEAT, values::duration_or_off),
        credentials: credentials(reader),
        traceparent: reader.optional_or_warn(&settings::TRACEPARENT, values::traceparent),
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

/// The credentials of the callbacks.
fn credentials(reader: &mut Reader) -> callback::credentials::Settings {
    let token = reader.optional(&settings::CALLBACK_TOKEN, values::token);
    let audience = reader.optional(&settings::CALLBACK_OIDC_AUDIENCE, values::line);
    let socket = reader.with_default(&settings::CALLBACK_OIDC_SOCKET, values::path);
    if token.is_some() && audience.is_some() {
        reader.reject(&settings::CALLBACK_OIDC_AUDIENCE, "and DESCARTES_CALLBACK_TOKEN are both set, but a request has only one bearer token; unset one of them");
    }
    let identity = audience.map(|audience| Bearer::Identity { audience, socket });
    callback::credentials::Settings {
        signing_keys: reader
            .optional(&settings::CALLBACK_SECRET, values::signing_keys)
            .unwrap_or_default(),
        bearer: token.map(Bearer::Token).or(identity),
    }
}

/// A random id. It differs even between machines that were cloned from one image.
pub fn random_run_id() -> String {
    let random = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
    format!("{random:016x}")
}

/// The settings of the runner, which works on the task.
pub fn runner_settings(
    reader: &mut Reader,
    task_id: String,
    project_id: String,
    run_id: String,
) -> runner::Settings {
    let is_forced = reader.with_default(&settings::FORCE, values::boolean);
    let (base, variables_file) = agent_environment(reader);
    let source = source(reader, &task_id, &project_id, &run_id);
    let idle_timeout = reader.with_default(&settings::IDLE_TIMEOUT, values::duration_or_off);
    let tag = reader.optional(&settings::TAG, values::line);
    let isolation = isolation(reader, &base);
    let mut agent = agent_settings(reader, &base, variables_file.as_ref(), idle_timeout);
    if isolation.user.is_some() {
        agent.root_status = RootStatus::NotRoot;
    }
    runner::Settings {
        source,
        run_id,
        task: task_id,
        project: project_id,
        tag,
        finished_tasks: if is_forced {
            FinishedTasks::Allow
        } else {
            FinishedTasks::Reject
        },
        isolation,
        agent,
        environment: base,
        variables_file,
        task_timeout: reader.with_default(&settings::TASK_TIMEOUT, values::duration),
        push_timeout: reader.with_default(&settings::PUSH_TIMEOUT, values::duration),
        idle_timeout,
        checks: reader.optional(&settings::CHECKS, values::checks),
        repairs: reader.with_default(&settings::REPAIRS, values::count),
        steps: if reader.with_default(&settings::ONLY_CHECKS, values::boolean) {
            runner::Steps::OnlyChecks
        } else {
            runner::Steps::All
        },
        note: reader.optional(&settings::NOTE, values::text),
        project_settings: project_settings(reader),
    }
}

/// How to read the project's `.descartes.toml`. If the agent's command is set, the kind of agent counts as set too: the
/// file must not choose another kind.
pub fn project_settings(reader: &Reader) -> ProjectSettingsReader {
    let is_set = |setting: &&&Setting| reader.is_set(setting);
    let configured = settings::WORKER_SETTINGS.iter().filter(is_set);
    let mut already_set: Vec<_> = configured.map(|setting| setting.variable).collect();
    if already_set.contains(&settings::AGENT_COMMAND.variable) {
        already_set.push(settings::AGENT.variable);
    }
    ProjectSettingsReader {
        read: project_keys::read,
        already_set,
    }
}

/// What separates the agent from the worker; `base` is the agent's environment.
fn isolation(reader: &mut Reader, base: &Variables) -> Isolation {
    let mode = reader.with_default(&settings::ISOLATION, values::isolation);
    let user = reader.optional(&settings::AGENT_USER, |text| {
        let user = values::agent_user(text)?;
        let worker_user = rustix::process::geteuid();
        if worker_user.as_raw() == user.uid {
            // The agent runs as this user anyway.
            Ok(None)
        } else if !worker_user.is_root() {
            Err("needs a worker that runs as root".to_owned())
        } else if mode == Mode::Off {
            Err("needs isolation; set DESCARTES_ISOLATION=auto".to_owned())
        } else {
            Ok(Some(user))
        }
    });
    let path = value_of(base, "PATH").unwrap_or_default();
    Isolation::new(mode, user.flatten(), path)
}

/// git's access to remotes.
pub fn git_access(reader: &mut Reader) -> Access {
    Access {
        token: reader.optional(&settings::GIT_TOKEN, values::token),
        proxies: reader.environment.proxy_variables(&[]),
        authorities: reader.environment.get("SSL_CERT_FILE").map(PathBuf::from),
        ssh_agent: reader.environment.get("SSH_AUTH_SOCK").map(OsStr::to_owned),
        idle_timeout: reader.with_default(&settings::GIT_IDLE_TIMEOUT, values::duration),
    }
}

/// The branch that the work is pushed to if no setting names one.
pub fn default_branch(project_id: &str, task_id: &str) -> String {
    format!(
        "descartes/{}/{}",
        values::branch_part(project_id),
        values::branch_part(task_id)
    )
}

/// Where the project comes from, and where the work is pushed to.
fn source(reader: &mut Reader, task_id: &str, project_id: &str, run_id: &str) -> Source {
    let workspace = reader.optional(&settings::WORKSPACE, values::path);
    let reference = reader.optional(&settings::REF, values::git_reference);
    let branch = reader.optional(&settings::BRANCH, values::branch);
    let (name, email) = (
        reader.with_default(&settings::GIT_NAME, values::line),
        reader.with_default(&settings::GIT_EMAIL, values::line),
    );
    let git_access = git_access(reader);
    let submodules = reader.with_default(&settings::SUBMODULES, values::boolean);
    let lfs = reader.with_default(&settings::LFS, values::boolean);
    let keep_clone = reader.with_default(&settings::KEEP_WORKSPACE, values::boolean);
    let Some(url) = reader.optional(&settings::REPO, values::repository) else {
        return match workspace {
            Some(dir) => Source::Directory(dir),
            None => Source::StartDirectory {
                keep_copy: keep_clone,
            },
        };
    };
    let branch = branch.unwrap_or_else(|| Some(default_branch(project_id, task_id)));
    Source::Repository(Box::new(RemoteRepository {
        url,
        reference,
        git_access,
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
