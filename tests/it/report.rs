//! `--report`: one page for people who want to know what a dispatch or a run has done.
//!
//! With the real binary and real workers. Each page is read by a strict reader, which fails on anything that could load or
//! execute something.

mod dispatch;
mod hostile;
mod html;
mod run;
