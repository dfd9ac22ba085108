//! `dispatch status`, `retry`, `skip` and `cancel`: one line of JSON each way through a socket in the state
//! directory, which only this user can enter.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use eyre::WrapErr;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::journal::Asked;

const SOCKET: &str = "socket";
/// The longest request, in bytes.
const MAX_REQUEST: u64 = 64 * 1024;

/// What a person asks a running dispatcher.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Question {
    Status,
    Ask { asked: Asked, task: Option<String> },
}

/// A question that waits for its answer.
#[derive(Debug)]
pub struct Waiting {
    pub question: Question,
    pub answer: oneshot::Sender<String>,
}

/// Serves forever. Must run in a [`tokio::task::LocalSet`].
pub async fn listen(dir: &Path, questions: mpsc::Sender<Waiting>) -> std::io::Result<()> {
    let path = dir.join(SOCKET);
    // The lock of the journal says that no other dispatcher listens.
    let _ = std::fs::remove_file(&path);
    let opened = File::open(dir)?;
    let listener = UnixListener::bind(socket_in(dir, &opened))?;
    loop {
        let (stream, _) = listener.accept().await?;
        let questions = questions.clone();
        tokio::task::spawn_local(async move {
            let (read, mut write) = stream.into_split();
            let mut line = String::new();
            let mut reader = BufReader::new(read.take(MAX_REQUEST));
            let question = match reader.read_line(&mut line).await {
                Ok(_) => serde_json::from_str(&line),
                Err(_) => return,
            };
            let text = match question {
                Ok(question) => {
                    let (answer, answered) = oneshot::channel();
                    let _ = questions.send(Waiting { question, answer }).await;
                    answered.await.unwrap_or_default()
                }
                Err(error) => format!("the question is malformed: {error}\n"),
            };
            let _ = write.write_all(text.as_bytes()).await;
        });
    }
}

/// The path of the socket. A path of a socket has at most about a hundred bytes, and state directories may have longer ones, so
/// on Linux the directory is named by an open descriptor.
fn socket_in(dir: &Path, opened: &File) -> PathBuf {
    if cfg!(target_os = "linux") {
        Path::new("/proc/self/fd")
            .join(opened.as_raw_fd().to_string())
            .join(SOCKET)
    } else {
        dir.join(SOCKET)
    }
}

/// Asks the dispatcher of a state directory; `None` if none runs there.
pub async fn ask(dir: &Path, question: &Question) -> eyre::Result<Option<String>> {
    let Ok(opened) = File::open(dir) else {
        return Ok(None);
    };
    let Ok(mut stream) = UnixStream::connect(socket_in(dir, &opened)).await else {
        return Ok(None);
    };
    let mut line = serde_json::to_string(question)?;
    line.push('\n');
    let mut text = String::new();
    let exchange = async {
        stream.write_all(line.as_bytes()).await?;
        stream.read_to_string(&mut text).await
    };
    exchange.await.wrap_err("the dispatcher did not answer")?;
    Ok(Some(text))
}
