//! The engine `command`: runs on any platform, by three command lines. `start` starts a worker, `look` prints its
//! state, and `stop` ends and removes it.
//!
//! The commands get the run's name and the variables of its worker in their environment, never as arguments, which
//! every user of the machine could read. The last line that `start` prints is saved in a file of
//! the run; the commands `look` and `stop` get it, to find the worker again.

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

use super::calls::{Found, Look, StartFailure, answer_of};
use super::settings::CommandSettings;
use super::spec::Spec;
use crate::dispatch::journal::Handle;
use crate::dispatch::state::{End, Seen};

/// How long a command may take.
pub const TIME_LIMIT: Duration = Duration::from_secs(60);
/// The pause between two `look` commands that wait for the end of a run.
const END_PAUSE: Duration = Duration::from_secs(2);
/// How much of the end of a command's output is read, in bytes.
const MAX_OUTPUT: u64 = 64 * 1024;
/// The exit code for "try again later" (`EX_TEMPFAIL` of sysexits.h).
const TRY_AGAIN: i32 = 75;
/// The exit code for "this can never work" (`EX_CONFIG` of sysexits.h).
const WRONG_CONFIGURATION: i32 = 78;
/// The file in a run's directory with the last line that the command `start` has printed.
const HANDLE_FILE: &str = "handle";
/// The file that exists in the run's directory from the first start command until one has said clearly what it has done.
const STARTING_FILE: &str = "starting";

/// The three command lines, and the directories of the runs that they have started.
#[derive(Debug)]
pub struct CommandLines {
    settings: CommandSettings,
    dispatch: String,
    /// The directory with one directory for the output of each run.
    dir: PathBuf,
    time_limit: Duration,
}

/// A command that has ended.
struct Finished {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl CommandLines {
    pub fn new(
        settings: CommandSettings,
        dispatch: String,
        dir: PathBuf,
        time_limit: Duration,
    ) -> Self {
        Self {
            settings,
            dispatch,
            dir,
            time_limit,
        }
    }

    /// Runs the command `start`.
    pub async fn start(&self, run: &str, spec: &Spec) -> Result<Handle, StartFailure> {
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
        for name in &spec.removed {
            command.env_remove(name);
        }
        command
            .env("RUN_VARIABLES", names.join(" "))
            .envs(variables.iter().map(|(name, value)| (name, value)));
        let dir = self.dir.join(run);
        let cannot_write =
            |error| StartFailure::Failed(format!("cannot write to {}: {error}", dir.display()));
        fs::create_dir_all(&dir).map_err(cannot_write)?;
        let starting = dir.join(STARTING_FILE);
        let is_first = !starting.exists();
        fs::write(&starting, "").map_err(cannot_write)?;
        let finished = self.run(command, "start", self.time_limit).await;
        let finished = finished.map_err(StartFailure::Unknown)?;
        if !finished.status.success() {
            let trouble = finished.trouble("start");
            let failure = match finished.status.code() {
                Some(WRONG_CONFIGURATION) => StartFailure::Refused(trouble),
                // A signal has ended it, so it may have started something.
                Some(TRY_AGAIN) | None => StartFailure::Unknown(trouble),
                Some(_) => StartFailure::Failed(trouble),
            };
            // An earlier start command may have started something, although this one has not.
            if is_first && !failure.is_unclear() {
                fs::remove_file(&starting).map_err(cannot_write)?;
            }
            return Err(failure);
        }
        let Some(id) = last_line(&finished.stdout) else {
            return Err(StartFailure::Unknown(
                "the command start has printed no line by which the run is found again".to_owned(),
            ));
        };
        // The next dispatcher must not read a part of the handle.
        let unfinished = dir.join("handle.new");
        fs::write(&unfinished, id).map_err(cannot_write)?;
        fs::rename(&unfinished, dir.join(HANDLE_FILE)).map_err(cannot_write)?;
        fs::remove_file(&starting).map_err(cannot_write)?;
        Ok(Handle::Command { id: id.to_owned() })
    }

    /// Asks for the states of runs, with one command `look` for each. An error about one run does not affect the
    /// others.
    pub async fn look(&self, asked: &[(String, Handle)]) -> Result<Vec<Look>, String> {
        let (mut looks, mut first_trouble) = (Vec::new(), None);
        for (run, handle) in asked {
            let seen = match self.look_at(run, handle).await {
                Ok(seen) => seen,
                Err(why) => {
                    first_trouble.get_or_insert(why);
                    Seen::Unknown
                }
            };
            looks.push((run.clone(), seen));
        }
        answer_of(looks, first_trouble)
    }

    /// Runs the command `look` for one run.
    async fn look_at(&self, run: &str, handle: &Handle) -> Result<Seen, String> {
        let mut command = self.command(&self.settings.look, run);
        command.env("RUN_HANDLE", id_of(handle));
        let finished = self.run(command, "look", self.time_limit).await?;
        if !finished.status.success() {
            return Err(finished.trouble("look"));
        }
        parse_look(last_line(&finished.stdout).unwrap_or_default())
    }

    /// Runs the command `stop`, which may take the grace period in addition to its own time.
    pub async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), String> {
        match self.run_of(handle) {
            Some(run) => self.stop_run(&run, handle, grace).await,
            None => Ok(()),
        }
    }

    async fn stop_run(&self, run: &str, handle: &Handle, grace: Duration) -> Result<(), String> {
        let mut command = self.command(&self.settings.stop, run);
        command
            .env("RUN_HANDLE", id_of(handle))
            .env("RUN_GRACE_SECONDS", grace.as_secs().to_string());
        let finished = self.run(command, "stop", grace + self.time_limit).await?;
        if finished.status.success() {
            return Ok(());
        }
        Err(finished.trouble("stop"))
    }

    /// Waits until a run has ended.
    pub async fn ended(&self, handle: &Handle) -> Result<(), String> {
        let Some(run) = self.run_of(handle) else {
            return Ok(());
        };
        loop {
            match self.look_at(&run, handle).await? {
                Seen::Ended(_) | Seen::Gone => return Ok(()),
                Seen::Running | Seen::Unknown => sleep(END_PAUSE).await,
            }
        }
    }

    /// Stops the run without grace, which also removes what is left of it. Without a handle, the command `stop` finds by the
    /// run's name what a start command without a clear result has started.
    pub async fn remove(&self, run: &str, handle: &Handle) -> Result<(), String> {
        if self.found(run).is_none() {
            return Ok(());
        }
        self.stop_run(run, handle, Duration::ZERO).await?;
        for name in [HANDLE_FILE, STARTING_FILE] {
            let file = self.dir.join(run).join(name);
            match fs::remove_file(&file) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(format!("cannot remove {}: {error}", file.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What was started, or may have been started, and not removed.
    pub fn sweep(&self) -> Vec<Found> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let runs = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let runs = runs.filter(|run| run.starts_with(&format!("{}-", self.dispatch)));
        runs.filter_map(|run| self.found(&run)).collect()
    }

    /// What there may be of a run.
    fn found(&self, run: &str) -> Option<Found> {
        let dir = self.dir.join(run);
        let id = fs::read_to_string(dir.join(HANDLE_FILE)).unwrap_or_default();
        let is_started = !id.is_empty();
        (is_started || dir.join(STARTING_FILE).exists()).then(|| Found {
            run: run.to_owned(),
            handle: Handle::Command { id },
            is_started,
        })
    }

    /// A sentence that says how the user can remove runs that the dispatch could not remove.
    pub fn how_to_remove(&self) -> String {
        let dir = self.dir.display();
        format!(
            "to remove it, call the command stop for each run that has a file {dir}/*/{HANDLE_FILE} or {dir}/*/{STARTING_FILE}"
        )
    }

    /// The run with this handle, unless the run was removed.
    fn run_of(&self, handle: &Handle) -> Option<String> {
        let found = self.sweep().into_iter();
        { found }
            .find(|found| found.is_started && found.handle == *handle)
            .map(|found| found.run)
    }

    /// A command line of the settings, with the variables that all three commands get.
    fn command(&self, line: &str, run: &str) -> Command {
        let dir = self.dir.join(run);
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

    /// Runs a command in a new process group, which is killed when the time is over. The output goes to files and not
    /// to pipes: a process that the command leaves running could hold a pipe open.
    async fn run(
        &self,
        mut command: Command,
        what: &str,
        limit: Duration,
    ) -> Result<Finished, String> {
        let failed = |error: std::io::Error| format!("the command {what} cannot run: {error}");
        let (mut stdout, mut stderr) = (
            tempfile::tempfile().map_err(failed)?,
            tempfile::tempfile().map_err(failed)?,
        );
        let mut child = command
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().map_err(failed)?)
            .stderr(stderr.try_clone().map_err(failed)?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let pid = child
            .id()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let Ok(status) = timeout(limit, child.wait()).await else {
            if let Some(pid) = pid {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let _ = child.wait().await;
            let seconds = limit.as_secs_f64();
            return Err(format!("the command {what} was killed after {seconds} s"));
        };
        Ok(Finished {
            status: status.map_err(failed)?,
            stdout: text(&mut stdout).map_err(failed)?,
            stderr: text(&mut stderr).map_err(failed)?,
        })
    }
}

impl Finished {
    /// Why a command has failed: its exit status, and the last line of its output.
    fn trouble(&self, what: &str) -> String {
        let how = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "an unknown status".to_owned(),
        };
        let output = last_line(&self.stderr).or(last_line(&self.stdout));
        match output {
            Some(output) => format!("the command {what} ended with {how}: {output}"),
            None => format!("the command {what} ended with {how}"),
        }
    }
}

/// The end of a file.
fn text(file: &mut fs::File) -> std::io::Result<String> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_OUTPUT)))?;
    let mut bytes = Vec::new();
    file.take(MAX_OUTPUT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Billionths as a decimal number: `1.5`.
fn decimal(nanos: u64) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn last_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim).rfind(|line| !line.is_empty())
}

/// Reads the word that the command `look` prints.
fn parse_look(line: &str) -> Result<Seen, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let seen = match words.as_slice() {
        ["starting" | "running"] => Some(Seen::Running),
        ["gone"] => Some(Seen::Gone),
        ["exit", code] | ["exit", code, "oom"] => code.parse().ok().map(|code| {
            Seen::Ended(End {
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

fn id_of(handle: &Handle) -> &str {
    match handle {
        Handle::Command { id } => id,
        _ => "",
    }
}
