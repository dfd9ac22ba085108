//! A worker under the embedded orchestrator: `demo`, `local` and `receive`.
//!
//! The worker is this same program in a process of its own, started as any orchestrator would
//! start it; nothing of it runs in here.

mod sample;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use eyre::{WrapErr, eyre};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::receiver::{Received, Receiver};
use crate::runner::agent::Kind;
use crate::terminal::{Screen, Timeline};

/// Any port of the loopback interface.
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Often enough for somebody who watches.
const HEARTBEAT: &str = "1s";

/// A worker under an embedded orchestrator.
#[derive(Debug)]
pub struct Settings {
    /// The project; the demo makes its own.
    pub project: PathBuf,
    pub task: String,
    pub project_id: String,
    /// The settings given as flags, as variables for the worker.
    pub variables: Vec<(&'static str, OsString)>,
    /// What would work on the task.
    pub agent: Agent,
}

/// What would work on a task on this machine.
#[derive(Debug, Clone, Copy)]
pub enum Agent {
    /// The settings name it.
    Chosen,
    /// There is a key, and this is the first kind that can work with it here.
    Known(&'static Kind),
    /// There is none.
    Absent,
}

/// The whole life of a worker on a sample project; gives the worker's exit code.
pub async fn demo(settings: Settings, screen: &Screen) -> eyre::Result<u8> {
    let sample = sample::Sample::make()
        .await
        .wrap_err("the sample project could not be made")?;
    screen.line(&format!(
        "a sample project with a failing check, in {}",
        sample.dir().display()
    ));
    let mut settings = Settings {
        project: sample.dir().to_owned(),
        ..settings
    };
    settings.task = sample::TASK.to_owned();
    let (words, set) = match settings.agent {
        Agent::Chosen => (
            "the agent is the one that the settings name".to_owned(),
            None,
        ),
        Agent::Known(kind) => (
            format!("there is a key, so the agent is {}", kind.word),
            Some(("DESCARTES_AGENT", kind.word)),
        ),
        Agent::Absent => (
            "no agent is set, so a script of a few lines plays one: sh .agent.sh".to_owned(),
            Some(("DESCARTES_AGENT_COMMAND", "sh .agent.sh")),
        ),
    };
    screen.line(&words);
    settings
        .variables
        .extend(set.map(|(name, value)| (name, value.into())));
    let code = run(settings, screen).await?;
    let diff = sample
        .diff()
        .await
        .wrap_err("what changed could not be shown")?;
    screen.line("\nwhat the worker leaves in the project:\n");
    screen.line(&diff);
    Ok(code)
}

/// One task of a project on this machine; gives the worker's exit code.
pub async fn run(settings: Settings, screen: &Screen) -> eyre::Result<u8> {
    let orchestrator = Receiver::bind(LOOPBACK)
        .await
        .wrap_err("cannot listen on the loopback interface")?;
    let (heard, mut events) = mpsc::unbounded_channel();
    let url = orchestrator.url();
    let worker = spawn(&settings, &url)?;
    let mut timeline = Timeline::begin(screen);
    timeline.say("orchestrator", &format!("listens at {url}"));
    timeline.say(
        "orchestrator",
        &format!("starts a worker for task {}", settings.task),
    );
    let status = tokio::select! {
        status = accompany(worker, &mut timeline, &mut events) => status?,
        () = orchestrator.serve(heard) => return Err(eyre!("the orchestrator ended before the worker")),
    };
    timeline.end(status.code());
    // A worker that died of a signal has no exit code; shells say 128 and the signal's number.
    let code = status.code().unwrap_or_else(|| {
        128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0)
    });
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// The embedded orchestrator alone, until it is interrupted.
pub async fn receive(listen: SocketAddr, screen: &Screen) -> eyre::Result<()> {
    let orchestrator = Receiver::bind(listen)
        .await
        .wrap_err_with(|| format!("cannot listen on {listen}"))?;
    let (heard, mut events) = mpsc::unbounded_channel();
    let mut timeline = Timeline::begin(screen);
    timeline.say(
        "orchestrator",
        &format!("listens at {}", orchestrator.url()),
    );
    let show = async {
        while let Some(event) = events.recv().await {
            timeline.event(&event);
        }
    };
    let (mut terminated, mut interrupted) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::select! {
        () = orchestrator.serve(heard) => {}
        () = show => {}
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    Ok(())
}

/// Starts the worker as an orchestrator does: this program, told everything by its environment.
fn spawn(settings: &Settings, url: &str) -> eyre::Result<Child> {
    let program = std::env::current_exe().wrap_err("this program cannot find itself")?;
    let project =
        std::path::absolute(&settings.project).wrap_err("the project has no absolute path")?;
    let mut command = Command::new(&program);
    command
        .env("DESCARTES_HEARTBEAT", HEARTBEAT)
        .envs(settings.variables.iter().map(|(name, value)| (name, value)))
        .env("TASK_ID", &settings.task)
        .env("PROJECT_ID", &settings.project_id)
        .env("CALLBACK_URL", url)
        .env("DESCARTES_WORKSPACE", project)
        // The project is here.
        .env_remove("DESCARTES_REPO")
        .env("DESCARTES_LOG_FORMAT", "pretty")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A terminal's Ctrl-C goes to this process alone, which passes it on once.
        .process_group(0)
        .kill_on_drop(true);
    command
        .spawn()
        .wrap_err_with(|| format!("{} could not be started", program.display()))
}

/// Shows everything about a worker until it has ended.
async fn accompany(
    mut worker: Child,
    timeline: &mut Timeline<'_>,
    events: &mut mpsc::UnboundedReceiver<Received>,
) -> eyre::Result<ExitStatus> {
    let mut stdout = lines(worker.stdout.take());
    let mut stderr = lines(worker.stderr.take());
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let pid = worker
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let pass_on = |signal| pid.map(|pid| kill_process(pid, signal));
    let status = loop {
        tokio::select! {
            biased;
            Some(event) = events.recv() => timeline.event(&event),
            Some(line) = stderr.recv() => timeline.log(&line),
            Some(line) = stdout.recv() => timeline.output(&line),
            Some(()) = interrupted.recv() => drop(pass_on(Signal::INT)),
            Some(()) = terminated.recv() => drop(pass_on(Signal::TERM)),
            status = worker.wait() => break status?,
            () = timeline.tick() => {}
        }
    };
    // Its last lines may still be on their way, its last event is not: it waited for the answer.
    let rest = async {
        while let Some(line) = stderr.recv().await {
            timeline.log(&line);
        }
        while let Some(line) = stdout.recv().await {
            timeline.output(&line);
        }
    };
    let _ = timeout(Duration::from_secs(1), rest).await;
    while let Ok(event) = events.try_recv() {
        timeline.event(&event);
    }
    Ok(status)
}

/// The lines of a pipe.
fn lines(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(64);
    if let Some(pipe) = pipe {
        tokio::spawn(async move {
            let mut lines = BufReader::new(pipe).split(b'\n');
            while let Ok(Some(line)) = lines.next_segment().await {
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
    }
    receiver
}
