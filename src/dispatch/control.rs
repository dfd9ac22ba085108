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
const SOCKET_FILE: &str = "socket";
/// The maximum size of a question, in bytes.
const MAX_QUESTION_SIZE: u64 = 64 * 1024;

/// A question or a command of a user to a running dispatcher.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Question {
    /// The answer is a table for people.
    Status,
    /// The answer is a JSON array.
    StatusJson,
    /// The answer is a report in this format.
    Report { format: Format },
    /// A command. `task` is the id as the user has written it; `None` means all tasks.
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
    let path = dir.join(SOCKET_FILE);
    // This process holds the lock of the journal, so a socket that exists belongs to a dead dispatcher.
    let _ = std::fs::remove_file(&path);
    let open_dir = File::open(dir)?;
    let listener = UnixListener::bind(socket_path(dir, &open_dir))?;
    loop {
        let (stream, _) = listener.accept().await?;
        let questions = questions.clone();
        tokio::task::spawn_local(async move {
            let (read, mut write) = stream.into_split();
            let mut line = String::new();
            let mut reader = BufReader::new(read.take(MAX_QUESTION_SIZE));
            let question = match reader.read_line(&mut line).await {
                Ok(_) => serde_json::from_str(&line),
                Err(_) => return,
            };
            let text = match question {
                Ok(question) => {
                    let (answer, answer_receiver) = oneshot::channel();
                    let _ = questions.send(PendingQuestion { question, answer }).await;
                    answer_receiver.await.unwrap_or_default()
                }
                Err(error) => format!("the question is malformed: {error}\n"),
            };
            let _ = write.write_all(text.as_bytes()).await;
        });
    }
}

/// The path of the socket. The kernel limits a socket's path to about a hundred bytes, and the path of a state
/// directory may be longer. So on Linux the path uses the descriptor of the open directory.
fn socket_path(dir: &Path, open_dir: &File) -> PathBuf {
    if cfg!(target_os = "linux") {
        Path::new("/proc/self/fd")
            .join(open_dir.as_raw_fd().to_string())
            .join(SOCKET_FILE)
    } else {
        dir.join(SOCKET_FILE)
    }
}

/// Whether a dispatcher of this state directory accepts questions.
pub async fn accepts_questions(dir: &Path) -> bool {
    let Ok(open_dir) = File::open(dir) else {
        return false;
    };
    UnixStream::connect(socket_path(dir, &open_dir))
        .await
        .is_ok()
}

/// Sends a question to the dispatcher of a state directory, and returns the answer. `None` if no dispatcher runs there,
/// or if it ends before it answers. In the second case it may have carried out a command already, so a command must
/// have the same effect when it is repeated.
pub async fn ask(dir: &Path, question: &Question) -> eyre::Result<Option<String>> {
    let Ok(open_dir) = File::open(dir) else {
        return Ok(None);
    };
    let Ok(mut stream) = UnixStream::connect(socket_path(dir, &open_dir)).await else {
        return Ok(None);
    };
    let mut line = serde_json::to_string(question)?;
    line.push('\n');
    let mut text = String::new();
    let exchange = async {
        stream.write_all(line.as_bytes()).await?;
        stream.read_to_string(&mut text).await
    };
    let result = exchange.await;
    // A dispatcher never sends an empty answer, so an empty text means that it has ended.
    Ok(Some(text).filter(|text| result.is_ok() && !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_questions_is_the_same_in_all_versions_of_the_program() {
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
