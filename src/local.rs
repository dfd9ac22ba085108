//! Commands with the built-in orchestrator: `demo` and `local` run a worker with it, `receive` runs it alone.
//!
//! The worker is this same program in a separate process, started in the same way as any orchestrator starts
//! it. None of the worker's code runs in this process.

mod dry_run;
mod graph_demo;
mod lines;
mod receive;
mod recorder;
mod sample;
mod settings;
mod summary;
mod task_lock;
mod worker_end;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use eyre::{WrapErr, eyre};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::excerpt::visible;
use crate::hangup::Hangup;
use crate::receiver::{Notice, Receiver};
use crate::result_line;
use crate::scud::{self, FinishedTasks, TaskQuery};
use crate::terminal::{HeartbeatContent, JsonLines, Screen, Signatures, Timeline};
pub use dry_run::{DryRun, dry_run};
pub use graph_demo::demo_graph;
use lines::read_lines;
pub use receive::{ReceiveSettings, receive};
use recorder::Recorder;
pub use settings::{Agent, Project, Settings, is_checked_out};
pub use task_lock::TaskLock;
use worker_end::WorkerEnd;

/// A free port of the loopback interface.
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// How often the worker sends a heartbeat, unless the user has set an interval. The interval is short, because a person is
/// watching.
const HEARTBEAT_INTERVAL: &str = "1s";
/// How long to wait for the worker's last lines after the worker has ended. Only a process that survived SIGKILL can
/// still hold the worker's output open.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a worker on a sample project; returns the worker's exit code.
pub async fn demo(settings: Settings, screen: &Screen) -> eyre::Result<u8> {
    let mut recorder = Recorder::for_run(&settings, screen)?;
    let sample = sample::Sample::create(&settings.environment)
        .await
        .wrap_err("cannot make the sample project")?;
    screen.line(&format!(
        "a sample project with a failing check, in {}",
        sample.dir().display()
    ));
    let mut settings = Settings {
        project: Project::InPlace(sample.dir().to_owned()),
        ..settings
    };
    settings.task = sample::TASK.to_owned();
    let (message, setting) = match settings.agent {
        Agent::FromSettings => (
            "the agent is the one that the settings name".to_owned(),
            None,
        ),
        Agent::FromKey(kind) => (
            format!("there is a key, so the agent is {}", kind.word),
            Some(("DESCARTES_AGENT", kind.word)),
        ),
        Agent::None => (
            "no agent is set, so a short script stands in for one: sh .agent.sh".to_owned(),
            Some(("DESCARTES_AGENT_COMMAND", "sh .agent.sh")),
        ),
    };
    screen.line(&message);
    settings
        .variables
        .extend(setting.map(|(name, value)| (name, value.into())));
    let json = JsonLines::new(settings.format, screen.redactor());
    let worker_end = run_worker(&settings, &mut recorder, screen, &json).await;
    if worker_end.is_err() {
        recorder.write(screen);
    }
    let worker_end = worker_end?;
    let diff = sample.diff().await;
    match &diff {
        Ok(diff) => {
            screen.line("\nwhat the worker has changed in the project:\n");
            screen.line(&visible(diff));
        }
        Err(error) => screen.line(&format!("cannot show what has changed: {error:#}")),
    }
    summary::show(&worker_end, screen);
    let diff = diff.ok();
    if let Some(diff) = &diff {
        recorder.set_patch(diff.clone());
    }
    recorder.write(screen);
    summary::write_result(&worker_end, &json, diff.as_deref()).await;
    Ok(worker_end.exit_code())
}

/// Runs one task of a project on this machine; returns the worker's exit code.
pub async fn run(settings: Settings, screen: &Screen) -> eyre::Result<u8> {
    let json = JsonLines::new(settings.format, screen.redactor());
    let mut recorder = Recorder::for_run(&settings, screen)?;
    let worker_end = run_worker(&settings, &mut recorder, screen, &json).await;
    if let Ok(worker_end) = &worker_end {
        summary::show(worker_end, screen);
    }
    recorder.write(screen);
    let worker_end = worker_end?;
    summary::write_result(&worker_end, &json, None).await;
    Ok(worker_end.exit_code())
}

/// Runs the worker with a built-in orchestrator, and shows the output of both. The orchestrator listens before the
/// worker starts, because the worker gets its URL.
async fn run_worker(
    settings: &Settings,
    recorder: &mut Recorder,
    screen: &Screen,
    json: &JsonLines,
) -> eyre::Result<WorkerEnd> {
    recorder.read_task(settings).await;
    let repository = settings.project.repository()?;
    let lock = match settings.project.directory() {
        Some(dir) => {
            let task = full_name(settings, dir).await;
            Some(TaskLock::take(&settings.lock_dirs, dir, &task)?)
        }
        // Each clone is in a private directory, so no other worker can disturb it.
        None => None,
    };
    let orchestrator = Receiver::bind(LOOPBACK)
        .await
        .wrap_err("cannot listen on the loopback interface")?;
    let (sender, mut notices) = mpsc::unbounded_channel();
    let url = orchestrator.url();
    recorder.record_start_request();
    let worker = spawn_worker(settings, repository.as_deref(), &url, lock.as_ref())?;
    recorder.record_start();
    let mut timeline = Timeline::begin(screen, json.clone(), HeartbeatContent::Phase);
    timeline.show_url(&url, Signatures::NotChecked);
    timeline.show_message(
        "orchestrator",
        &format!("starts a worker for task {}", settings.task),
    );
    if let Some(url) = &repository {
        timeline.show_message("orchestrator", &format!("the worker clones {url}"));
    }
    let directory = settings.project.directory().map(absolute).transpose()?;
    json.write_now(
        "worker_started",
        json!({ "task": settings.task, "directory": directory, "repository": repository }),
    );
    let (status, event) = tokio::select! {
        result = watch_worker(worker, &mut timeline, recorder, &mut notices) => result?,
        () = orchestrator.serve(sender) => return Err(eyre!("the orchestrator ended before the worker")),
    };
    timeline.show_end(status.code());
    recorder.record_end(status.code());
    Ok(WorkerEnd::new(
        status, event, directory, repository, settings,
    ))
}

/// The phase and the id of the task in the project's graph: `8` and `webapp:8` can be the same task, and
/// `8` in two phases is two tasks. If the graph has no such task, the run will fail, and this returns the name
/// in the settings.
async fn full_name(settings: &Settings, dir: &Path) -> String {
    let query = TaskQuery {
        reference: &settings.task,
        tag: settings.tag.as_deref(),
        finished_tasks: FinishedTasks::Allow,
    };
    match scud::Project::at(dir.to_owned()).find(&query).await {
        Ok(task) => format!("{}:{}", task.phase, task.id),
        Err(_) => settings.task.clone(),
    }
}

/// Starts the worker like an orchestrator does: this program, with all settings in its environment.
///
/// Its standard input is a pipe whose other end this process holds. If this process is killed, the
/// kernel closes the pipe, and the worker stops.
fn spawn_worker(
    settings: &Settings,
    repository: Option<&str>,
    url: &str,
    lock: Option<&TaskLock>,
) -> eyre::Result<Child> {
    let program = std::env::current_exe().wrap_err("cannot find the path of this program")?;
    let mut command = Command::new(&program);
    if !settings.has_heartbeat_interval {
        command.env("DESCARTES_HEARTBEAT", HEARTBEAT_INTERVAL);
    }
    command
        .envs(settings.variables.iter().map(|(name, value)| (name, value)))
        .env("TASK_ID", &settings.task)
        .env("PROJECT_ID", &settings.project_id)
        .env("CALLBACK_URL", url)
        .env("DESCARTES_LOG_FORMAT", "pretty")
        // This process reads the lines of the worker and colours them itself.
        .env_remove("CLICOLOR_FORCE")
        .env("DESCARTES_STOP_AT_END_OF_STDIN", "true")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A terminal sends Ctrl-C to this process only, which forwards it once.
        .process_group(0);
    match repository {
        Some(url) => command.env("DESCARTES_REPO", url),
        None => command.env_remove("DESCARTES_REPO"),
    };
    match &settings.project {
        Project::InPlace(dir)
        | Project::Cloned {
            into: Some(dir), ..
        } => command.env("DESCARTES_WORKSPACE", absolute(dir)?),
        Project::Committed(_) => command.env_remove("DESCARTES_WORKSPACE"),
        Project::Cloned { into: None, .. } => &mut command,
    };
    if let Some(lock) = lock {
        command.env("DESCARTES_TASK_LOCK", lock.path());
    }
    command
        .spawn()
        .wrap_err_with(|| format!("cannot start {}", program.display()))
}

fn absolute(dir: &Path) -> eyre::Result<PathBuf> {
    std::path::absolute(dir).wrap_err("the project's directory has no absolute path")
}

/// Shows a worker's output and the notices about its events, and forwards stop signals to it, until it has ended.
/// Returns its exit status, and the terminal event on its result line.
async fn watch_worker(
    mut worker: Child,
    timeline: &mut Timeline<'_>,
    recorder: &mut Recorder,
    notices: &mut mpsc::UnboundedReceiver<Notice>,
) -> eyre::Result<(ExitStatus, Option<Value>)> {
    // Moved out of the child, because `Child::wait` closes standard input first.
    let stdin = worker.stdin.take();
    let mut stdout = read_lines(worker.stdout.take());
    let mut stderr = read_lines(worker.stderr.take());
    let mut sigint = signal(SignalKind::interrupt())?;
    let mut sigterm = signal(SignalKind::terminate())?;
    // SIGHUP means that the terminal was closed.
    let mut sighup = Hangup::listen()?;
    let pid = worker
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let forward = |signal| pid.map(|pid| kill_process(pid, signal));
    let mut event = None;
    let mut output = |timeline: &Timeline<'_>, line: &str| {
        timeline.show_output_line(line);
        event = result_line::event_of(line).or(event.take());
    };
    let status = loop {
        tokio::select! {
            biased;
            Some(notice) = notices.recv() => {
                recorder.record_notice(&notice);
                timeline.show_notice(&notice);
            }
            Some(line) = stderr.recv() => {
                timeline.show_log_line(&line);
                recorder.record_log_line(&line);
            }
            Some(line) = stdout.recv() => output(timeline, &line),
            _ = sigint.recv() => drop(forward(Signal::INT)),
            _ = sigterm.recv() => drop(forward(Signal::TERM)),
            () = sighup.recv() => drop(forward(Signal::HUP)),
            status = worker.wait() => break status?,
            () = timeline.tick() => {}
        }
    };
    drop(stdin);
    // The worker's last lines may still be in the pipes. Its last event has arrived, because the worker
    // waited for the answer.
    let rest = async {
        while let Some(line) = stderr.recv().await {
            timeline.show_log_line(&line);
            recorder.record_log_line(&line);
        }
        while let Some(line) = stdout.recv().await {
            output(timeline, &line);
        }
    };
    let _ = timeout(LAST_LINES_TIMEOUT, rest).await;
    while let Ok(notice) = notices.try_recv() {
        recorder.record_notice(&notice);
        timeline.show_notice(&notice);
    }
    Ok((status, event))
}
