//! `dispatch`: works through a whole graph, from ready tasks to one branch of merged, verified work.

pub mod claims;
pub mod decide;
pub mod door;
pub mod journal;
pub mod standing;
pub mod state;
