//! The tools that the model can use: Anthropic's `bash` and text editor.
//!
//! Every call gets a result. The message of a failed call says how to make a correct call.

mod arguments;
mod command_output;
mod editor;
mod result;
mod shell;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use super::messages::ToolCall;
use crate::environment::Variables;
use editor::Editor;
pub use result::ToolResult;
use shell::Shell;

/// The tools of one session; the state of the shell persists between calls.
#[derive(Debug)]
pub struct Tools {
    shell: Shell,
    editor: Editor,
}

impl Tools {
    /// Tools that work in `dir`. `path` is the `PATH` on which the shell is found. `idle_timeout` is how long this
    /// process may print nothing; every command is ended before that.
    pub fn new(
        dir: PathBuf,
        path: &OsStr,
        environment: Variables,
        idle_timeout: Option<Duration>,
    ) -> eyre::Result<Self> {
        Ok(Self {
            editor: Editor::new(&dir)?,
            shell: Shell::new(dir, path, environment, idle_timeout),
        })
    }

    /// Runs one tool call. `on_output` is called whenever a command prints something.
    pub async fn call(&mut self, call: &ToolCall, on_output: &mut dyn FnMut()) -> ToolResult {
        match call.name.as_str() {
            "bash" => self.shell.call(&call.input, on_output).await.into(),
            "str_replace_based_edit_tool" => self.editor.call(&call.input).into(),
            name => Err(format!(
                "there is no tool {name:?}; there are bash and str_replace_based_edit_tool"
            ))
            .into(),
        }
    }

    /// Ends all processes in the shell's process group: SIGTERM, and SIGKILL once `grace` is over.
    pub async fn close(&mut self, grace: impl Future<Output = ()>) {
        self.shell.close(grace).await;
    }

    /// Like [`Self::close`], but with a short grace period, for processes whose results are not needed.
    pub async fn close_with_short_grace(&mut self) {
        self.shell.close_with_short_grace().await;
    }
}
