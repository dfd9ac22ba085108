//! Writes the output of a container, and the reason for its end, to the files of its run.

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

/// Reading a container's log fails if the engine sends nothing for this time.
const LOG_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the output of a container is read before its run counts as ended without output.
const MAX_OUTPUT_READS: u32 = 5;

impl Docker {
    /// Writes the output of a container to the run's files, and the reason for the container's end if only the engine
    /// knows it. `description` is the engine's description of the container. With some logging drivers, the engine
    /// never returns the output. So after a few attempts, the error is written instead of the output, and the run can
    /// end.
    pub(super) async fn write_output(
        &self,
        run: &str,
        id: &str,
        description: &Value,
    ) -> Result<(), ApiError> {
        let written = self.write_streams(run, id).await;
        let mut sentences = end_reasons(description);
        if let Err(error) = written {
            let reads = {
                let reads = self.failed_output_reads.lock();
                let mut reads = reads.unwrap_or_else(PoisonError::into_inner);
                let reads = reads.entry(run.to_owned()).or_default();
                *reads += 1;
                *reads
            };
            if error.code().is_none() && reads < MAX_OUTPUT_READS {
                return Err(error);
            }
            sentences.push(format!(
                "docker: its output could not be read: {}",
                error.why()
            ));
        }
        let path = self.runs_dir.join(run).join("log");
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

    /// Writes standard output and standard error of a container to two files.
    async fn write_streams(&self, run: &str, id: &str) -> Result<(), ApiError> {
        let dir = self.runs_dir.join(run);
        let write_error = |error: std::io::Error| cannot_write(&dir, &error);
        fs::create_dir_all(&dir).map_err(write_error)?;
        let path = format!("containers/{id}/logs");
        let query = [("stdout", "1"), ("stderr", "1")];
        let mut response = self
            .client
            .send(self.client.request(Method::GET, &path, &query))
            .await?;
        let create = |name: &str| File::create(dir.join(name)).map(std::io::BufWriter::new);
        let (stdout, stderr) = (
            create("stdout").map_err(write_error)?,
            create("log").map_err(write_error)?,
        );
        let mut demultiplexer = Demultiplexer::new(stdout, stderr);
        loop {
            let chunk = tokio::time::timeout(LOG_IDLE_TIMEOUT, response.chunk()).await;
            let chunk =
                chunk.map_err(|_| ApiError::Unknown(format!("the log of {run} does not end")))?;
            match chunk.map_err(|error| self.client.connection_error(&error))? {
                Some(bytes) => demultiplexer.feed(&bytes).map_err(write_error)?,
                None => break,
            }
        }
        let finished = demultiplexer.finish().map(drop);
        finished.map_err(|error| {
            ApiError::Unknown(format!("the output of {run} is not whole: {error}"))
        })
    }
}

/// The error if a file of the run cannot be written. It is retried, like a missing answer.
fn cannot_write(path: &Path, error: &std::io::Error) -> ApiError {
    ApiError::Unknown(format!("{} cannot be written: {error}", path.display()))
}

/// The reasons for the end of a container that are not in its output, as sentences.
fn end_reasons(description: &Value) -> Vec<String> {
    let mut reasons = Vec::new();
    if is_out_of_memory(description) {
        let limit = description
            .pointer("/HostConfig/Memory")
            .and_then(Value::as_u64);
        let limit = match limit.filter(|limit| *limit > 0) {
            Some(limit) => format!("its limit is {} MiB", limit >> 20),
            None => "no memory limit is set for it".to_owned(),
        };
        reasons.push(format!("docker: the container ran out of memory; {limit}"));
    }
    let error = description.pointer("/State/Error").and_then(Value::as_str);
    if let Some(error) = error.filter(|error| !error.is_empty()) {
        reasons.push(format!("docker: {error}"));
    }
    reasons
}
