//! The results of the checks.

use crate::task::Failure;

/// The result of one check.
#[derive(Debug)]
pub struct Finding {
    /// What was checked, as a noun.
    pub subject: &'static str,
    /// A description of what is there, or the problem.
    pub result: Result<String, Failure>,
}

/// Collects the findings.
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    /// Returns the value of a successful check, and adds no finding; if the check failed, adds its failure.
    pub(super) fn add_problem<T>(
        &mut self,
        subject: &'static str,
        found: Result<T, Failure>,
    ) -> Option<T> {
        match found {
            Ok(thing) => Some(thing),
            Err(failure) => {
                let result = Err(failure);
                self.0.push(Finding { subject, result });
                None
            }
        }
    }

    /// Adds the finding of a check: the description of its value, or its failure. Returns the value.
    pub(super) fn add<T>(
        &mut self,
        subject: &'static str,
        found: Result<T, Failure>,
        describe: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let (result, thing) = match found {
            Ok(thing) => (Ok(describe(&thing)), Some(thing)),
            Err(failure) => (Err(failure), None),
        };
        self.0.push(Finding { subject, result });
        thing
    }
}
