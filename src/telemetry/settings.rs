//! The settings of the export: the collectors, and how to name this process there.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderMap;

/// The settings of the export. The default exports nothing.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub traces: Option<Destination>,
    pub metrics: Option<Destination>,
    pub service_name: Option<String>,
    /// More attributes of this process, as keys and values.
    pub resource: Vec<(String, String)>,
    pub temporality: Temporality,
    /// A PEM file with more certificate authorities to trust.
    pub authorities: Option<PathBuf>,
    /// The `traceparent` of the span that this process belongs to.
    pub parent: Option<String>,
}

/// Where traces or metrics are sent.
#[derive(Debug, Clone)]
pub struct Destination {
    pub url: Url,
    pub headers: HeaderMap,
    /// The time limit of one request.
    pub timeout: Duration,
}

/// The moment from which the numbers of a metric count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Temporality {
    /// From the start of the process.
    #[default]
    Cumulative,
    /// From the last export.
    Delta,
}
