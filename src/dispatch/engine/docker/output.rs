//! Saves the output of a container, and the reason of its end.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::client::ApiError;
use super::logs::Demultiplexer;
use super::{Docker, is_out_of_memory};

/// How long the engine may send nothing while a container's log is read.
const LOG_SILENCE: Duration = Duration::from_secs(30);
/// How often the engine is asked for a container's output before the run counts as ended without it.
const OUTPUT_ATTEMPTS: u32 = 5;

impl Docker {
    /// Writes the output of a container to the run's files, with the reason of its end if only the engine knows it.
    /// Some logging drivers cannot be read, so the engine never returns the output. The run must end anyway: after a
    /// few attempts, the error is written instead of the output.
    pub(super) async fn save_output(
        &self,
        run: &str,
        id: &str,
        found: &Value,
    ) -> Result<(), ApiError> {
        let saved = self.save_log(run, id).await;
        let mut sentences = reasons(found);
        if let Err(error) = saved {
            let attempts = {
                let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
                let attempts = unread.entry(run.to_owned()).or_default();
                *attempts += 1;
                *attempts
            };
            if error.code().is_none() && attempts < OUTPUT_ATTEMPTS {
                return Err(error);
            }
            sentences.push(format!(
                "docker: its output could not be read: {}",
                error.why()
            ));
        }
        let path = self.dir.join(run).join("log");
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut log| {
                sentences
                    .iter()
                    .try_for_each(|sentence| writeln!(log, "{sentence}"))
            });
        written.map_err(|error| cannot_write(&path, &error))
    }

    /// Writes standard output and standard error to two files.
    async fn save_log(&self, run: &str, id: &str) -> Result<(), ApiError> {
        let dir = self.dir.join(run);
        let written = |error: std::io::Error| cannot_write(&dir, &error);
        fs::create_dir_all(&dir).map_err(written)?;
        let path = format!("containers/{id}/logs");
        let query = [("stdout", "1"), ("stderr", "1")];
        let mut response = self
            .client
            .open(self.client.request(Method::GET, &path, &query))
            .await?;
        let file = |name: &str| File::create(dir.join(name)).map(std::io::BufWriter::new);
        let (stdout, stderr) = (
            file("stdout").map_err(written)?,
            file("log").map_err(written)?,
        );
        let mut frames = Demultiplexer::new(stdout, stderr);
        loop {
            let chunk = tokio::time::timeout(LOG_SILENCE, response.chunk()).await;
            let chunk =
                chunk.map_err(|_| ApiError::Unknown(format!("the log of {run} does not end")))?;
            match chunk.map_err(|error| self.client.broken(&error))? {
                Some(bytes) => frames.feed(&bytes).map_err(written)?,
                None => break,
            }
        }
        let finished = frames.finish().map(drop);
        finished.map_err(|error| {
            ApiError::Unknown(format!("the output of {run} is not whole: {error}"))
        })
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> ApiError {
    ApiError::Unknown(format!("{} cannot be written: {error}", path.display()))
}

/// The reasons of a container's end that only the engine knows.
fn reasons(found: &Value) -> Vec<String> {
    let mut reasons = Vec::new();
    if is_out_of_memory(found) {
        let limit = found.pointer("/HostConfig/Memory").and_then(Value::as_u64);
        let limit = match limit.filter(|limit| *limit > 0) {
            Some(limit) => format!("its limit is {} MiB", limit >> 20),
            None => "it has no limit of its own".to_owned(),
        };
        reasons.push(format!("docker: the container ran out of memory; {limit}"));
    }
    let error = found.pointer("/State/Error").and_then(Value::as_str);
    if let Some(error) = error.filter(|error| !error.is_empty()) {
        reasons.push(format!("docker: {error}"));
    }
    reasons
}
