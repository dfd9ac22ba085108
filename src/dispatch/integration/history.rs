//! The history of the integration branch as a picture of lines.

use super::branch::Integration;
use super::error::IntegrationError;

/// The most lines that are shown.
const MAX_LINES: usize = 200;

impl Integration {
    /// What was merged since this dispatch began, newest first, drawn by git.
    pub async fn history(&self) -> Result<Vec<String>, IntegrationError> {
        let range = format!("{}..{}", self.base.id, self.tip.id);
        let call = self.place.repository.call([
            "log",
            "--graph",
            "--no-color",
            "--format=%h %s",
            "--abbrev=7",
            &range,
        ]);
        let what = "the history of the integration branch cannot be read";
        let git = self.place.git()?;
        let text = self.place.repository.run(&git, what, call).await?;
        Ok(text.lines().take(MAX_LINES).map(str::to_owned).collect())
    }
}
