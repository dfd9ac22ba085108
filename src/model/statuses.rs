//! Which answers of the model's service are worth another request.

/// Whether the service may answer a later request differently from one that it answered with this
/// HTTP status. Orchestrators mean other things by some of these statuses.
pub fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 409 | 425 | 429 | 500..=599)
}
