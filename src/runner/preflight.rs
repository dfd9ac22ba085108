//! Is everything here that a run would need? Looks, and changes nothing.
//!
//! The orchestrator is not asked: there is no request that would not mean something to it.

use super::agent;
use super::checks::Checks;
use super::project_task::{definition, find};
use super::settings::Settings;
use super::workspace::{Source, Workspace};
use crate::scud::Project;
use crate::task::Failure;

/// One thing that was looked at.
#[derive(Debug)]
pub struct Finding {
    pub what: &'static str,
    /// What is there, or what is wrong.
    pub result: Result<String, Failure>,
}

/// Looks at everything that `run` would use, in its order; what stands on something that is
/// missing is left out.
pub async fn preflight(settings: &Settings) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    let workspace = match &settings.source {
        Source::Given(dir) => Workspace::given(dir),
        Source::Repository(repository) => {
            // Nothing below it can be looked at before there is a clone.
            findings.note("workspace", Ok(()), |()| {
                format!("a clone of {}", repository.url)
            });
            let agent = agent::create(&settings.agent, None);
            findings.note("agent", agent, |agent| agent.report().kind.to_owned());
            return findings.0;
        }
    };
    let Some(workspace) = findings.note("workspace", workspace, |workspace| {
        workspace.dir.display().to_string()
    }) else {
        return findings.0;
    };
    let project = Project::at(workspace.dir.clone());
    let task = find(settings, &project).await;
    let task = findings.note("task", task, |task| {
        format!("{} of phase {}: {}", task.id, task.phase, task.title)
    });
    let checks = Checks::of(&project, settings.checks.as_deref());
    findings.note("checks", checks, |checks| {
        match checks.commands.as_slice() {
            [] => "none".to_owned(),
            commands => commands.join(", "),
        }
    });
    let definition = task.map_or(Ok(None), |task| definition(&project, &task));
    let definition = findings.note(
        "agent definition",
        definition,
        |definition| match definition {
            Some(definition) => definition.name.clone(),
            None => "none".to_owned(),
        },
    );
    if let Some(definition) = definition {
        let agent = agent::create(&settings.agent, definition.as_ref());
        findings.note("agent", agent, |agent| agent.report().kind.to_owned());
    }
    findings.0
}

struct Findings(Vec<Finding>);

impl Findings {
    /// Notes what was found, and passes it on.
    fn note<T>(
        &mut self,
        what: &'static str,
        found: Result<T, Failure>,
        say: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let (result, passed_on) = match found {
            Ok(found) => (Ok(say(&found)), Some(found)),
            Err(failure) => (Err(failure), None),
        };
        self.0.push(Finding { what, result });
        passed_on
    }
}
