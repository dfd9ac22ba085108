//! The engines, which execute runs. No other module depends on a particular engine. To add an engine, add a file in
//! `engine/` and a variant of [`remote::Remote`]. The dispatcher uses [`Engines`], which chooses an engine for each
//! run. It asks engines that answer over a network in the background, so that the dispatcher never waits for an
//! engine.

mod calls;
mod clean_up;
mod command;
pub mod docker;
mod engines;
mod fly;
mod local;
mod opening;
mod places;
mod processes;
mod remote;
mod repository_dirs;
mod settings;
mod spec;
mod starting;
mod station;

pub use calls::{Event, StartFailure};
pub use engines::{Engines, engine_of};
pub use fly::DEFAULT_MEMORY as FLY_MEMORY;
pub use opening::{Context, left_behind, open};
pub use settings::{
    CommandSettings, CpuKind, DockerSettings, EngineChoice, EngineKind, FlySettings, Settings,
    image_name,
};
pub use spec::{Spec, TaskNeeds};
