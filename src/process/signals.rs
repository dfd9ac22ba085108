//! The names of signals.

use rustix::process::Signal;

/// The signal with this number, if it has a name.
pub fn signal_from_number(number: i32) -> Option<Signal> {
    Signal::from_named_raw(number)
}

/// The name of a signal: `SIGKILL`.
pub fn signal_name(signal: Signal) -> String {
    let known = NAMES.iter().find(|(known, _)| *known == signal);
    known.map_or_else(
        || format!("signal {}", signal.as_raw()),
        |(_, name)| (*name).to_owned(),
    )
}

/// The signals that end programs.
const NAMES: [(Signal, &str); 17] = [
    (Signal::HUP, "SIGHUP"),
    (Signal::INT, "SIGINT"),
    (Signal::QUIT, "SIGQUIT"),
    (Signal::ILL, "SIGILL"),
    (Signal::TRAP, "SIGTRAP"),
    (Signal::ABORT, "SIGABRT"),
    (Signal::BUS, "SIGBUS"),
    (Signal::FPE, "SIGFPE"),
    (Signal::KILL, "SIGKILL"),
    (Signal::USR1, "SIGUSR1"),
    (Signal::SEGV, "SIGSEGV"),
    (Signal::USR2, "SIGUSR2"),
    (Signal::PIPE, "SIGPIPE"),
    (Signal::ALARM, "SIGALRM"),
    (Signal::TERM, "SIGTERM"),
    (Signal::XCPU, "SIGXCPU"),
    (Signal::XFSZ, "SIGXFSZ"),
];
