//! Checks the machine, without the project.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::findings::Findings;
use crate::environment::value_of;
use crate::http::tls;
use crate::progress::Progress;
use crate::runner::isolate;
use crate::runner::settings::Settings;
use crate::runner::workspace::Source;
use crate::shutdown::Stop;
use crate::task::{Failure, Reason};

/// Checks the machine: the temporary directory, the certificate authorities, the isolation, the control group and the
/// agent's user.
pub(super) async fn check_machine(findings: &mut Findings, settings: &Settings, stop: &Stop) {
    let variable = |name| value_of(&settings.environment, name);
    findings.add(
        "temporary directory",
        check_temporary_directory(variable("TMPDIR")),
        String::clone,
    );
    if let Some(path) = variable("SSL_CERT_FILE") {
        findings.add(
            "certificate authorities",
            check_certificate_authorities(Path::new(path)),
            String::clone,
        );
    }
    let (isolation, progress) = (&settings.isolation, Progress::new());
    let kind = isolate::test_isolation(isolation, &settings.environment, stop, &progress).await;
    findings.add("isolation", kind, |kind| {
        format!("{}: the agent {}", kind.word(), isolation.description())
    });
    if let Some(limits) = crate::isolation::describe_limits() {
        findings.add("control group", Ok(limits), String::clone);
    }
    let mut needed_dirs = vec![std::env::temp_dir()];
    if let Source::Directory(dir) = &settings.source {
        needed_dirs.push(dir.clone());
    }
    let needed_dirs: Vec<&Path> = needed_dirs.iter().map(PathBuf::as_path).collect();
    if let Err(failure) = isolate::check_agent_can_enter(
        isolation,
        &needed_dirs,
        &settings.environment,
        stop,
        &progress,
    )
    .await
    {
        findings.add("agent's user", Err(failure), String::clone);
    }
}

/// Makes and deletes a temporary directory; returns the directory that contained it.
fn check_temporary_directory(variable: Option<&OsStr>) -> Result<String, Failure> {
    let dir = Path::new(variable.unwrap_or(OsStr::new("/tmp")));
    match tempfile::Builder::new().prefix("descartes-").tempdir() {
        Ok(new_dir) => Ok(new_dir.path().parent().unwrap_or(dir).display().to_string()),
        Err(error) => Err(Failure {
            causes: vec![error.to_string()],
            ..Failure::new(
                Reason::WorkspaceFailed,
                format!(
                    "no directory can be made in {}; set TMPDIR to an existing directory that the worker can write",
                    dir.display()
                ),
            )
        }),
    }
}

/// Counts the certificate authorities in a file; returns a description.
fn check_certificate_authorities(path: &Path) -> Result<String, Failure> {
    match tls::count_authorities(path) {
        Ok(count) => Ok(format!("{count} in {}", path.display())),
        Err(error) => Err(Failure::from_error(Reason::WorkspaceFailed, &error)),
    }
}
