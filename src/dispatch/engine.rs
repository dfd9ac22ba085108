//! The engines, which execute runs. No other module depends on a particular engine. To add an engine, add a file in
//! `engine/` and a variant of [`remote::RemoteEngine`]. The dispatcher uses [`Engines`], which chooses an engine for
//! each run. [`Engines`] sends requests over a network in background tasks, so that the dispatcher never waits for an
//! engine.

mod alternates;
mod answers;
mod clean_up;
mod command;
mod connection;
pub mod docker;
mod engines;
mod fly;
mod local;
mod opening;
mod pending_starts;
mod placement;
mod processes;
mod remote;
mod settings;
mod spec;

pub use answers::{Event, StartFailure};
pub use engines::Engines;
pub use fly::DEFAULT_MEMORY as FLY_MEMORY;
pub use opening::{Context, describe_leftovers, open};
pub use settings::{
    CommandSettings, CpuKind, DockerSettings, EngineChoice, EngineKind, FlySettings, Settings,
    parse_image_name,
};
pub use spec::{RunSpec, TaskNeeds};
