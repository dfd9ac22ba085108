//! Guesses from the machine's settings which isolation it allows. The claim reports this guess, because it is sent
//! before the worker has tried any isolation.

use std::fs::read_to_string;

use super::kind::Kind;

/// The number of the capability that allows a PID namespace without a user namespace.
const CAP_SYS_ADMIN: u32 = 21;
/// The first version of Linux with Landlock.
const LANDLOCK_VERSION: (u32, u32) = (5, 13);
/// The first version of Linux whose Landlock can restrict signals.
const LANDLOCK_SIGNALS_VERSION: (u32, u32) = (6, 12);

/// The strongest kind of isolation that the machine probably allows.
pub fn guess_kind(has_bubblewrap: bool) -> Kind {
    if has_bubblewrap && namespaces_are_allowed() {
        return Kind::Namespace;
    }
    let modules = read_to_string("/sys/kernel/security/lsm");
    let landlock_is_off =
        modules.is_ok_and(|names| !names.trim().split(',').any(|name| name == "landlock"));
    match kernel_version() {
        Some(version) if version >= LANDLOCK_SIGNALS_VERSION && !landlock_is_off => Kind::Landlock,
        Some(version) if version >= LANDLOCK_VERSION && !landlock_is_off => Kind::LandlockTrace,
        _ => Kind::Session,
    }
}

/// Whether bubblewrap can probably make a PID namespace.
fn namespaces_are_allowed() -> bool {
    let Ok(status) = read_to_string("/proc/self/status") else {
        return false;
    };
    if has_admin_capability(&status) {
        return true;
    }
    // The filters of system calls (seccomp) that container engines set forbid user namespaces.
    let is_filtered = status.lines().any(|line| line == "Seccomp:\t2");
    let number = |path| -> Option<u64> { read_to_string(path).ok()?.trim().parse().ok() };
    !is_filtered
        && number("/proc/sys/user/max_user_namespaces") != Some(0)
        && number("/proc/sys/kernel/unprivileged_userns_clone") != Some(0)
        && number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").unwrap_or(0) == 0
}

/// Whether the text of `/proc/<pid>/status` shows the capability.
fn has_admin_capability(status: &str) -> bool {
    let mut lines = status.lines();
    let effective = lines.find_map(|line| line.strip_prefix("CapEff:\t"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.is_some_and(|bits| bits & (1 << CAP_SYS_ADMIN) != 0)
}

/// The major and the minor version of Linux.
fn kernel_version() -> Option<(u32, u32)> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let uname = rustix::system::uname();
    let release = uname.release().to_str().ok()?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_for_namespaces_is_found_in_the_status_of_a_process() {
        assert!(has_admin_capability(
            "Name:\tx\nCapEff:\t000001ffffffffff\n"
        ));
        // The capabilities of root in a Docker container.
        assert!(!has_admin_capability("CapEff:\t00000000a80425fb\n"));
        assert!(!has_admin_capability("CapEff:\t0000000000000000\n"));
        assert!(!has_admin_capability(""));
    }
}
