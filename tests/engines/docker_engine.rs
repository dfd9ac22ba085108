//! A Docker Engine that a test starts, with a data directory and a socket in a temporary directory. Its containers can only use
//! the network of the machine.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::image;
use crate::support::{path, wait_until};

/// The image of the workers.
pub const IMAGE: &str = "worker:test";

/// One engine runs at a time, because an engine needs much memory and processor time.
static ENGINE_LOCK: Mutex<()> = Mutex::new(());

/// An engine with the image of the workers; ended when it is dropped.
pub struct DockerEngine {
    dir: TempDir,
    child: Option<Child>,
    _lock: MutexGuard<'static, ()>,
}

impl DockerEngine {
    pub fn start() -> Self {
        let lock = ENGINE_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut engine = Self {
            dir,
            child: None,
            _lock: lock,
        };
        engine.run();
        let entrypoint = "ENTRYPOINT [\"/app/descartes-worker\"]";
        let path = "ENV PATH=/bin";
        let tarball = image::tarball();
        let tarball = tarball.to_str().expect("UTF-8");
        engine.docker(&[
            "import", "--change", entrypoint, "--change", path, tarball, IMAGE,
        ]);
        engine
    }

    pub fn socket(&self) -> PathBuf {
        self.path("socket")
    }

    /// The value for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Starts the process of the engine, and waits until the engine answers. [`Self::end`] ends it.
    pub fn run(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"));
        let child = Command::new("dockerd")
            .arg("--data-root")
            .arg(self.path("data"))
            .arg("--exec-root")
            .arg(self.path("exec"))
            .arg("--pidfile")
            .arg(self.path("pid"))
            .arg("--host")
            .arg(self.host())
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log file"))
            .spawn();
        let mut child = child.expect("docker.io is installed");
        wait_until("dockerd", || {
            if let Some(status) = child.try_wait().expect("a child") {
                let log = fs::read_to_string(self.path("log")).unwrap_or_default();
                panic!("dockerd has ended: {status}\n{log}");
            }
            let answer = self
                .command(&["version"])
                .output()
                .expect("docker.io is installed");
            answer.status.success()
        });
        self.child = Some(child);
    }

    /// Ends the engine with a signal, and waits until it is gone.
    pub fn end(&mut self, signal: Signal) {
        let mut child = self.child.take().expect("the engine runs");
        let _ = kill_process(Pid::from_child(&child), signal);
        child.wait().expect("a child");
        // The next dockerd would take these process ids for running engines if another process has got the id, or if no process
        // has reaped the old containerd.
        for file in ["pid", "exec/containerd/containerd.pid"] {
            let _ = fs::remove_file(self.path(file));
        }
    }

    /// Runs the command `docker`; returns its output.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("docker.io is installed");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {args:?}: {stderr}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The names of all containers.
    pub fn containers(&self) -> Vec<String> {
        let text = self.docker(&["ps", "--all", "--format", "{{.Names}}"]);
        text.lines().map(str::to_owned).collect()
    }

    /// The command `docker` with these arguments, for this engine.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .env_clear()
            .env("PATH", path())
            .env("HOME", self.dir.path());
        command.env("DOCKER_HOST", self.host()).args(args);
        command.stdin(Stdio::null());
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for DockerEngine {
    fn drop(&mut self) {
        // An engine that was killed has left its helper processes running. A new engine ends them.
        if self.child.is_none() && !std::thread::panicking() {
            self.run();
        }
        if self.child.is_some() {
            // If the test has failed, a second panic here would hide its message, so errors are ignored.
            let all = self.command(&["ps", "--all", "--quiet"]).output();
            let all = all.map(|output| output.stdout).unwrap_or_default();
            for id in String::from_utf8_lossy(&all).lines() {
                let _ = self.command(&["rm", "--force", id]).output();
            }
            self.end(Signal::TERM);
        }
    }
}
