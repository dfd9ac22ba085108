//! The first process of a PID namespace: starts the program, reaps orphans, and reports how the program
//! ended. All other processes of the namespace die with this one.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::thread;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process_group, wait};

use super::socket::{LauncherSocket, Message};

/// Starts `command`, and runs until the namespace has no other process. Returns the exit code of the program.
pub fn run(mut command: Command, mut socket: LauncherSocket) -> ExitCode {
    // Outside of a PID namespace, kill(-1) would signal every process of the machine.
    if !getpid().is_init() {
        let error = io::Error::other("this process is not the first one of a PID namespace");
        return socket.report_not_started(&error);
    }
    // The program may run as the same user, and must not be able to trace this process.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let program = match command.process_group(0).spawn() {
        Ok(child) => Pid::from_child(&child),
        Err(error) => return socket.report_not_started(&error),
    };
    match socket.try_clone() {
        Ok(requests) => drop(thread::spawn(|| handle_requests(requests))),
        Err(error) => return socket.report_not_started(&error),
    }
    let mut code = ExitCode::FAILURE;
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == program => {
                let exit_code = status
                    .exit_status()
                    .and_then(|code| u8::try_from(code).ok());
                code = exit_code.map_or(ExitCode::FAILURE, ExitCode::from);
                socket.send(Message::Ended(status.as_raw()));
            }
            Ok(_) | Err(Errno::INTR) => {}
            // No process is left.
            Err(_) => return code,
        }
    }
}

/// Sends SIGTERM to all processes of the namespace whenever the worker asks for it. Kills them when the worker has
/// ended.
fn handle_requests(mut requests: LauncherSocket) {
    while requests.wait_for_request() {
        // This is kill(-1). From the first process, it reaches every other process of the namespace. An error
        // means that there is none.
        let _ = kill_process_group(Pid::INIT, Signal::TERM);
        // A stopped process would not receive SIGTERM.
        let _ = kill_process_group(Pid::INIT, Signal::CONT);
    }
    let _ = kill_process_group(Pid::INIT, Signal::KILL);
}
