//! The start of a dispatch: finds the state directory, opens the journal and the integration branch, reads the
//! graph, opens the engines, and adopts the runs of an earlier dispatcher.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use eyre::{WrapErr, bail, eyre};
use tokio::net::TcpListener;

use super::agent_definitions::definition_warnings;
use super::branch_searches::BranchSearches;
use super::dispatcher::Dispatcher;
use super::engine::{self, EngineKind, Engines, TaskNeeds};
use super::event_listener::Secret;
use super::integration::{self, Integration, WorkerLocation};
use super::journal::{self, Entry, RenamedJournal};
use super::journaled_state::JournaledState;
use super::listen::{callback_url, listen};
use super::merging::{Tip, read_tip};
use super::names::dispatch_id;
use super::needs;
use super::policy::Policy;
use super::scope::scope;
use super::settings::{EarlierJournal, Settings};
use super::show::Show;
use super::spans::Spans;
use super::state::{Run, State};
use super::target::Target;
use super::worker_environment::{SharedSettings, removed_variables};
use crate::clock::now;
use crate::descartes_toml::{FILE_NAME, MAX_FILE_SIZE};
use crate::runner::project_settings::{ProjectSettings, ProjectSettingsReader};
use crate::scud::TaskGraph;
use crate::terminal::Screen;

/// How long a worker of the last dispatcher that is not needed any more may take to end.
const UNNEEDED_WORKER_GRACE_PERIOD: Duration = Duration::from_secs(10);

/// The open journal and integration branch of a dispatch, and messages for the user.
pub struct OpenDispatch {
    pub journaled: JournaledState,
    pub integration: Integration,
    pub messages: Vec<String>,
}

/// Opens the journal and the integration branch of a dispatch, or creates them.
///
/// # Errors
/// If another process holds the lock of the journal ([`journal::JournalInUse`]), or if the journal or the branch cannot
/// be used.
pub async fn open(
    settings: &Settings,
    target: &Target,
    earlier_journal: EarlierJournal,
) -> eyre::Result<OpenDispatch> {
    let mut messages = Vec::new();
    if earlier_journal == EarlierJournal::Rename {
        let renamed = journal::rename_journal(&target.state_dir, &now().to_string())?;
        messages.extend(renamed.map(|renamed| renamed_journal_message(&renamed)));
    }
    let mut journaled = JournaledState::open(&target.state_dir, settings.json_lines())?;
    if journaled.state.dispatch.is_empty() {
        let (dispatch, branch) = (dispatch_id(), target.branch.clone());
        journaled
            .record(Entry::Created { dispatch, branch })
            .await?;
    }
    if journaled.state.branch != target.branch {
        bail!(
            "the state directory {} belongs to the branch {}, not to {}: name another directory with DESCARTES_DISPATCH_STATE",
            target.state_dir.display(),
            journaled.state.branch,
            target.branch
        );
    }
    let program = std::env::current_exe().wrap_err("cannot find the path of this program")?;
    let opened = Integration::open(integration::Settings {
        source: target.source.clone(),
        base: settings.base.clone(),
        branch: target.branch.clone(),
        state_dir: target.state_dir.clone(),
        dispatch_id: journaled.state.dispatch.clone(),
        worker_location: settings.worker_location(),
        author_name: settings.git_name.clone(),
        author_email: settings.git_email.clone(),
        program,
        environment: settings.environment.clone(),
        access: settings.access.clone(),
        redactor: settings.redactor.clone(),
    });
    let opened = opened.await?;
    messages.extend(opened.messages);
    Ok(OpenDispatch {
        journaled,
        integration: opened.integration,
        messages,
    })
}

/// Reads the tip, parses its graph, and finds the positions of the tasks that the dispatch works on.
pub async fn read_scope(
    settings: &Settings,
    target: &Target,
    integration: &Integration,
) -> eyre::Result<(Tip, TaskGraph, HashSet<usize>)> {
    let tip = read_tip(integration).await?;
    let graph = TaskGraph::parse(&tip.graph).map_err(|error| {
        eyre!(
            "the graph at the commit {} cannot be read: {error}",
            tip.commit
        )
    })?;
    let phases = target.phases(&graph)?;
    let scope = scope(&graph, &phases, &settings.only).map_err(|why| eyre!(why))?;
    Ok((tip, graph, scope))
}

/// Creates the dispatcher, opens its port, and adopts the runs of an earlier dispatcher.
///
/// Every step that can fail because of a setting comes before the runs are adopted, because adopting may stop runs. The
/// engines are prepared before the port is opened, because they know the address at which workers reach this machine.
pub async fn start_dispatcher<'a>(
    settings: &'a Settings,
    target: &Target,
    opened: OpenDispatch,
    screen: &'a Screen,
) -> eyre::Result<(Dispatcher<'a>, TcpListener)> {
    let OpenDispatch {
        mut journaled,
        integration,
        ..
    } = opened;
    let (tip, graph, scope) = read_scope(settings, target, &integration).await?;
    for task in &scope {
        let key = &graph.tasks[*task].key;
        let is_merged = journaled.state.runs_of(key).any(Run::is_merged);
        if is_merged && !graph.tasks[*task].is_done {
            bail!(
                "the journal says that task {key} is merged, but the branch {} does not have it: the branch was moved back or deleted. --fresh starts a new dispatch from the present branch",
                target.branch
            );
        }
    }
    require_engines(&settings.engines, &journaled.state)?;
    let program = std::env::current_exe().wrap_err("cannot find the path of this program")?;
    let runs_dir = target.state_dir.join("runs");
    let worker_location = settings.worker_location();
    let context = engine::Context {
        dispatch: journaled.state.dispatch.clone(),
        program,
        runs_dir,
        repository: (worker_location == WorkerLocation::OnThisMachine)
            .then(|| integration.dir().to_owned()),
        start_deadline: settings.start_deadline,
        stop_window: settings.worker.stop_window,
    };
    let needs = read_needs(&integration, &graph).await?;
    for message in unused_engines(&needs, &settings.engines) {
        screen.line(&message);
    }
    for warning in definition_warnings(&tip.broken_definitions, &graph, &scope, &tip.commit) {
        screen.line(&warning);
    }
    let mut engines = engine::open(&settings.engines, &context)?;
    let ip_for_workers = engines.prepare(&|text| screen.line(text)).await?;
    let listener = listen(settings, &journaled, ip_for_workers).await?;
    let address = listener.local_addr()?;
    adopt(&mut journaled, &mut engines).await?;
    journaled
        .record(Entry::Begun {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            listen: address.to_string(),
            engines: engines.engine_names(),
        })
        .await?;
    let url = settings.callback_url.clone();
    let project_id = settings.worker.project_id.as_ref();
    let project_id = project_id.unwrap_or(&target.name).clone();
    let dispatcher = Dispatcher {
        spans: Spans::begin(
            &settings.telemetry,
            &journaled.state,
            &project_id,
            &settings.redactor,
        ),
        shared_settings: SharedSettings {
            project_id,
            callback_url: url.unwrap_or_else(|| callback_url(address, ip_for_workers)),
            clone_url: integration.clone_url(),
            removed_variables: removed_variables(worker_location),
        },
        show: Show::new(screen),
        engines,
        secret: Secret::read_or_create(&target.state_dir)?,
        graph,
        policy: Policy::new(settings, scope, needs, tip.broken_definitions.clone()),
        tip,
        branch_searches: BranchSearches::new(integration.run_branches()),
        integration: Some(integration),
        checks: HashMap::new(),
        merge_failures: 0,
        next_merge: None,
        has_given_up_merges: false,
        verify: settings.verify,
        end_check: None,
        settings,
        journaled,
    };
    Ok((dispatcher, listener))
}

/// A message about the renamed journal, and about machines and containers that its dispatch may have left.
fn renamed_journal_message(renamed: &RenamedJournal) -> String {
    let mut message = format!(
        "the journal of the last dispatch is in {}; the branches of its runs are kept",
        renamed.path.display()
    );
    for kind in EngineKind::ALL {
        let is_used = renamed.engines.iter().any(|word| word == kind.word());
        let dispatch = renamed.dispatch.as_deref().filter(|_| is_used);
        if let Some(left) = dispatch.and_then(|id| engine::describe_leftovers(kind, id)) {
            let _ = write!(message, "; the engine {kind} may still have {left}");
        }
    }
    message
}

/// The text of `.descartes.toml` at the tip; empty if there is no file. Workers read the same file in their clones.
pub async fn read_project_file(integration: &Integration) -> eyre::Result<String> {
    let tip = integration.tip();
    let file = integration
        .read_small_file(tip, FILE_NAME, MAX_FILE_SIZE)
        .await;
    let file =
        file.wrap_err_with(|| format!("{FILE_NAME} at the commit {} cannot be used", tip.id))?;
    String::from_utf8(file.unwrap_or_default())
        .wrap_err_with(|| format!("{FILE_NAME} at the commit {} is not UTF-8", tip.id))
}

/// The settings in `.descartes.toml` at the tip.
pub async fn read_project_settings(
    integration: &Integration,
    reader: &ProjectSettingsReader,
) -> eyre::Result<ProjectSettings> {
    let text = read_project_file(integration).await?;
    let commit = &integration.tip().id;
    let read = reader.read(&text);
    read.map_err(|why| eyre!("{FILE_NAME} at the commit {commit} cannot be used: {why}"))
}

/// The needs of the tasks in `.descartes.toml` at the tip.
pub async fn read_needs(
    integration: &Integration,
    graph: &TaskGraph,
) -> eyre::Result<HashMap<String, TaskNeeds>> {
    let text = read_project_file(integration).await?;
    let commit = &integration.tip().id;
    let read = needs::read(&text, graph);
    read.map_err(|why| eyre!("{FILE_NAME} at the commit {commit} cannot be used: {why}"))
}

/// A message about each engine that tasks need and that starts no runs of this dispatch.
fn unused_engines(needs: &HashMap<String, TaskNeeds>, engines: &engine::Settings) -> Vec<String> {
    let mut tasks: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (task, needs) in needs {
        if let Some(engine) = needs
            .engine
            .filter(|engine| !engines.accepts_new_runs(*engine))
        {
            tasks.entry(engine.word()).or_default().push(task);
        }
    }
    let sentence = |(engine, tasks): (&str, Vec<&str>)| {
        format!(
            "{} of the tasks should run on the engine {engine}, as {} says; they run elsewhere, because --engine does not name it, or lets nothing new start there",
            tasks.len(),
            FILE_NAME
        )
    };
    tasks.into_iter().map(sentence).collect()
}

/// Returns an error if live runs of the last dispatcher may be on an engine that this dispatcher does not use: this
/// dispatcher could not stop them.
fn require_engines(settings: &engine::Settings, state: &State) -> eyre::Result<()> {
    let live = || state.live_runs();
    if live().next().is_none() {
        return Ok(());
    }
    let all = engine::EngineKind::ALL;
    let unreachable = all.into_iter().find(|engine| {
        let is_used = state.engines.iter().any(|word| word == engine.word());
        // Every dispatcher finds runs on this machine, even if the settings do not name the engine `local`.
        is_used && *engine != engine::EngineKind::Local && !settings.uses(*engine)
    });
    match unreachable {
        None => Ok(()),
        Some(engine) => bail!(
            "the last dispatcher used the engine {engine}, and {} of its runs may still be there: add --engine {engine}=0 to watch them without starting new ones",
            live().count()
        ),
    }
}

/// Finds the runs of the last dispatcher on the engines. Records the handles that the last dispatcher had no time to
/// record, and stops the runs that are not needed any more.
async fn adopt(journaled: &mut JournaledState, engines: &mut Engines) -> eyre::Result<()> {
    for run in journaled.state.live_runs() {
        let word = run.engine.as_deref().unwrap_or_default();
        if let (None, Some(kind)) = (&run.handle, EngineKind::of_word(word)) {
            engines.restore_placement(&run.id, kind);
        }
    }
    let mut records = Vec::new();
    for (run_id, handle) in engines.find_runs().await? {
        match journaled.state.run(&run_id) {
            Some(run) if run.is_live() && run.handle.is_none() => {
                records.push(journaled.apply(Entry::Handle {
                    run: run_id,
                    handle,
                }));
            }
            // The handle of the run is in the journal already.
            Some(run) if run.is_live() => {}
            // The run has reported, and its worker will end soon.
            Some(run) if run.report.is_some() => {
                engines.release(&run_id, &handle, UNNEEDED_WORKER_GRACE_PERIOD);
            }
            // The run is fenced, or the journal does not have it.
            _ => {
                engines.stop(&handle, UNNEEDED_WORKER_GRACE_PERIOD);
                engines.release(&run_id, &handle, UNNEEDED_WORKER_GRACE_PERIOD);
            }
        }
    }
    journaled.write(records).await
}

/// Whether the state directory has a journal with entries.
pub fn has_journal(state_dir: &Path) -> eyre::Result<bool> {
    Ok(!journal::read(state_dir)?.is_empty())
}
