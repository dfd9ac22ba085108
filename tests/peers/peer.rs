//! One of the example receivers as a process.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::support::patience::Deadline;

/// The example receivers, by their languages.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Python,
    TypeScript,
}

/// All of them.
pub const PEERS: [Kind; 2] = [Kind::Python, Kind::TypeScript];

impl Kind {
    fn command(self) -> Command {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
        let receivers = target.expect("a target directory").join("receivers");
        match self {
            Self::Python => {
                let python = receivers.join("python/bin/python");
                let mut command = Command::new(assert_installed(python));
                let example = "examples/receivers/python/receiver.py";
                command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(example));
                command
            }
            Self::TypeScript => {
                let mut command = Command::new("node");
                command.arg(assert_installed(
                    receivers.join("typescript/dist/receiver.js"),
                ));
                command
            }
        }
    }
}

/// The path of a file; fails if it is not installed.
fn assert_installed(path: PathBuf) -> PathBuf {
    let name = path.display();
    assert!(
        path.exists(),
        "{name} does not exist: run examples/receivers/install.sh"
    );
    path
}

/// What a receiver has printed so far.
#[derive(Default)]
struct Output {
    text: Mutex<String>,
    changed: Condvar,
}

/// A receiver that listens; it ends when it is dropped.
pub struct Peer {
    child: Child,
    stdin: ChildStdin,
    output: Arc<Output>,
    address: String,
}

impl Peer {
    /// A receiver that verifies signatures with this secret.
    pub fn start(kind: Kind, secret: &str) -> Self {
        Self::start_with_lease(kind, secret, "60")
    }

    /// A receiver whose shortest lease is this many seconds.
    pub fn start_with_lease(kind: Kind, secret: &str, seconds: &str) -> Self {
        let mut command = kind.command();
        command.arg("0").env("DESCARTES_CALLBACK_SECRET", secret);
        command.env("LEASE_SECONDS", seconds);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{kind:?}: {error}; install it, then run examples/receivers/install.sh")
        });
        let stdin = child.stdin.take().expect("a pipe");
        let stdout = child.stdout.take().expect("a pipe");
        let output = Arc::<Output>::default();
        let collecting = Arc::clone(&output);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                collecting.text.lock().unwrap().push_str(&(line + "\n"));
                collecting.changed.notify_all();
            }
        });
        let mut peer = Self {
            child,
            stdin,
            output,
            address: String::new(),
        };
        peer.wait_for("listening on http://");
        let log = peer.log();
        peer.address = log.trim().rsplit('/').next().unwrap().to_owned();
        peer
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}/cb", self.address)
    }

    /// The output so far.
    pub fn log(&self) -> String {
        self.output.text.lock().unwrap().clone()
    }

    /// Writes a line to its standard input.
    pub fn type_line(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("a receiver that reads");
    }

    /// Waits until the receiver has printed these words.
    #[track_caller]
    pub fn wait_for(&self, words: &str) {
        let deadline = Deadline::start();
        let mut log = self.output.text.lock().unwrap();
        while !log.contains(words) {
            let left = deadline.left();
            assert!(!left.is_zero(), "waited too long for {words:?} in:\n{log}");
            log = self.output.changed.wait_timeout(log, left).unwrap().0;
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
