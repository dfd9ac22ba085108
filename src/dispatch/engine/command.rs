//! The engine `command`: workers on any platform, by three command lines of the user. `start` starts a worker, `look`
//! prints its state, and `stop` ends and removes it.
//!
//! The commands get the run's id, and `start` gets the variables of its worker, in their environment. Every user of the
//! machine could read arguments. The last line that `start` prints is the handle: it is saved in a file of the run, and
//! the commands `look` and `stop` get it, to find the worker again.

#[cfg(test)]
mod tests;

use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::answers::{FoundRun, RunState, StartFailure, states_or_error};
use super::settings::CommandSettings;
use super::spec::RunSpec;
use crate::dispatch::journal::Handle;
use crate::dispatch::state::{WorkerEnd, WorkerState};

/// How long a command may take. `stop` may take the grace period in addition.
pub const TIME_LIMIT: Duration = Duration::from_secs(60);
/// The pause between two `look` commands while the engine waits for the end of a run.
const END_POLL_INTERVAL: Duration = Duration::from_secs(2);
/// How many bytes are read at most from the end of a command's output.
const MAX_OUTPUT_SIZE: u64 = 64 * 1024;
/// The exit code for "try again later" (`EX_TEMPFAIL` of sysexits.h).
const EXIT_TRY_AGAIN: i32 = 75;
/// The exit code for "this can never work" (`EX_CONFIG` of sysexits.h).
const EXIT_WRONG_CONFIGURATION: i32 = 78;
/// The file in a run's directory with the last line that the command `start` has printed.
const HANDLE_FILE: &str = "handle";
/// The file in a run's directory that exists while a `start` command may have started a worker whose handle is not
/// saved.
const UNCLEAR_START_FILE: &str = "starting";

/// The three command lines, and the directories of the runs that they have started.
#[derive(Debug)]
pub struct CommandLines {
    settings: CommandSettings,
    /// The id of the dispatch.
    dispatch: String,
    /// The directory with one directory for the output of each run.
    runs_dir: PathBuf,
    /// [`TIME_LIMIT`], except in tests.
    time_limit: Duration,
}

/// The result of a command that has ended.
struct CommandResult {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl CommandLines {
    pub fn new(
        settings: CommandSettings,
        dispatch: String,
        runs_dir: PathBuf,
        time_limit: Duration,
    ) -> Self {
        Self {
            settings,
            dispatch,
            runs_dir,
            time_limit,
        }
    }

    /// Starts a run with the command `start`.
    pub async fn start(&self, run: &str, spec: &RunSpec) -> Result<Handle, StartFailure> {
        let variables = spec.environment(run);
        let names: Vec<&str> = variables.iter().map(|(name, _)| name.as_str()).collect();
        let mut command = self.command(&self.settings.start, run);
        if let Some(image) = &spec.needs.image {
            command.env("RUN_IMAGE", image);
        }
        if let Some(memory) = spec.memory {
            command.env("RUN_MEMORY", memory.to_string());
        }
        if let Some(cpus) = spec.needs.nano_cpus.or(self.settings.nano_cpus) {
            command.env("RUN_CPUS", decimal(cpus));
        }
        for name in &spec.removed_variables {
            command.env_remove(name);
        }
        command
            .env("RUN_VARIABLES", names.join(" "))
            .envs(variables.iter().map(|(name, value)| (name, value)));
        let dir = self.runs_dir.join(run);
        let cannot_write =
            |error| StartFailure::Failed(format!("cannot write to {}: {error}", dir.display()));
        fs::create_dir_all(&dir).map_err(cannot_write)?;
        let unclear_start = dir.join(UNCLEAR_START_FILE);
        let has_earlier_unclear_start = unclear_start.exists();
        fs::write(&unclear_start, "").map_err(cannot_write)?;
        let result = self.execute(command, "start", self.time_limit).await;
        let result = result.map_err(StartFailure::Unknown)?;
        if !result.status.success() {
            let why = result.describe_failure("start");
            let failure = match result.status.code() {
                Some(EXIT_WRONG_CONFIGURATION) => StartFailure::Refused(why),
                // Without an exit code, a signal has ended the command. It may have started a worker before.
                Some(EXIT_TRY_AGAIN) | None => StartFailure::Unknown(why),
                Some(_) => StartFailure::Failed(why),
            };
            // An earlier `start` command may have started a worker, although this one has not.
            if !has_earlier_unclear_start && !failure.may_have_started() {
                fs::remove_file(&unclear_start).map_err(cannot_write)?;
            }
            return Err(failure);
        }
        let Some(id) = last_line(&result.stdout) else {
            return Err(StartFailure::Unknown(
                "the command start has printed no line by which the run is found again".to_owned(),
            ));
        };
        // Rename the complete file: after a crash, the next dispatcher must not read a part of the handle.
        let new_file = dir.join("handle.new");
        fs::write(&new_file, id).map_err(cannot_write)?;
        fs::rename(&new_file, dir.join(HANDLE_FILE)).map_err(cannot_write)?;
        fs::remove_file(&unclear_start).map_err(cannot_write)?;
        Ok(Handle::Command { id: id.to_owned() })
    }

    /// Asks for the states of runs, with one command `look` for each. An error about one run does not affect the
    /// others.
    pub async fn states_of(&self, runs: &[(String, Handle)]) -> Result<Vec<RunState>, String> {
        let (mut states, mut first_error) = (Vec::new(), None);
        for (run, handle) in runs {
            let seen = match self.state_of(run, handle).await {
                Ok(seen) => seen,
                Err(why) => {
                    first_error.get_or_insert(why);
                    WorkerState::Unknown
                }
            };
            states.push((run.clone(), seen));
        }
        states_or_error(states, first_error)
    }

    /// Asks for the state of one run with the command `look`.
    async fn state_of(&self, run: &str, handle: &Handle) -> Result<WorkerState, String> {
        let mut command = self.command(&self.settings.look, run);
        command.env("RUN_HANDLE", id_in(handle));
        let result = self.execute(command, "look", self.time_limit).await?;
        if !result.status.success() {
            return Err(result.describe_failure("look"));
        }
        parse_state(last_line(&result.stdout).unwrap_or_default())
    }

    /// Stops a run with the command `stop`. Does nothing if the run was removed.
    pub async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), String> {
        match self.run_of(handle) {
            Some(run) => self.stop_run(&run, handle, grace).await,
            None => Ok(()),
        }
    }

    /// Runs the command `stop`, which may take the grace period in addition to its time limit.
    async fn stop_run(&self, run: &str, handle: &Handle, grace: Duration) -> Result<(), String> {
        let mut command = self.command(&self.settings.stop, run);
        command
            .env("RUN_HANDLE", id_in(handle))
            .env("RUN_GRACE_SECONDS", grace.as_secs().to_string());
        let limit = grace + self.time_limit;
        let result = self.execute(command, "stop", limit).await?;
        if result.status.success() {
            return Ok(());
        }
        Err(result.describe_failure("stop"))
    }

    /// Waits until a run has ended.
    pub async fn wait_for_end(&self, handle: &Handle) -> Result<(), String> {
        let Some(run) = self.run_of(handle) else {
            return Ok(());
        };
        loop {
            match self.state_of(&run, handle).await? {
                WorkerState::Ended(_) | WorkerState::Gone => return Ok(()),
                WorkerState::Running | WorkerState::Unknown => sleep(END_POLL_INTERVAL).await,
            }
        }
    }

    /// Stops the run without a grace period, which also removes it from its platform. If a `start` command had no clear
    /// result, there is no handle: then the command `stop` finds the worker by the run's id.
    pub async fn remove(&self, run: &str, handle: &Handle) -> Result<(), String> {
        if self.find_run(run).is_none() {
            return Ok(());
        }
        self.stop_run(run, handle, Duration::ZERO).await?;
        for name in [HANDLE_FILE, UNCLEAR_START_FILE] {
            let file = self.runs_dir.join(run).join(name);
            match fs::remove_file(&file) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(format!("cannot remove {}: {error}", file.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The runs of this dispatch that were started, or may have been started, and are not removed.
    pub fn find_runs(&self) -> Vec<FoundRun> {
        let entries = fs::read_dir(&self.runs_dir).into_iter().flatten().flatten();
        let runs = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let runs = runs.filter(|run| run.starts_with(&format!("{}-", self.dispatch)));
        runs.filter_map(|run| self.find_run(&run)).collect()
    }

    /// The run with this id, if it was started, or may have been started, and is not removed.
    fn find_run(&self, run: &str) -> Option<FoundRun> {
        let dir = self.runs_dir.join(run);
        let id = fs::read_to_string(dir.join(HANDLE_FILE)).unwrap_or_default();
        let is_started = !id.is_empty();
        (is_started || dir.join(UNCLEAR_START_FILE).exists()).then(|| FoundRun {
            run: run.to_owned(),
            handle: Handle::Command { id },
            is_started,
        })
    }

    /// A sentence that says how the user can remove runs that the dispatch could not remove.
    pub fn how_to_remove(&self) -> String {
        let dir = self.runs_dir.display();
        format!(
            "to remove it, call the command stop for each run that has a file {dir}/*/{HANDLE_FILE} or {dir}/*/{UNCLEAR_START_FILE}"
        )
    }

    /// The id of the run with this handle; `None` if the run was removed.
    fn run_of(&self, handle: &Handle) -> Option<String> {
        let found = self.find_runs().into_iter();
        { found }
            .find(|found| found.is_started && found.handle == *handle)
            .map(|found| found.run)
    }

    /// A command line of the settings, with the variables that all three commands get.
    fn command(&self, line: &str, run: &str) -> Command {
        let dir = self.runs_dir.join(run);
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .env("RUN_NAME", run)
            .env("RUN_DISPATCH", &self.dispatch)
            .env(
                "RUN_IMAGE",
                self.settings.image.as_deref().unwrap_or_default(),
            )
            .env("RUN_OUTPUT", dir.join("stdout"))
            .env("RUN_LOG", dir.join("log"));
        command
    }

    /// Runs a command in a new process group, which is killed if it runs longer than the limit. `name` is `start`,
    /// `look` or `stop`. The output goes to files and not to pipes: a process that the command leaves running could
    /// hold a pipe open.
    async fn execute(
        &self,
        mut command: Command,
        name: &str,
        limit: Duration,
    ) -> Result<CommandResult, String> {
        let io_error = |error: std::io::Error| format!("the command {name} cannot run: {error}");
        let (mut stdout, mut stderr) = (
            tempfile::tempfile().map_err(io_error)?,
            tempfile::tempfile().map_err(io_error)?,
        );
        let mut child = command
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().map_err(io_error)?)
            .stderr(stderr.try_clone().map_err(io_error)?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(io_error)?;
        let pid = child
            .id()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let Ok(status) = timeout(limit, child.wait()).await else {
            if let Some(pid) = pid {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let _ = child.wait().await;
            let seconds = limit.as_secs_f64();
            return Err(format!("the command {name} was killed after {seconds} s"));
        };
        Ok(CommandResult {
            status: status.map_err(io_error)?,
            stdout: read_end(&mut stdout).map_err(io_error)?,
            stderr: read_end(&mut stderr).map_err(io_error)?,
        })
    }
}

impl CommandResult {
    /// Says why the command with this name has failed: its exit status, and the last line of its output.
    fn describe_failure(&self, name: &str) -> String {
        let status = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "an unknown status".to_owned(),
        };
        let output = last_line(&self.stderr).or(last_line(&self.stdout));
        match output {
            Some(output) => format!("the command {name} ended with {status}: {output}"),
            None => format!("the command {name} ended with {status}"),
        }
    }
}

/// Reads the last [`MAX_OUTPUT_SIZE`] bytes of a file.
fn read_end(file: &mut fs::File) -> std::io::Result<String> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_OUTPUT_SIZE)))?;
    let mut bytes = Vec::new();
    file.take(MAX_OUTPUT_SIZE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Converts billionths to a decimal number, such as `1.5`.
fn decimal(billionths: u64) -> String {
    let text = format!(
        "{}.{:09}",
        billionths / 1_000_000_000,
        billionths % 1_000_000_000
    );
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The last line that is not blank.
fn last_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim).rfind(|line| !line.is_empty())
}

/// Reads the state of a run from the last line that the command `look` prints.
fn parse_state(line: &str) -> Result<WorkerState, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let seen = match words.as_slice() {
        ["starting" | "running"] => Some(WorkerState::Running),
        ["gone"] => Some(WorkerState::Gone),
        ["exit", code] | ["exit", code, "oom"] => code.parse().ok().map(|code| {
            WorkerState::Ended(WorkerEnd {
                code: Some(code),
                is_out_of_memory: words.len() == 3,
            })
        }),
        _ => None,
    };
    seen.ok_or_else(|| {
        format!("the command look printed {line:?}; it must print starting, running, gone, exit N or exit N oom")
    })
}

/// The id in a handle of this engine.
fn id_in(handle: &Handle) -> &str {
    match handle {
        Handle::Command { id } => id,
        _ => "",
    }
}
