//! The report of a dispatch, as a page of HTML or as JSON.

mod contents;
mod json;
mod page;

pub use contents::{Contents, DispatchStatus, Format};

use crate::report::{self, ReportFile};
use crate::terminal::Screen;

impl Contents<'_> {
    /// The report in a format.
    pub fn text(&self, format: Format) -> eyre::Result<String> {
        Ok(match format {
            Format::Html => report::render(&self.page()),
            Format::Json => {
                let mut report = json::json_report(self);
                self.redactor.mask_json(&mut report);
                serde_json::to_string_pretty(&report)? + "\n"
            }
        })
    }
}

/// Writes the report. A failure is only printed, because it must not change the result of the dispatch.
pub fn write(file: &ReportFile, contents: &Contents<'_>, screen: &Screen) {
    let text = contents.text(Format::of(file));
    match text.and_then(|text| file.write(&text)) {
        Ok(()) => screen.line(&format!("the report is in {}", file.path().display())),
        Err(error) => screen.line(&format!(
            "{error:#}; `dispatch status --report FILE` writes it again"
        )),
    }
}
