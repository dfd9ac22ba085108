//! `dispatch`: works through a whole graph, from ready tasks to one branch of merged, verified work.

mod claims;
mod decide;
mod door;
pub mod integration;
mod journal;
pub mod preflight;
mod standing;
mod state;
pub mod verification;
