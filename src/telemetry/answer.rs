//! The result of asking a collector, for `check`.

/// Whether a collector answers, in one sentence for people.
#[derive(Debug)]
pub struct Answer {
    /// The data that the collector stores: "traces" or "metrics".
    pub subject: &'static str,
    /// The result in words, with the URL.
    pub sentence: String,
}
