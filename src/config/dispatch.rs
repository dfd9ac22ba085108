//! The settings of `dispatch`.

use std::path::PathBuf;

use clap::ArgMatches;

use super::command_line::format;
use super::reader::Reader;
use super::{command_line, fly, settings, telemetry, values};
use crate::amounts;
use crate::dispatch::engine::docker::client::Address;
use crate::dispatch::engine::{self, EngineKind};
use crate::dispatch::integration::Source;
use crate::dispatch::verification::VerifyMode;
use crate::dispatch::{
    AgentOfWorkers, EarlierJournal, Phases, Settings, Subcommand, WorkerSettings,
};
use crate::git::Access;
use crate::redact::Redactor;
use crate::runner::project_settings::ProjectSettingsReader;

/// The settings of `demo --graph`: those of `dispatch` without arguments, with the report file of `demo`.
pub fn demo_settings(
    reader: &mut Reader,
    demo_flags: &ArgMatches,
    shared: SharedSettings,
) -> Settings {
    let program = env!("CARGO_PKG_NAME");
    let matches = command_line::cli().get_matches_from([program, "dispatch"]);
    let (_, flags) = matches.subcommand().expect("the subcommand that is named");
    Settings {
        report: demo_flags.get_one::<PathBuf>("report").cloned(),
        ..settings(reader, flags, shared)
    }
}

/// The upper bound for `--jobs`. One machine cannot run so many workers.
const MAX_JOBS: usize = 10_000;

/// The settings that `dispatch` and other commands read in the same way.
pub struct SharedSettings {
    /// The agent of every worker.
    pub agent: AgentOfWorkers,
    /// How to read the project's `.descartes.toml`.
    pub project_settings: ProjectSettingsReader,
    /// git's access to the project's repository.
    pub access: Access,
}

/// The settings of `dispatch`.
pub fn settings(reader: &mut Reader, flags: &ArgMatches, shared: SharedSettings) -> Settings {
    let text = |name: &str| flags.get_one::<String>(name).cloned();
    let repo = reader.optional(&settings::REPO, values::repository);
    let project = flags.get_one::<PathBuf>("project").cloned();
    if repo.is_some() && project.is_some() {
        reader.reject_flag(
            "project",
            "cannot be combined with a repository (--repo or DESCARTES_REPO)",
        );
    }
    let tag = reader.optional(&settings::TAG, values::line);
    let phases = match (flags.get_flag("all-phases"), tag) {
        (true, _) => Phases::All,
        (false, Some(tag)) => Phases::Tag(tag),
        (false, None) => Phases::Active,
    };
    let only = text("only").unwrap_or_default();
    let only = only.split(',').map(str::trim).filter(|id| !id.is_empty());
    let mut reference = |name: &str| {
        let parsed = values::git_reference(&text(name)?);
        parsed.map_err(|why| reader.reject_flag(name, &why)).ok()
    };
    let (base, branch, into) = (reference("base"), reference("branch"), reference("into"));
    let mut number = |name: &str, max: usize| {
        let text = text(name)?;
        let parsed = text
            .parse()
            .ok()
            .filter(|number| (1..=max).contains(number));
        if parsed.is_none() {
            reader.reject_flag(name, &format!("{text:?} is not a number from 1 to {max}"));
        }
        parsed
    };
    let jobs = number("jobs", MAX_JOBS);
    let attempts = number("attempts", 100);
    let engines = engines(reader, flags);
    let memory = reader.optional(&settings::DISPATCH_MEMORY, amounts::parse_memory);
    // Machines of Fly always have a memory limit. The dispatch must know it, because it doubles the limit for a retry.
    let needs_memory = engines.uses(EngineKind::Fly);
    let dollars = |text: String| values::dollars(&text);
    let max_budget_usd = text("max-budget-usd").map(dollars).transpose();
    let max_budget_usd = max_budget_usd.unwrap_or_else(|why| {
        reader.reject_flag("max-budget-usd", &why);
        None
    });
    Settings {
        subcommand: subcommand(reader, flags),
        source: match repo {
            Some(url) => Source::Remote(url),
            None => Source::Local(project.unwrap_or_else(|| ".".into())),
        },
        base,
        branch,
        into,
        phases,
        only: only.map(str::to_owned).collect(),
        jobs: number_of_jobs(jobs, &engines),
        engines,
        attempts: attempts
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(3),
        max_budget_usd,
        verify: match text("verify").as_deref() {
            Some("always") => VerifyMode::Always,
            Some("end") => VerifyMode::End,
            Some("never") => VerifyMode::Never,
            _ => VerifyMode::Changed,
        },
        format: format(flags),
        report: report_file(reader, flags),
        listen: reader.optional(&settings::DISPATCH_LISTEN, values::address),
        callback_url: reader
            .optional(&settings::DISPATCH_URL, values::callback_url)
            .map(|url| url.to_string()),
        state_dir: reader.optional(&settings::DISPATCH_STATE, values::path),
        state_root: state_root(reader),
        start_deadline: reader.with_default(&settings::DISPATCH_START_DEADLINE, values::duration),
        retry_delay: reader.with_default(&settings::DISPATCH_RETRY_DELAY, values::duration),
        memory: memory.or(needs_memory.then_some(engine::FLY_MEMORY)),
        max_memory: reader.with_default(&settings::DISPATCH_MAX_MEMORY, amounts::parse_memory),
        worker: worker_settings(reader),
        agent: shared.agent,
        project_settings: shared.project_settings,
        checks: reader.optional(&settings::CHECKS, values::checks),
        git_name: reader.with_default(&settings::GIT_NAME, values::line),
        git_email: reader.with_default(&settings::GIT_EMAIL, values::line),
        environment: reader.environment.for_agent(&[]),
        access: shared.access,
        redactor: Redactor::new(&reader.environment.secrets()),
        telemetry: telemetry::settings(reader),
    }
}

/// The file for the report. `--plan` and the actions other than `status` have nothing to report.
fn report_file(reader: &mut Reader, flags: &ArgMatches) -> Option<PathBuf> {
    let file = flags.get_one::<PathBuf>("report").cloned();
    let action = flags.get_one::<String>("action").map(String::as_str);
    let command = match action {
        None if flags.get_flag("plan") => Some("--plan"),
        None | Some("status") => None,
        Some(action) => Some(action),
    };
    if let (Some(_), Some(command)) = (&file, command) {
        reader.reject_flag(
            "report",
            &format!("does not go with {command}; `dispatch status --report FILE` writes a report"),
        );
    }
    file
}

/// The action that the arguments name; without an action, the dispatch itself or its plan.
fn subcommand(reader: &mut Reader, flags: &ArgMatches) -> Subcommand {
    let action = flags.get_one::<String>("action").map(String::as_str);
    let task = flags.get_one::<String>("task-of-action").cloned();
    let mut task_of = |action: &str| {
        if task.is_none() {
            reader.reject_flag(action, "needs the id of a task");
        }
        task.clone().unwrap_or_default()
    };
    match action {
        Some("status") => Subcommand::Status,
        Some(action @ "retry") => Subcommand::Retry(task_of(action)),
        Some(action @ "skip") => Subcommand::Skip(task_of(action)),
        Some(_) => Subcommand::Cancel(task),
        None if flags.get_flag("plan") => Subcommand::Plan,
        None if flags.get_flag("fresh") => Subcommand::Run {
            earlier_journal: EarlierJournal::Rename,
        },
        None => Subcommand::Run {
            earlier_journal: EarlierJournal::Continue,
        },
    }
}

/// `--engine`, which can be repeated.
fn engines(reader: &mut Reader, flags: &ArgMatches) -> engine::Settings {
    let mut choices: Vec<engine::EngineChoice> = Vec::new();
    for text in flags.get_many::<String>("engine").unwrap_or_default() {
        match values::engine(text) {
            Ok(choice) if choices.iter().any(|other| other.engine == choice.engine) => {
                reader.reject_flag("engine", &format!("{} is named twice", choice.engine));
            }
            Ok(choice) => choices.push(choice),
            Err(why) => reader.reject_flag("engine", &format!("{text:?} {why}")),
        }
    }
    if choices.is_empty() {
        choices.push(engine::EngineChoice {
            engine: EngineKind::Local,
            limit: None,
        });
    }
    let uses = |engine| choices.iter().any(|choice| choice.engine == engine);
    engine::Settings {
        docker: uses(EngineKind::Docker).then(|| docker(reader)),
        command: uses(EngineKind::Command).then(|| engine::CommandSettings {
            start: reader.required(&settings::DISPATCH_COMMAND_START, values::text),
            look: reader.required(&settings::DISPATCH_COMMAND_LOOK, values::text),
            stop: reader.required(&settings::DISPATCH_COMMAND_STOP, values::text),
            image: reader.optional(&settings::DISPATCH_IMAGE, values::image),
            nano_cpus: reader.optional(&settings::DISPATCH_CPUS, amounts::parse_nano_cpus),
        }),
        fly: uses(EngineKind::Fly).then(|| fly::settings(reader)),
        choices,
    }
}

/// The settings of the engine `docker`.
fn docker(reader: &mut Reader) -> engine::DockerSettings {
    engine::DockerSettings {
        address: reader.with_default(&settings::DOCKER_HOST, Address::parse),
        image: reader.required(&settings::DISPATCH_IMAGE, values::image),
        nano_cpus: reader.optional(&settings::DISPATCH_CPUS, amounts::parse_nano_cpus),
        network: reader.with_default(&settings::DISPATCH_NETWORK, values::network),
        has_configured_url: reader.is_set(&settings::DISPATCH_URL),
    }
}

/// How many runs there may be at a time: the number of `--jobs`, but not more than the limits of all engines together.
fn number_of_jobs(jobs: Option<usize>, engines: &engine::Settings) -> usize {
    match (jobs, engines.total_limit()) {
        (Some(jobs), Some(limit)) => jobs.min(limit),
        (Some(jobs), None) => jobs,
        (None, Some(limit)) => limit,
        (None, None) => default_jobs(),
    }
}

/// Half of the number of cores, because agents and checks need cores too.
fn default_jobs() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    (cores / 2).max(2)
}

/// The directory for the state of dispatches.
fn state_root(reader: &Reader) -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    let temporary = || PathBuf::from(format!("/tmp/descartes-{user}"));
    let state = reader.environment.state_home();
    state.map_or_else(temporary, |state| state.join("descartes"))
}

/// The settings that every worker of the dispatch gets.
fn worker_settings(reader: &mut Reader) -> WorkerSettings {
    let mut variables = reader.flags_as_variables();
    // Each worker gets its task's id together with the phase.
    variables.retain(|(name, _)| *name != settings::TAG.name());
    let names_for_agent = reader.optional(&settings::AGENT_ENV, values::names);
    let names = settings::WORKER_SETTINGS
        .iter()
        .flat_map(|setting| setting.short_name.into_iter().chain([setting.variable]))
        .map(str::to_owned)
        .chain(names_for_agent.into_iter().flatten());
    let inherited = names.filter_map(|name| {
        let value = reader.environment.get(&name)?.to_owned();
        Some((name.into(), value))
    });
    WorkerSettings {
        inherited: inherited.collect(),
        variables,
        project_id: reader.optional(&settings::PROJECT_ID, values::line),
        has_heartbeat_interval: reader.is_set(&settings::HEARTBEAT),
        stop_window: reader.with_default(&settings::STOP_WINDOW, values::duration),
    }
}
