//! Fuzz targets for the code that parses bytes from other programs. `FUZZ_TARGET` names the target that runs.
//!
//! The worker is a binary without a library, so its modules are included here from its source
//! directory. Each target asserts what must hold for every input; a panic is a finding.

#![no_main]
#![allow(dead_code, unused_imports)]

/// The modules that the targets use, and what those import.
#[path = "../../src"]
mod worker {
    pub mod amounts;
    pub mod environment;
    pub mod excerpt;
    pub mod isolation;
    pub mod line_splitter;
    pub mod model;
    pub mod programs;
    pub mod progress;
    pub mod redact;
    pub mod ring_buffer;
    pub mod scud;
    pub mod stream_json;
    pub mod task;

    pub mod builtin {
        pub mod messages;
    }

    pub mod callback {
        pub mod answer;
        pub mod settings;
        pub mod traceparent;
        pub mod wire;

        /// A replacement: events do not contain credentials.
        pub mod credentials {
            #[derive(Debug, Clone)]
            pub struct Settings;
        }
    }

    pub mod git {
        pub mod error_kind;
        pub mod error_output;
    }

    pub mod http {
        pub mod retries;
    }

    pub mod runner {
        pub mod product {
            pub mod entries;
            pub mod left_behind;
            pub mod lfs {
                pub mod pointer;
            }
            pub mod records;
        }
    }
}
// As in the worker: `crate::model` and so on.
use worker::{
    amounts, builtin, callback, environment, excerpt, git, http, isolation, line_splitter, model,
    programs, progress, redact, ring_buffer, runner, scud, stream_json, task,
};

/// The parts of secrets, for the slow search that the redactor is compared with.
#[path = "../../src/redact"]
mod secrets {
    pub mod names;
    mod parts;

    /// The secret and all its parts.
    pub fn parts_of(secret: &str) -> Vec<String> {
        parts::parts(secret).into_iter().collect()
    }
}

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
