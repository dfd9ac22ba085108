//! The HTTP statuses with which the model's service reports a temporary failure.

/// Whether a later request may succeed although the service answered with this HTTP status. Does not
/// apply to orchestrators: in their protocol some of these statuses have other meanings.
pub fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 409 | 425 | 429 | 500..=599)
}
