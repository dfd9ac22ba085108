//! `--report`: one page for people who want to know what a dispatch or a run has done.
//!
//! With the real binary and real workers. A strict reader checks each page: it fails if the page could load or execute something.

mod dispatch;
mod hostile;
mod html;
mod run;
