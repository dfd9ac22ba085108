//! Fuzz targets for everything that parses foreign bytes. `FUZZ_TARGET` names the one that runs; fuzz/run
//! runs all of them.
//!
//! The worker is a binary without a library, so its modules are included here by their paths. Each target
//! asserts what must hold for every input; a panic is a fault.

#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../src/durations.rs"]
mod durations;
#[path = "../../src/environment.rs"]
mod environment;
#[path = "../../src/excerpt.rs"]
mod excerpt;
#[path = "../../src/line_splitter.rs"]
mod line_splitter;
#[path = "../../src/model.rs"]
mod model;
#[path = "../../src/redact.rs"]
mod redact;
#[path = "../../src/scud.rs"]
mod scud;
#[path = "../../src/stream_json.rs"]
mod stream_json;
#[path = "../../src/task.rs"]
mod task;

#[path = "../../src/git/words.rs"]
mod git_words;
#[path = "../../src/builtin/messages.rs"]
mod messages;
#[path = "../../src/runner/product/records.rs"]
mod records;

mod http {
    #[path = "../../../src/http/retries.rs"]
    pub mod retries;
}
#[path = "../../src/callback/answer.rs"]
mod answer;

mod targets;

use std::sync::OnceLock;

/// The target that this process runs.
static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
        targets::find(&name)
    });
    target(data);
});
