//! What is known about a collector.

/// Whether a collector answers, in one sentence for people.
#[derive(Debug)]
pub struct Answer {
    /// What is exported: traces or metrics.
    pub subject: &'static str,
    pub sentence: String,
}
