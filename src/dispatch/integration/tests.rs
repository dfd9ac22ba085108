//! Tests of the integration branch with real git: `opening`, `merges`, `publishing` (the user's repository and people
//! who push) and `run_branches`.

mod merges;
mod opening;
mod publishing;
mod run_branches;

use super::samples::{BRANCH, GRAPH, ProjectLocation, SampleProject, block_on, git};
use super::*;

fn merge(integration: &Integration, onto: &Commit, run: &FinishedRun) -> MergeResult {
    block_on(integration.merge(onto, run)).unwrap()
}

#[track_caller]
fn merge_cleanly(integration: &Integration, onto: &Commit, run: &FinishedRun) -> Candidate {
    match merge(integration, onto, run) {
        MergeResult::Clean(candidate) => candidate,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn accept(integration: &mut Integration, candidate: &Candidate) {
    let accepted = block_on(integration.accept(&candidate.commit)).unwrap();
    assert_eq!(accepted, AcceptResult::Moved { unpublished: None });
}

fn read(integration: &Integration, commit: &Commit, path: &str) -> String {
    let content = block_on(integration.read_file(commit, path)).unwrap();
    String::from_utf8(content.unwrap()).unwrap()
}
