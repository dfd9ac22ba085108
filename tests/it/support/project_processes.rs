//! Finds the processes whose working directory is the directory of a project.
//!
//! Processes are found by their working directory and not by their ids: the kernel soon gives the id of an ended process
//! to another one, and a zombie keeps its id until its parent has reaped it. A zombie has no working directory.

use std::fs;

use super::Project;

/// Fails if the working directory of a living process is the project's directory.
#[track_caller]
pub fn assert_no_process_in(project: &Project) {
    let alive = describe_processes_in(project);
    assert!(alive.is_empty(), "still alive: {alive:#?}");
}

/// The command line and the state of each process whose working directory is the project's directory.
pub fn describe_processes_in(project: &Project) -> Vec<String> {
    let dir = project.dir().canonicalize().expect("the directory");
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let in_project = processes.filter(|process| {
        let cwd = fs::read_link(process.path().join("cwd"));
        cwd.is_ok_and(|cwd| cwd == dir)
    });
    let descriptions = in_project.filter_map(|process| {
        let line = fs::read(process.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let status = fs::read_to_string(process.path().join("status")).ok()?;
        let state = status.lines().find(|line| line.starts_with("State:"))?;
        Some(format!("{line} ({state})"))
    });
    descriptions.collect()
}
