//! `dispatch`: works through a whole graph, from ready tasks to one branch of merged, verified work.

pub mod integration;
pub mod preflight;
pub mod verification;
