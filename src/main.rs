//! descartes-worker: runs one coding-agent task on a throw-away machine.
#![cfg_attr(not(test), expect(dead_code, reason = "wired up next"))]
#![expect(unused_imports, reason = "wired up next")]

mod scud;
mod task;

fn main() {}
