//! OpenSSH's server on loopback.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::wait_until;

/// An ssh server that accepts one key for this user; killed when it is dropped.
pub struct SshServer {
    child: Child,
    pub port: u16,
}

impl SshServer {
    /// Starts the server. `dir` gets its files, and for clients the key `key` and the file `known_hosts`, which knows the
    /// server by its address and as `forge`. `variables` are those that the clients' commands have.
    pub fn start(dir: &Path, variables: &str) -> Self {
        let at = |name: &str| dir.join(name).display().to_string();
        for key in ["host_key", "key"] {
            let made = Command::new("ssh-keygen")
                .args(["-qt", "ed25519", "-N", "", "-f", &at(key)])
                .status();
            assert!(made.expect("openssh-client is installed").success());
        }
        fs::copy(at("key.pub"), at("authorized_keys")).expect("a key");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let settings = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey \"{}\"\nAuthorizedKeysFile \"{}\"\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
             SetEnv {variables}\n",
            at("host_key"),
            at("authorized_keys"),
        );
        fs::write(at("sshd_config"), settings).expect("a file");
        // As root, sshd needs a directory that a service manager usually creates.
        let _ = fs::create_dir_all("/run/sshd");
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &at("sshd_config")])
            .stderr(Stdio::null())
            .spawn()
            .expect("openssh-server is installed");
        let server = Self { child, port };
        let host_key = fs::read_to_string(at("host_key.pub")).expect("a key");
        let known = format!("forge,[127.0.0.1]:{port} {host_key}");
        fs::write(at("known_hosts"), known).expect("a file");
        wait_until("sshd", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
