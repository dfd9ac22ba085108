//! Passes the token to git's children through a socket that git and its children inherit.
//!
//! The token is in no environment, no argument and no file, where other processes of the same user could read it:
//! unlike a pipe or a file, a socket cannot be opened through `/proc/<pid>/fd`. A hidden command of this binary is
//! git's credential helper. It reads the token and leaves it in the socket (`MSG_PEEK`), so that git can ask again.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::net::{RecvFlags, recv};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};

use crate::descriptors::{Inherited, reserved_number};
use crate::programs;

/// The name of the hidden command that is the credential helper.
const COMMAND: &str = "git-credential";
/// The longest token, in bytes.
const MAX_TOKEN_SIZE: usize = 64 * 1024;

/// The token for one call of git.
pub(super) struct Credential {
    /// The descriptors that git inherits.
    pub inherited: Inherited,
    /// The value of `credential.helper`.
    pub helper: String,
}

impl Credential {
    pub fn new(token: &SecretString) -> io::Result<Self> {
        let token = token.expose_secret();
        if token.len() > MAX_TOKEN_SIZE {
            let error = format!("the git token is longer than {MAX_TOKEN_SIZE} bytes");
            return Err(io::Error::other(error));
        }
        let (socket, mut writer) = UnixStream::pair()?;
        // If the socket were full, the write would be an error instead of blocking forever.
        writer.set_nonblocking(true)?;
        writer.write_all(token.as_bytes())?;
        let program = programs::own_executable()?;
        let (file, program) = if cfg!(target_os = "linux") && program.starts_with("/proc") {
            // The helper must be this program, even if another file has replaced it at its path.
            let file = File::open(program)?;
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            (Some(file), path)
        } else {
            (None, program.to_string_lossy().replace('\'', "'\\''"))
        };
        let number = reserved_number()?;
        Ok(Self {
            inherited: Inherited {
                at_reserved_number: socket.into(),
                file,
            },
            // git adds the operation at the end.
            helper: format!("!'{program}' {COMMAND} <&{number}"),
        })
    }
}

/// Answers git if this process is its credential helper.
pub fn answer_if_requested() -> Option<io::Result<ExitCode>> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != COMMAND {
        return None;
    }
    // git also reports whether the credential was right. This program does not store credentials, so it ignores that.
    if args.next().is_none_or(|operation| operation != "get") {
        return Some(Ok(ExitCode::SUCCESS));
    }
    Some(answer().map(|()| ExitCode::SUCCESS).map_err(|error| {
        let message = format!(
            "`{COMMAND}` is used by the worker itself; run `descartes-worker --help` ({error})"
        );
        io::Error::other(message)
    }))
}

/// Prints the user name and the token for git.
fn answer() -> io::Result<()> {
    let mut buffer = Zeroizing::new(vec![0; MAX_TOKEN_SIZE]);
    let (_, size) = recv(
        io::stdin(),
        buffer.as_mut_slice(),
        RecvFlags::PEEK | RecvFlags::DONTWAIT,
    )?;
    let mut answer = Zeroizing::new(Vec::with_capacity(size + 64));
    answer.extend_from_slice(b"username=x-access-token\npassword=");
    answer.extend_from_slice(&buffer[..size]);
    answer.push(b'\n');
    io::stdout().write_all(&answer)
}
