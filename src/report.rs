//! `--report`: one page of HTML about a dispatch or a run. Needs no network, no scripts and no other files.
//!
//! `dispatch` and `local` fill the model; [`page::render`] makes the page from it. Only [`ReportFile`] does I/O.
//! Every text of the model is a [`Text`], which only a [`Cleaner`] can make.

mod acyclic_graph;
mod attempt;
mod axis;
mod charts;
mod critical_path;
mod drawing;
mod event;
mod file;
mod layers;
mod model;
mod page;
mod patch;
mod samples;
mod spending;
mod stage;
mod tasks;
mod text;
mod text_limits;
mod time;
mod totals;

pub use event::add_terminal_event;
pub use file::{ReportFile, is_html};
pub use model::{
    Attempt, End, File, Interval, MergeEnd, NextStep, Outcome, Report, Request, State, Task,
};
pub use page::render;
pub use patch::changed_files;
pub use samples::Samples;
pub use stage::StageInterval;
pub use text::{Cleaner, Text};
pub use text_limits::TextLimits;
pub use time::{RunTimes, stages_of};
