//! The answers that the rules allow.

use super::report::RuleVerdict;

/// The answers that a rule allows.
#[derive(Debug, Clone, Copy)]
pub enum Expected {
    /// 2xx.
    Success,
    /// 409. Workers treat 410 in the same way, so an answer with 410 gets [`RuleVerdict::Advice`].
    Conflict,
    /// 410. Workers treat 409 in the same way, so an answer with 409 gets [`RuleVerdict::Advice`].
    Gone,
    /// 409 or 410.
    ConflictOrGone,
    /// 2xx, 409 or 410: the orchestrator may ignore the event, or answer that the run is over.
    SuccessConflictOrGone,
    /// 401 or 403.
    Unauthorized,
}

impl Expected {
    /// The verdict about an answer with this status, and the message for the report.
    pub fn judge(self, status: u16) -> (RuleVerdict, String) {
        let answered = |right: &str| format!("answered {status}, {right} is right");
        let kept = (RuleVerdict::Kept, String::new());
        match (self, status) {
            (Self::Success | Self::SuccessConflictOrGone, 200..300)
            | (Self::Conflict, 409)
            | (Self::Gone, 410)
            | (Self::ConflictOrGone | Self::SuccessConflictOrGone, 409 | 410)
            | (Self::Unauthorized, 401 | 403) => kept,
            (Self::Conflict, 410) => (RuleVerdict::Advice, answered("409")),
            (Self::Gone, 409) => (RuleVerdict::Advice, answered("410")),
            (Self::Unauthorized, 400..=499) => (RuleVerdict::Advice, answered("401")),
            (Self::Success, _) => (RuleVerdict::Broken, answered("2xx")),
            (Self::Conflict, _) => (RuleVerdict::Broken, answered("409")),
            (Self::Gone, _) => (RuleVerdict::Broken, answered("410")),
            (Self::ConflictOrGone, _) => (RuleVerdict::Broken, answered("409 or 410")),
            (Self::SuccessConflictOrGone, _) => (RuleVerdict::Broken, answered("2xx or 409")),
            (Self::Unauthorized, _) => (RuleVerdict::Broken, answered("401")),
        }
    }
}
