//! descartes-worker: runs one coding-agent task on a throw-away machine.

mod scud;
mod task;

fn main() {}
