//! `dispatch status`, `retry`, `skip` and `cancel` reach the running dispatcher through a socket in the state
//! directory. The question is one line of JSON, and the answer is text.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::journal::UserCommand;
use super::report::Format;

/// The name of the socket in the state directory.
const SOCKET: &str = "socket";
/// The maximum size of a question, in bytes.
const MAX_QUESTION: u64 = 64 * 1024;

/// What a user asks a running dispatcher.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Question {
    /// The answer is a table for people.
    Status,
    /// The answer is a JSON array.
    StatusJson,
    Report {
        format: Format,
    },
    /// `task` is the id as the user has written it; `None` means all tasks.
    #[serde(rename = "ask")]
    Command {
        #[serde(rename = "asked")]
        command: UserCommand,
        task: Option<String>,
    },
}

/// A question, and the channel for its answer.
#[derive(Debug)]
pub struct PendingQuestion {
    pub question: Question,
    pub answer: oneshot::Sender<String>,
}

/// Accepts questions forever, and passes them on to the dispatcher. Must run in a [`tokio::task::LocalSet`].
///
/// # Errors
/// If the socket cannot be made or used.
pub async fn listen(dir: &Path, questions: mpsc::Sender<PendingQuestion>) -> std::io::Result<()> {
    let path = dir.join(SOCKET);
    // This process holds the lock of the journal, so a socket that exists belongs to a dead dispatcher.
    let _ = std::fs::remove_file(&path);
    let opened = File::open(dir)?;
    let listener = UnixListener::bind(socket_path(dir, &opened))?;
    loop {
        let (stream, _) = listener.accept().await?;
        let questions = questions.clone();
        tokio::task::spawn_local(async move {
            let (read, mut write) = stream.into_split();
            let mut line = String::new();
            let mut reader = BufReader::new(read.take(MAX_QUESTION));
            let question = match reader.read_line(&mut line).await {
                Ok(_) => serde_json::from_str(&line),
                Err(_) => return,
            };
            let text = match question {
                Ok(question) => {
                    let (answer, answered) = oneshot::channel();
                    let _ = questions.send(PendingQuestion { question, answer }).await;
                    answered.await.unwrap_or_default()
                }
                Err(error) => format!("the question is malformed: {error}\n"),
            };
            let _ = write.write_all(text.as_bytes()).await;
        });
    }
}

/// The path of the socket. The kernel limits a socket's path to about a hundred bytes, and the path of a state
/// directory may be longer. So on Linux the path goes through the open descriptor of the directory.
fn socket_path(dir: &Path, opened: &File) -> PathBuf {
    if cfg!(target_os = "linux") {
        Path::new("/proc/self/fd")
            .join(opened.as_raw_fd().to_string())
            .join(SOCKET)
    } else {
        dir.join(SOCKET)
    }
}

/// Whether a dispatcher of this state directory answers questions.
pub async fn is_answered(dir: &Path) -> bool {
    let Ok(opened) = File::open(dir) else {
        return false;
    };
    UnixStream::connect(socket_path(dir, &opened)).await.is_ok()
}

/// Sends a question to the dispatcher of a state directory; `None` if no dispatcher runs there, or if it ends before
/// it answers. Then it may have acted on the question: the caller must be able to ask again.
pub async fn ask(dir: &Path, question: &Question) -> eyre::Result<Option<String>> {
    let Ok(opened) = File::open(dir) else {
        return Ok(None);
    };
    let Ok(mut stream) = UnixStream::connect(socket_path(dir, &opened)).await else {
        return Ok(None);
    };
    let mut line = serde_json::to_string(question)?;
    line.push('\n');
    let mut text = String::new();
    let exchange = async {
        stream.write_all(line.as_bytes()).await?;
        stream.read_to_string(&mut text).await
    };
    let exchanged = exchange.await;
    // No answer is empty.
    Ok(Some(text).filter(|text| exchanged.is_ok() && !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_have_the_json_that_other_versions_of_the_program_send_and_read() {
        let json = |question: &Question| serde_json::to_string(question).unwrap();
        assert_eq!(json(&Question::Status), r#"{"what":"status"}"#);
        assert_eq!(json(&Question::StatusJson), r#"{"what":"status_json"}"#);
        let report = Question::Report {
            format: Format::Html,
        };
        assert_eq!(json(&report), r#"{"what":"report","format":"html"}"#);
        let cancel = Question::Command {
            command: UserCommand::Cancel,
            task: Some("1".to_owned()),
        };
        assert_eq!(
            json(&cancel),
            r#"{"what":"ask","asked":"cancel","task":"1"}"#
        );
    }
}
