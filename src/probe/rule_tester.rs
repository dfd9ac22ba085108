//! Sends the events of sample runs, and adds the verdicts about the answers to the report.

use super::expected::Expected;
use super::report::{Report, RuleVerdict};
use super::sample::SampleRun;
use super::sender::{Answer, Sender};
use super::settings::Settings;
use crate::callback::Event;

/// Tries the rules, and adds the verdicts to the report.
pub struct RuleTester<'a> {
    pub settings: &'a Settings,
    pub sender: &'a Sender,
    pub report: &'a mut Report,
}

impl<'a> RuleTester<'a> {
    /// A new run for a task of the first project.
    pub fn new_run(&self, task: &str) -> SampleRun<'a> {
        let project = &self.settings.callback.identity.project_id;
        SampleRun::new(&self.settings.callback, project, task)
    }

    /// Sends an event and judges the answer.
    pub async fn send_and_judge(
        &mut self,
        section: &'static str,
        rule: &'static str,
        expected: Expected,
        event: &Event,
    ) {
        let answer = self.sender.send(event).await;
        self.judge(section, rule, expected, answer);
    }

    /// Adds the verdict about an answer to the report.
    pub fn judge(
        &mut self,
        section: &'static str,
        rule: &'static str,
        expected: Expected,
        answer: Result<Answer, String>,
    ) {
        let (verdict, message) = match answer {
            Ok(answer) => expected.judge(answer.status),
            Err(why) => (RuleVerdict::Broken, why),
        };
        self.report.add(section, rule, verdict, message);
    }

    /// Adds to the report that a rule was not tried.
    pub fn add_not_tried(&mut self, section: &'static str, rule: &'static str, why: &str) {
        self.report
            .add(section, rule, RuleVerdict::NotTried, why.to_owned());
    }

    /// Sends a claim; returns whether it was granted.
    pub async fn claim_is_granted(&self, claim: &Event) -> bool {
        let answer = self.sender.send(claim).await;
        answer.is_ok_and(|answer| answer.is_success())
    }
}
