//! The lines that a worker prints, in bounded memory.

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use crate::line_splitter::{Line, LineEnd, LineSplitter};

/// The longest line that is shown as a whole, in bytes. The result line is the longest that a worker
/// prints, and has at most 256 KiB.
const MAX_LINE_SIZE: usize = 1024 * 1024;
/// How many lines may wait to be shown.
const MAX_WAITING_LINES: usize = 64;
/// The size of the buffer for one read, in bytes.
const READ_SIZE: usize = 16 * 1024;

/// Reads the lines of a pipe in a task. A line that is too long is cut and ends with an ellipsis. If `pipe` is `None`, there are no
/// lines.
pub fn read_lines(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(MAX_WAITING_LINES);
    if let Some(mut pipe) = pipe {
        tokio::spawn(async move {
            let mut splitter = LineSplitter::new(LineEnd::Newline, MAX_LINE_SIZE);
            let mut chunk = vec![0; READ_SIZE];
            while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
                let mut bytes = &chunk[..count];
                while let Some(line) = splitter.next_line(&mut bytes) {
                    if sender.send(text_of(&line)).await.is_err() {
                        return;
                    }
                }
            }
            if let Some(line) = splitter.take_unfinished() {
                // An error means that the receiver of the lines was dropped.
                let _ = sender.send(text_of(&line)).await;
            }
        });
    }
    receiver
}

fn text_of(line: &Line) -> String {
    let mut text = String::from_utf8_lossy(&line.bytes).into_owned();
    if line.is_truncated {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_is_too_long_is_cut_and_the_lines_around_it_are_whole() {
        let printed = format!("one\n{}\n\nthree", "x".repeat(3 * MAX_LINE_SIZE));
        let mut lines = read_lines(Some(std::io::Cursor::new(printed.into_bytes())));
        assert_eq!(lines.recv().await.as_deref(), Some("one"));
        let cut = lines.recv().await.unwrap();
        assert_eq!(cut.len(), MAX_LINE_SIZE + '…'.len_utf8());
        assert!(cut.ends_with("x…"));
        assert_eq!(lines.recv().await.as_deref(), Some(""));
        assert_eq!(lines.recv().await.as_deref(), Some("three"));
        assert_eq!(lines.recv().await, None);
    }
}
