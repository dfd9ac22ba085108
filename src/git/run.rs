//! Runs one call of git under supervision, with its whole environment, and turns every failure into a [`GitError`].

use std::io;
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::time::Instant;

use super::authorities;
use super::call::{Call, GitError, words_of};
use super::configuration::{self, Side};
use super::credential::Credential;
use super::program::{Git, MAX_ANSWER_SIZE};
use super::transfer_progress::ProgressReader;
use super::words::without_progress;
use crate::durations::in_words;
use crate::process::{self, AfterRead, Ending, Limits, Program, Stderr, Stream};
use crate::ring_buffer::RingBuffer;

/// The time limit of a call if the caller sets none: a large repository on a slow disk takes minutes, not hours.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(10 * 60);

/// A call that is ready to start.
pub struct Prepared {
    pub program: Program,
    /// The file with the certificate authorities; deleted when this is dropped.
    pub authorities: Option<NamedTempFile>,
}

impl Git<'_> {
    /// Runs a command; returns its standard output, up to [`MAX_ANSWER_SIZE`]. For a transfer, that includes standard
    /// error.
    pub async fn run(&self, call: Call<'_>) -> Result<String, GitError> {
        let mut printed = Vec::new();
        self.stream(call, &mut |bytes| {
            let room = MAX_ANSWER_SIZE - printed.len();
            printed.extend_from_slice(&bytes[..bytes.len().min(room)]);
        })
        .await?;
        Ok(String::from_utf8_lossy(&printed).trim_end().to_owned())
    }

    /// Runs a command, and passes its standard output to `on_output` as it comes. Returns the end of standard error.
    ///
    /// The permission to start is checked first, because `prepare` already creates the socket with the token.
    pub async fn stream(
        &self,
        call: Call<'_>,
        on_output: &mut dyn FnMut(&[u8]),
    ) -> Result<String, GitError> {
        let command = call.name();
        let failed = |how: String, words: String| GitError {
            command: command.clone(),
            how,
            words,
            code: None,
            stopped: false,
            timed_out: false,
        };
        let start_error =
            |error: io::Error| failed("could not be started".to_owned(), words_of(&error));

        let may_start = self.may_start(call.transfer).await;
        may_start.map_err(|why| failed("was not started".to_owned(), why))?;
        let has_idle_timeout = call.transfer || self.side == Side::Agent;
        let idle = has_idle_timeout.then_some(self.silence_limit);
        // A transfer prints its progress on standard error. Other commands print only errors there. These are read
        // from a pipe and not from a file: creating a file on ext4 can take longer than the whole command, if many
        // files were deleted just before.
        let reads_progress = call.transfer || call.shows_progress;
        let stderr = if reads_progress {
            Stderr::WithStdout
        } else {
            Stderr::SeparateWithoutActivity
        };
        let mut errors = RingBuffer::new(self.side.max_stderr_size());
        let Prepared {
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
        let wall = self.until.map_or(DEFAULT_LIMIT, |until| {
            until.saturating_duration_since(Instant::now())
        });
        let limits = Limits { wall, idle };
        // The idle timeout starts with this command.
        self.progress.mark_alive();
        let ending =
            process::supervise(program, limits, self.stop, self.progress, &mut on_bytes).await;
        let mut words = || {
            let text = if reads_progress {
                reader.words()
            } else {
                errors.text()
            };
            self.redactor.text(&without_progress(&text))
        };
        match ending {
            Ok(Ending::Exited(0)) => Ok(words()),
            Ok(Ending::Exited(code)) => Err(GitError {
                code: Some(code),
                ..failed(format!("failed with exit code {code}"), words())
            }),
            Ok(Ending::Idle(limit)) => Err(GitError {
                timed_out: true,
                ..failed(format!("made no progress for {}", in_words(limit)), words())
            }),
            Ok(ending @ Ending::TimedOut(_)) => Err(GitError {
                timed_out: true,
                ..failed(ending.to_string(), words())
            }),
            Ok(Ending::Stopped(_)) => Err(GitError {
                stopped: true,
                ..failed("was stopped".to_owned(), words())
            }),
            Ok(ending) => Err(failed(ending.to_string(), words())),
            Err(error) => Err(failed("could not be started".to_owned(), error.to_string())),
        }
    }

    /// The program of a call, with its whole environment.
    pub(super) fn prepare(&self, call: Call<'_>, stderr: Stderr) -> io::Result<Prepared> {
        let mut env = self.environment.clone();
        let token = self.token.as_ref().filter(|_| call.transfer);
        let credential = token.map(|(_, token)| Credential::new(token)).transpose()?;
        let helper = credential
            .as_ref()
            .map(|credential| credential.helper.as_str());
        let url = token.map(|(url, _)| url);
        env.extend(configuration::variables(
            self.side,
            url.zip(helper),
            self.silence_limit,
            &call.configuration,
        ));
        env.extend(call.variables);
        let authorities = match self.authorities.as_ref().filter(|_| call.transfer) {
            Some(pem) => Some(authorities::file(pem)?),
            None => None,
        };
        if let Some(file) = &authorities {
            env.push(("GIT_SSL_CAINFO".into(), file.path().into()));
        }
        Ok(Prepared {
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
