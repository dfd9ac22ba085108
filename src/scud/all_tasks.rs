//! Reads all tasks of a project's graph.

use super::files::{self, Access};
use super::find::FindError;
use super::graph_file::{GRAPH_COMPONENTS, Malformed, read_graph};
use super::lexer::SyntaxError;
use super::project::Project;
use super::ready::TaskGraph;

impl Project {
    /// All tasks of the project, with the tasks that each one needs.
    pub async fn all_tasks(&self) -> Result<TaskGraph, FindError> {
        let path = self.path(GRAPH_COMPONENTS);
        let file = files::open_locked(&self.root, GRAPH_COMPONENTS, Access::Read).await;
        let text = read_graph(&file.map_err(FindError::File)?, &path)?;
        let malformed = |error: SyntaxError| FindError::Malformed(Malformed::new(&path, error));
        TaskGraph::parse(&text).map_err(malformed)
    }
}
