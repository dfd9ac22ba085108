//! Runs one call of git under supervision, with its whole environment, and turns every failure into a [`GitError`].

use std::io;
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::time::Instant;

use super::authorities;
use super::call::{Call, GitError, message_without_number};
use super::configuration::{self, Side};
use super::credential::Credential;
use super::error_output::without_progress;
use super::program::{Git, MAX_OUTPUT_SIZE};
use super::transfer_progress::ProgressReader;
use crate::durations::in_words;
use crate::process::{self, AfterRead, Ending, Limits, Program, Stderr, Stream};
use crate::ring_buffer::RingBuffer;

/// The time limit of a call if the caller sets none: a large repository on a slow disk takes minutes, not hours.
pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(10 * 60);

/// A call that is ready to start.
pub struct PreparedCall {
    pub program: Program,
    /// The file with the certificate authorities; deleted when this value is dropped.
    pub authorities: Option<NamedTempFile>,
}

impl Git<'_> {
    /// Runs git to its end; returns the beginning of its standard output, up to [`MAX_OUTPUT_SIZE`]. For a call that
    /// contacts the remote or shows progress, the output includes standard error.
    pub async fn run(&self, call: Call<'_>) -> Result<String, GitError> {
        let mut printed = Vec::new();
        self.stream(call, &mut |bytes| {
            let room = MAX_OUTPUT_SIZE - printed.len();
            printed.extend_from_slice(&bytes[..bytes.len().min(room)]);
        })
        .await?;
        Ok(String::from_utf8_lossy(&printed).trim_end().to_owned())
    }

    /// Runs git to its end, and passes its standard output to `on_output` as it arrives. If git shows its progress or contacts a
    /// remote, its standard error goes there too. Returns the end of git's standard error, redacted, without progress lines.
    pub async fn stream(
        &self,
        call: Call<'_>,
        on_output: &mut dyn FnMut(&[u8]),
    ) -> Result<String, GitError> {
        let command = call.name();
        let error_of = |failure: String, messages: String| GitError {
            command: command.clone(),
            failure,
            messages,
            exit_code: None,
            was_stopped: false,
        };
        let start_error = |error: io::Error| {
            error_of(
                "could not be started".to_owned(),
                message_without_number(&error),
            )
        };

        // This check comes before `prepare`, which creates the socket with the token.
        if call.contacts_remote {
            let may_use_credential = self.check_credential_use().await;
            may_use_credential.map_err(|why| error_of("was not started".to_owned(), why))?;
        }
        let has_idle_timeout = call.contacts_remote || self.side == Side::Agent;
        let idle_timeout = has_idle_timeout.then_some(self.idle_timeout);
        // Progress lines are on standard error; calls without progress lines print only errors there. A pipe reads them, and
        // not a temporary file: to create a file on ext4 can take longer than the whole call, if many files were deleted just
        // before.
        let reads_progress = call.contacts_remote || call.shows_progress;
        let stderr = if reads_progress {
            Stderr::WithStdout
        } else {
            Stderr::SeparateWithoutActivity
        };
        let mut errors = RingBuffer::new(self.side.max_stderr_size());
        let PreparedCall {
            program,
            authorities: _authorities,
        } = self.prepare(call, stderr).map_err(start_error)?;
        let mut reader = ProgressReader::new(self.progress, self.side.max_stderr_size());
        let mut on_bytes = |stream, bytes: &[u8]| {
            match stream {
                Stream::Stderr => drop(errors.push(bytes)),
                Stream::Stdout => {
                    if reads_progress {
                        reader.push(bytes);
                    }
                    on_output(bytes);
                }
            }
            AfterRead::ReadMore
        };
        let run_time = self.deadline.map_or(DEFAULT_TIME_LIMIT, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        let limits = Limits {
            run_time,
            idle_timeout,
        };
        // The idle timeout starts with this call.
        self.progress.mark_alive();
        let ending =
            process::supervise(program, limits, self.stop, self.progress, &mut on_bytes).await;
        let mut messages = || {
            let text = if reads_progress {
                reader.other_lines()
            } else {
                errors.text()
            };
            self.redactor.mask(&without_progress(&text))
        };
        match ending {
            Ok(Ending::Exited(0)) => Ok(messages()),
            Ok(Ending::Exited(code)) => Err(GitError {
                exit_code: Some(code),
                ..error_of(format!("failed with exit code {code}"), messages())
            }),
            Ok(Ending::Idle(limit)) => Err(error_of(
                format!("made no progress for {}", in_words(limit)),
                messages(),
            )),
            Ok(Ending::Stopped(_)) => Err(GitError {
                was_stopped: true,
                ..error_of("was stopped".to_owned(), messages())
            }),
            Ok(ending) => Err(error_of(ending.to_string(), messages())),
            Err(error) => Err(error_of(
                "could not be started".to_owned(),
                error.to_string(),
            )),
        }
    }

    /// Makes the program of a call, with its whole environment. If the call contacts the remote, this creates the
    /// socket with the token and the file with the certificate authorities.
    pub(super) fn prepare(&self, call: Call<'_>, stderr: Stderr) -> io::Result<PreparedCall> {
        let mut env = self.environment.clone();
        let token = self.token.as_ref().filter(|_| call.contacts_remote);
        let credential = token.map(|(_, token)| Credential::new(token)).transpose()?;
        let helper = credential
            .as_ref()
            .map(|credential| credential.helper.as_str());
        let url = token.map(|(url, _)| url);
        env.extend(configuration::variables(
            self.side,
            url.zip(helper),
            self.idle_timeout,
            &call.configuration,
        ));
        env.extend(call.variables);
        let authorities = match self.authorities.as_ref().filter(|_| call.contacts_remote) {
            Some(pem) => Some(authorities::temporary_file(pem)?),
            None => None,
        };
        if let Some(file) = &authorities {
            env.push(("GIT_SSL_CAINFO".into(), file.path().into()));
        }
        Ok(PreparedCall {
            program: Program {
                program: self.program.clone().into(),
                args: call.args,
                dir: call.dir.to_owned(),
                env,
                stdin: call.stdin,
                stderr,
                inherited: credential.map(|credential| credential.inherited),
                launch: self.launch.clone(),
            },
            authorities,
        })
    }
}
