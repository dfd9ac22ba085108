//! Collects an output stream of a worker, and waits for texts in it.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::patience::Deadline;

/// An output stream of a worker, and its content so far.
pub struct OutputStream(Arc<Shared>);

struct Shared {
    collected: Mutex<Collected>,
    changed: Condvar,
}

#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
    has_ended: bool,
}

impl OutputStream {
    /// Collects the stream in another thread. `None` counts as an empty stream: a test that redirects a stream reads it itself.
    pub fn collect(stream: Option<impl Read + Send + 'static>) -> Self {
        let mut stream: Box<dyn Read + Send> = match stream {
            Some(stream) => Box::new(stream),
            None => Box::new(std::io::empty()),
        };
        let shared = Arc::new(Shared {
            collected: Mutex::default(),
            changed: Condvar::new(),
        });
        let collecting = Arc::clone(&shared);
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            loop {
                let count = stream.read(&mut chunk).unwrap_or(0);
                let mut collected = collecting.collected.lock().unwrap();
                collected.bytes.extend_from_slice(&chunk[..count]);
                collected.has_ended = count == 0;
                collecting.changed.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        Self(shared)
    }

    /// Waits until the text contains `what`, even if its line is not complete.
    #[track_caller]
    pub fn wait_for_text(&self, what: &str) {
        self.wait_for_match(what, |text| text.contains(what).then_some(()));
    }

    /// Waits until a complete line contains `what`; returns the line.
    #[track_caller]
    pub fn wait_for_line(&self, what: &str) -> String {
        self.wait_for_match(what, |text| {
            let complete_lines = text.rfind('\n').map_or("", |end| &text[..end]);
            let line = complete_lines.lines().find(|line| line.contains(what));
            line.map(ToOwned::to_owned)
        })
    }

    /// Waits until `find` returns a value for the text so far; returns this value. `what` names it in the failure message.
    #[track_caller]
    pub fn wait_for_match<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Deadline::start();
        let mut collected = self.0.collected.lock().unwrap();
        loop {
            let text = String::from_utf8_lossy(&collected.bytes);
            if let Some(found) = find(&text) {
                return found;
            }
            let left = deadline.left();
            assert!(
                !left.is_zero() && !collected.has_ended,
                "{what:?} was not printed:\n{text}"
            );
            collected = self.0.changed.wait_timeout(collected, left).unwrap().0;
        }
    }

    /// Waits for the end of the stream; returns whether the stream has ended.
    pub fn wait_for_end(&self) -> bool {
        let deadline = Deadline::start();
        let mut collected = self.0.collected.lock().unwrap();
        while !collected.has_ended {
            let left = deadline.left();
            if left.is_zero() {
                return false;
            }
            collected = self.0.changed.wait_timeout(collected, left).unwrap().0;
        }
        true
    }

    /// Waits for the end of the stream, but not longer than `limit`; returns whether it has ended.
    pub fn wait_for_end_within(&self, limit: Duration) -> bool {
        let collected = self
            .0
            .collected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .0
            .changed
            .wait_timeout_while(collected, limit, |collected| !collected.has_ended);
        waited.is_ok_and(|(collected, _)| collected.has_ended)
    }

    /// How many bytes were collected so far.
    pub fn size(&self) -> usize {
        self.0.collected.lock().unwrap().bytes.len()
    }

    pub fn text(&self) -> String {
        let bytes = self.0.collected.lock().unwrap().bytes.clone();
        String::from_utf8(bytes).expect("the worker speaks UTF-8")
    }
}
