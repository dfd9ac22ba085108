//! `demo --graph`: a dispatch on a sample project, from its graph to one branch.

use std::time::Duration;

use eyre::WrapErr;

use super::sample;
use crate::dispatch::integration::Source;
use crate::dispatch::{self, AgentOfWorkers, DispatchResult, Phases, ProjectRules, Settings};
use crate::excerpt::visible;
use crate::runner::project_settings::ProjectSettings;
use crate::terminal::Screen;

/// How many workers work at a time.
const JOBS: usize = 3;
/// How long to wait before the next attempt. The wait is short, because the demo's failures are planned.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Works through the graph of the sample project, and shows the history of the merged branch.
pub async fn demo_graph(mut settings: Settings, screen: &Screen) -> eyre::Result<DispatchResult> {
    let sample = sample::Sample::create_with_graph(&settings.environment)
        .await
        .wrap_err("cannot make the sample project")?;
    let state = tempfile::Builder::new()
        .prefix("descartes-demo-state-")
        .tempdir()
        .wrap_err("cannot make a directory for the state")?;
    screen.line(&format!(
        "a sample project with a graph of tasks, in {}",
        sample.dir().display()
    ));
    let missing_agent = ProjectRules::of(&settings).missing_agent(&ProjectSettings::default());
    if missing_agent.is_some() {
        settings.agent = AgentOfWorkers::Exists;
        screen.line(&format!(
            "no agent is set, so a short script stands in for one: {}",
            sample::GRAPH_AGENT
        ));
        let command = ("DESCARTES_AGENT_COMMAND", sample::GRAPH_AGENT.into());
        settings.worker.variables.push(command);
    }
    settings.source = Source::Local(sample.dir().to_owned());
    settings.phases = Phases::Tag(sample::GRAPH_PHASE.to_owned());
    settings.state_dir = Some(state.path().to_owned());
    settings.jobs = JOBS;
    settings.retry_delay = RETRY_DELAY;
    let result = dispatch::run(settings, screen).await?;
    let branch = format!("descartes/{}", sample::GRAPH_PHASE);
    let history = sample
        .history(&branch)
        .await
        .wrap_err("cannot show the history of the branch")?;
    screen.line(&format!("\nthe history of the branch {branch}:\n"));
    screen.line(&visible(&history));
    Ok(result)
}
