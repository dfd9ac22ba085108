//! The settings of `check`, `local`, `tasks`, `receive` and `probe`, and those that `dispatch` shares with them.

use std::path::PathBuf;

use super::agent::{agent_environment, agent_settings};
use super::command_line::format;
use super::reader::Reader;
use super::worker::{
    callback_settings, default_branch, git_access, project_settings, random_run_id, run_settings,
    runner_settings,
};
use super::{dispatch, settings, telemetry, values};
use crate::check;
use crate::dispatch::AgentOfWorkers;
use crate::local;
use crate::probe;
use crate::receiver::{self, ScriptedAnswers};
use crate::report;
use crate::runner;
use crate::runner::workspace::Source;
use crate::task_list;

/// The project's id for a worker without an orchestrator.
const LOCAL_PROJECT_ID: &str = "local";

/// The project's id for `probe`.
const PROBE_PROJECT_ID: &str = "probe";

/// The settings of `check`. With `--local`, the settings that only an orchestrator knows are not needed.
pub fn check_settings(reader: &mut Reader, flags: &clap::ArgMatches) -> check::Settings {
    let (runner, stop_window, telemetry) = if flags.get_flag("local") {
        let task_id = reader.required(&settings::TASK_ID, values::line);
        let project_id = reader.optional(&settings::PROJECT_ID, values::line);
        let project_id = project_id.unwrap_or_else(|| LOCAL_PROJECT_ID.to_owned());
        let mut runner = runner_settings(reader, task_id, project_id, random_run_id());
        if matches!(runner.source, Source::StartDirectory { .. }) {
            // `local` passes the directory to its worker. Only a worker without a directory looks for a sample project.
            runner.source = Source::Directory(".".into());
        }
        (
            runner,
            reader.with_default(&settings::STOP_WINDOW, values::duration),
            telemetry::settings(reader),
        )
    } else {
        let run = run_settings(reader);
        (run.runner, run.stop_window, run.telemetry)
    };
    check::Settings {
        runner,
        stop_window,
        telemetry,
        format: format(flags),
        origins: reader.origins(),
    }
}

/// The project that `local` works on.
pub fn local_project(reader: &mut Reader, flags: &clap::ArgMatches) -> local::Project {
    let flag = flags.get_one::<PathBuf>("project").cloned();
    let dir = flag.or_else(|| reader.optional(&settings::WORKSPACE, values::path));
    let branch = reader.optional(&settings::BRANCH, values::branch);
    let reference = reader.optional(&settings::REF, values::git_reference);
    let is_committing = flags.get_flag("commit");
    if let Some(url) = reader.optional(&settings::REPO, values::repository) {
        if is_committing {
            reader.reject_flag("commit", "cannot be combined with a repository (--repo or DESCARTES_REPO): with one, `local` always commits");
        }
        return local::Project::Cloned { url, into: dir };
    }
    let dir = dir.unwrap_or_else(|| ".".into());
    if is_committing {
        if branch == Some(None) {
            reader.reject(&settings::BRANCH, "is none, but --commit leaves the work on a branch; name a branch, or leave one of them out");
        }
        return local::Project::Committed(dir);
    }
    let without_effect = [
        (&settings::BRANCH, branch.flatten().is_some()),
        (&settings::REF, reference.is_some()),
    ];
    for (setting, is_set) in without_effect {
        if is_set {
            reader.reject(setting, "needs a repository (--repo or DESCARTES_REPO) or --commit; without them, `local` changes the project's directory in place, and checks out and pushes nothing");
        }
    }
    local::Project::InPlace(dir)
}

/// Rejects `local --commit` if the branch for the work, or the one for unfinished work, is checked out in the project: git
/// would refuse the push after the agent has worked.
pub fn reject_checked_out_branch(reader: &mut Reader, project: &local::Project, task: &str) {
    let local::Project::Committed(dir) = project else {
        return;
    };
    let (subject, branch) = match reader.valid(&settings::BRANCH, values::branch) {
        Some(Some(branch)) => (format!("is {branch}"), branch),
        // The branch is none, which is rejected elsewhere.
        Some(None) => return,
        None => {
            let project_id = reader.valid(&settings::PROJECT_ID, values::line);
            let project_id = project_id.unwrap_or_else(|| LOCAL_PROJECT_ID.to_owned());
            let branch = default_branch(&project_id, task);
            (format!("is unset, and its default is {branch}"), branch)
        }
    };
    let is_checked_out = |branch: &str| local::is_checked_out(dir, branch);
    let partial = runner::branch_for_partial_work(&branch);
    let relation = if is_checked_out(&branch) {
        String::new()
    } else if is_checked_out(&partial) {
        format!(", and unfinished work would go to {partial}")
    } else {
        return;
    };
    reader.reject(&settings::BRANCH, &format!("{subject}{relation}, which is checked out: a push would leave the files behind their branch; name another branch, and merge it then"));
}

/// The settings of `local --dry-run`.
pub fn dry_run_settings(
    reader: &mut Reader,
    flags: &clap::ArgMatches,
    project: local::Project,
    task: String,
) -> local::DryRun {
    let project_id = reader.optional(&settings::PROJECT_ID, values::line);
    let project_id = project_id.unwrap_or_else(|| LOCAL_PROJECT_ID.to_owned());
    let runner = runner_settings(reader, task, project_id, random_run_id());
    if runner.steps == runner::Steps::OnlyChecks {
        reader.reject_flag("dry-run", "and --only-checks are both set, but without an agent there is no prompt to show; leave one of them out");
    }
    local::DryRun {
        project,
        runner,
        format: format(flags),
    }
}

/// The settings that `dispatch` and other commands read in the same way.
pub fn shared_settings(reader: &mut Reader) -> dispatch::SharedSettings {
    let (base, variables_file) = agent_environment(reader);
    let agent = agent_settings(reader, &base, variables_file.as_ref(), None);
    dispatch::SharedSettings {
        agent: AgentOfWorkers::Settings(Box::new(agent)),
        project_settings: project_settings(reader),
        access: git_access(reader),
    }
}

/// The settings of `tasks`.
pub fn tasks_settings(reader: &mut Reader, flags: &clap::ArgMatches) -> task_list::Settings {
    let flag = flags.get_one::<PathBuf>("project").cloned();
    let dir = flag.or_else(|| reader.optional(&settings::WORKSPACE, values::path));
    task_list::Settings {
        project: dir.unwrap_or_else(|| ".".into()),
        tag: reader.optional(&settings::TAG, values::line),
        filter: match (flags.get_flag("ready"), flags.get_flag("blocked")) {
            (true, _) => task_list::Filter::Ready,
            (_, true) => task_list::Filter::Blocked,
            _ => task_list::Filter::All,
        },
        output: if flags.get_flag("ids") {
            task_list::Output::Ids
        } else {
            task_list::Output::Tasks(format(flags))
        },
    }
}

/// The settings of `local`: a worker under the built-in orchestrator.
pub fn local_settings(
    reader: &mut Reader,
    flags: &clap::ArgMatches,
    project: local::Project,
    task: String,
) -> local::Settings {
    let project_id = reader.optional(&settings::PROJECT_ID, values::line);
    local::Settings {
        project,
        task,
        project_id: project_id.unwrap_or_else(|| LOCAL_PROJECT_ID.to_owned()),
        tag: reader.optional(&settings::TAG, values::line),
        agent: local_agent(reader),
        environment: reader.environment.for_agent(&[]),
        lock_dirs: lock_dirs(reader),
        variables: reader.flags_as_variables(),
        has_heartbeat_interval: reader.is_set(&settings::HEARTBEAT),
        format: format(flags),
        report: report_page(reader, flags),
    }
}

/// The file for the HTML page about a run.
fn report_page(reader: &mut Reader, flags: &clap::ArgMatches) -> Option<PathBuf> {
    let file = flags.get_one::<PathBuf>("report").cloned();
    if file.as_ref().is_some_and(|file| !report::is_html(file)) {
        reader.reject_flag(
            "report",
            "names a file that does not end in .html; only `dispatch` can write JSON",
        );
    }
    file
}

/// The settings of `receive`: the built-in orchestrator alone.
pub fn receive_settings(reader: &mut Reader, flags: &clap::ArgMatches) -> local::ReceiveSettings {
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
    // Unlike the other messages, this one does not quote the value, which is a secret.
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
            cancelled_ids: repeated("cancel").cloned().collect(),
            answers,
            lease,
            repetition: if flags.get_flag("again") {
                receiver::Repetition::Grant
            } else {
                receiver::Repetition::Refuse
            },
        },
        format: format(flags),
    }
}

/// The settings of `probe`.
pub fn probe_settings(reader: &mut Reader, flags: &clap::ArgMatches) -> probe::Settings {
    let project = reader.optional(&settings::PROJECT_ID, values::line);
    let project = project.unwrap_or_else(|| PROBE_PROJECT_ID.to_owned());
    let task_ids: Vec<String> = flags
        .get_many("task")
        .unwrap_or_default()
        .cloned()
        .collect();
    if task_ids.len() > 4 {
        reader.reject_flag("task", "is repeated too often; name at most four tasks");
    }
    let task = |number: usize| {
        let id = task_ids.get(number - 1).cloned();
        id.unwrap_or_else(|| format!("probe-{number}"))
    };
    let tasks = probe::Tasks {
        completed: task(1),
        contested: task(2),
        silent: task(3),
        cancelled: task(4),
    };
    let other_project = flags.get_one::<String>("other-project-id").cloned();
    let cancel_within = flags.get_one::<String>("cancel-within").and_then(|text| {
        let duration = values::duration(text);
        let reject = |why: String| reader.reject_flag("cancel-within", &format!("{text:?} {why}"));
        duration.map_err(reject).ok()
    });
    probe::Settings {
        callback: callback_settings(
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
        format: format(flags),
    }
}

/// The directories that may hold lock files, the preferred one first. `XDG_RUNTIME_DIR` is not one of them, because it
/// can differ between two sessions of a user, which must find the same lock.
fn lock_dirs(reader: &Reader) -> Vec<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let temporary = reader.environment.get("TMPDIR").map(PathBuf::from);
    let temporary = temporary.unwrap_or_else(|| "/tmp".into());
    let state = reader.environment.state_home();
    let state = state.map(|state| state.join("descartes-worker"));
    let temporary = temporary.join(format!("descartes-worker-{user}"));
    state.into_iter().chain([temporary]).collect()
}

/// The kind of agent that `local` uses: chosen by a setting, found by its key, or absent.
fn local_agent(reader: &mut Reader) -> local::Agent {
    // Always read, because the reader must know the secrets in the file with the agent's variables.
    let (base, variables_file) = agent_environment(reader);
    if reader.is_set(&settings::AGENT) || reader.is_set(&settings::AGENT_COMMAND) {
        return local::Agent::FromSettings;
    }
    let settings = agent_settings(reader, &base, variables_file.as_ref(), None);
    runner::agent::selected_kind(&settings).map_or(local::Agent::None, local::Agent::FromKey)
}
