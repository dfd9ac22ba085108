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
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let settings = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey \"{}\"\nAuthorizedKeysFile \"{}\"\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
             SetEnv {variables}\n",
            path("host_key"),
            path("authorized_keys"),
        );
        fs::write(path("sshd_config"), settings).expect("a file");
        // As root, sshd needs a directory that a service manager usually creates.
        let _ = fs::create_dir_all("/run/sshd");
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &path("sshd_config")])
            .stderr(Stdio::null())
            .spawn()
            .expect("openssh-server is installed");
        let server = Self { child, port };
        let host_key = fs::read_to_string(path("host_key.pub")).expect("a key");
        let known = format!("forge,[127.0.0.1]:{port} {host_key}");
        fs::write(path("known_hosts"), known).expect("a file");
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
