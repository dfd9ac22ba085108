//! The history of the integration branch as `git log --graph` draws it.

use super::branch::Integration;
use super::error::IntegrationError;

/// The maximum number of lines that are shown.
const MAX_LINES: usize = 200;

impl Integration {
    /// What was merged since this dispatch began, newest first, drawn by git.
    pub async fn history(&self) -> Result<Vec<String>, IntegrationError> {
        let range = format!("{}..{}", self.base.id, self.tip.id);
        let call = self.repositories.bare.call([
            "log",
            "--graph",
            "--no-color",
            "--format=%h %s",
            "--abbrev=7",
            &range,
        ]);
        let what = "the history of the integration branch cannot be read";
        let git = self.repositories.git()?;
        let text = self.repositories.bare.run(&git, what, call).await?;
        Ok(text.lines().take(MAX_LINES).map(str::to_owned).collect())
    }
}
