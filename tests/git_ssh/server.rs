//! OpenSSH's server on loopback.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};

use crate::support::wait_until;

/// An ssh server that accepts one key for this user; killed when it is dropped.
pub struct SshServer {
    child: Child,
    pub port: u16,
}

impl SshServer {
    /// Starts the server. Writes its files to `dir`, and for clients the private key `key` and the file `known_hosts`, which has
    /// the server's address and the name `forge`. `variables` are the environment variables of commands that clients run.
    pub fn start(dir: &Path, variables: &str) -> Self {
        let path = |name: &str| dir.join(name).display().to_string();
        for key in ["host_key", "key"] {
            let status = Command::new("ssh-keygen")
                .args(["-qt", "ed25519", "-N", "", "-f", &path(key)])
                .status();
            assert!(status.expect("openssh-client is installed").success());
        }
        fs::copy(path("key.pub"), path("authorized_keys")).expect("a key");
        // As root, sshd needs a directory that a service manager usually creates.
        let _ = fs::create_dir_all("/run/sshd");
        // Another process may take the free port before sshd does; then sshd ends.
        let server = (0..20).find_map(|_| Self::start_on(free_port(), dir, variables));
        let server = server.expect("sshd gets a port");
        let host_key = fs::read_to_string(path("host_key.pub")).expect("a key");
        let known = format!("forge,[127.0.0.1]:{} {host_key}", server.port);
        fs::write(path("known_hosts"), known).expect("a file");
        server
    }

    /// Starts the server on this port; `None` if it ends at once.
    fn start_on(port: u16, dir: &Path, variables: &str) -> Option<Self> {
        let path = |name: &str| dir.join(name).display().to_string();
        let settings = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey \"{}\"\nAuthorizedKeysFile \"{}\"\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
             SetEnv {variables}\n",
            path("host_key"),
            path("authorized_keys"),
        );
        fs::write(path("sshd_config"), settings).expect("a file");
        let log = File::create(path("sshd_log")).expect("a file");
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &path("sshd_config")])
            .stderr(log)
            .spawn()
            .expect("openssh-server is installed");
        let mut server = Self { child, port };
        let is_listening = || {
            let log = fs::read_to_string(path("sshd_log")).unwrap_or_default();
            log.contains("Server listening on ")
        };
        wait_until("sshd to listen or to end", || {
            is_listening() || server.has_ended()
        });
        is_listening().then_some(server)
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }
}

/// A port that no process uses now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

impl Drop for SshServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
