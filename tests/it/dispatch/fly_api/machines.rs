//! Machines: real workers on this machine, with the variables and the secrets that their configuration names.

use std::collections::BTreeMap;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{ExitPlace, Shared};
use crate::support::path;

pub struct Machine {
    pub id: String,
    pub name: String,
    pub state: &'static str,
    region: String,
    config: Value,
    digest: &'static str,
    /// The environment variables of the worker.
    environment: BTreeMap<String, String>,
    events: Vec<Value>,
    pid: Option<Pid>,
    dir: TempDir,
}

impl Machine {
    pub fn new(
        number: usize,
        body: &Value,
        secrets: &BTreeMap<String, String>,
        digest: &'static str,
    ) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut environment = BTreeMap::new();
        for (name, value) in body["config"]["env"].as_object().into_iter().flatten() {
            environment.insert(name.clone(), text(value));
        }
        let processes = body["config"]["processes"].as_array().into_iter().flatten();
        for process in processes {
            if process["ignore_app_secrets"] != json!(true) {
                environment.extend(secrets.clone());
            }
            for secret in process["secrets"].as_array().into_iter().flatten() {
                let value = secrets.get(&text(&secret["name"])).cloned();
                environment.insert(text(&secret["env_var"]), value.unwrap_or_default());
            }
        }
        let region = text(&body["region"]);
        Self {
            id: format!("{:014x}", number + 0x0001_8571_56b5),
            name: text(&body["name"]),
            state: "created",
            region: if region.is_empty() {
                "fra".to_owned()
            } else {
                region
            },
            config: body["config"].clone(),
            digest,
            environment,
            events: vec![json!({"type": "launch", "status": "created", "timestamp": 1})],
            pid: None,
            dir: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    /// A running machine of another program, without a process.
    pub fn foreign(number: usize, name: &str) -> Self {
        let body =
            json!({ "name": name, "config": { "metadata": { "descartes_dispatch": "other" } } });
        let mut machine = Self::new(number, &body, &BTreeMap::new(), "");
        machine.state = "started";
        machine
    }

    pub fn is_living(&self) -> bool {
        self.state != "destroyed"
    }

    pub fn is_running(&self) -> bool {
        self.pid.is_some()
    }

    pub fn has_metadata(&self, filters: &[(String, String)]) -> bool {
        let has = |(key, value): &(String, String)| self.config["metadata"][key] == **value;
        filters.iter().all(has)
    }

    pub fn describe(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "state": self.state,
            "region": self.region,
            "instance_id": "01HEPA330HZ37A78TK080NAK1M",
            "private_ip": "fdaa:0:18:a7b:196:e274:9ce1:2",
            "host_status": "ok",
            "config": self.config,
            "events": self.events.iter().rev().collect::<Vec<_>>(),
            "image_ref": { "registry": "registry.fly.io", "repository": "workers", "digest": self.digest },
        })
    }

    /// Sends SIGTERM to the worker.
    pub fn terminate(&mut self) {
        self.state = "stopping";
        self.pid.map(|pid| kill_process(pid, Signal::TERM));
    }

    /// Kills the worker, and marks the machine as destroyed.
    pub fn destroy(&mut self) {
        self.state = "destroyed";
        if let Some(pid) = self.pid.take() {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    /// Destroys the machine if its worker runs, without an exit event.
    pub fn lose(&mut self) {
        if self.pid.is_some() {
            self.destroy();
        }
    }

    fn boot(&mut self) -> std::process::Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_descartes-worker"));
        command
            .env_clear()
            .env("PATH", path())
            .env("HOME", self.dir.path())
            .env("TMPDIR", self.dir.path())
            .env("FLY_MACHINE_ID", &self.id)
            .env("FLY_REGION", &self.region)
            .envs(&self.environment)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let child = command.spawn().expect("the worker starts");
        self.pid = Some(Pid::from_child(&child));
        self.state = "started";
        self.events
            .push(json!({"type": "start", "status": "started", "timestamp": 2}));
        child
    }
}

/// Boots a machine after this time. The machine is destroyed when its worker ends.
pub fn start(shared: &Arc<Shared>, number: usize, after: Duration) {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        pause(after);
        let mut child = {
            let mut state = shared.state();
            let machine = &mut state.machines[number];
            if !machine.is_living() {
                return;
            }
            machine.boot()
        };
        let status = child.wait().expect("a child");
        let code = status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        let (code, place, oom) = {
            let oddities = shared.oddities();
            let code = oddities.exit_code.unwrap_or(code);
            (code, oddities.exit_place, oddities.is_out_of_memory)
        };
        let mut state = shared.state();
        let machine = &mut state.machines[number];
        machine.pid = None;
        if machine.state == "destroyed" {
            return;
        }
        machine.state = "destroyed";
        let exit = json!({ "exit_code": code, "oom_killed": oom, "requested_stop": false });
        let request = match place {
            ExitPlace::Request => json!({ "exit_event": exit }),
            ExitPlace::MonitorEvent => json!({ "MonitorEvent": { "exit_event": exit } }),
            ExitPlace::Null => Value::Null,
            ExitPlace::Missing => return,
        };
        let event =
            json!({"type": "exit", "status": "stopped", "timestamp": 3, "request": request});
        machine.events.push(event);
    });
}

#[expect(
    clippy::disallowed_methods,
    reason = "a machine that boots late does so after a time"
)]
fn pause(time: Duration) {
    thread::sleep(time);
}
