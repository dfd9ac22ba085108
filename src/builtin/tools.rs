//! The tools the model knows: Anthropic's own `bash` and text editor.
//!
//! Whatever a call asks for, there is a result; what cannot be done is said in words that help to
//! do it right.

mod editor;
mod shell;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::messages::ToolCall;
use crate::environment::Variables;
use editor::Editor;
use shell::Shell;

/// The most of one result that the model gets, in bytes: what it reads in a second costs tokens
/// for the rest of the conversation.
const RESULT: usize = 30_000;
/// What says that something was left out of the middle.
const GAP: usize = 60;

/// What a tool says.
#[derive(Debug, PartialEq, Eq)]
pub struct ToolResult {
    pub text: String,
    /// The tool could not do what it was asked to.
    pub is_error: bool,
}

impl ToolResult {
    /// As the API wants it.
    pub fn block(self, id: &str) -> Value {
        json!({
            "type": "tool_result", "tool_use_id": id, "content": self.text, "is_error": self.is_error,
        })
    }
}

impl From<Result<String, String>> for ToolResult {
    fn from(result: Result<String, String>) -> Self {
        let is_error = result.is_err();
        let text = result.unwrap_or_else(|error| error);
        Self {
            text: cut_in_the_middle(&text),
            is_error,
        }
    }
}

#[derive(Debug)]
pub struct Tools {
    shell: Shell,
    editor: Editor,
}

impl Tools {
    /// Tools that work in a directory. `patience` is how long nobody minds silence.
    pub fn new(
        dir: PathBuf,
        path: &OsStr,
        environment: Variables,
        patience: Option<Duration>,
    ) -> eyre::Result<Self> {
        Ok(Self {
            editor: Editor::below(&dir)?,
            shell: Shell::new(dir, path, environment, patience),
        })
    }

    /// Does what the model asks for; `alive` is called while there is something to hear.
    pub async fn call(&mut self, call: &ToolCall, alive: &mut dyn FnMut()) -> ToolResult {
        match call.name.as_str() {
            "bash" => self.shell.call(&call.input, alive).await.into(),
            "str_replace_based_edit_tool" => self.editor.call(&call.input).into(),
            name => Err(format!(
                "there is no tool {name:?}; there are bash and str_replace_based_edit_tool"
            ))
            .into(),
        }
    }

    /// Ends what the shell still runs.
    pub async fn close(&mut self) {
        self.shell.close().await;
    }
}

/// A text from a call's input.
fn text<'a>(input: &'a Value, name: &str) -> Result<&'a str, String> {
    input[name]
        .as_str()
        .ok_or_else(|| format!("`{name}` is missing; it must be a text"))
}

/// The beginning and the end of a text that is too long, with a word on what is missing.
fn cut_in_the_middle(text: &str) -> String {
    if text.len() <= RESULT {
        return text.to_owned();
    }
    let half = (RESULT - GAP) / 2;
    let whole = |at: &usize| text.is_char_boundary(*at);
    let head = (0..=half).rev().find(whole).unwrap_or(0);
    let tail = (text.len() - half..text.len())
        .find(whole)
        .unwrap_or(text.len());
    let left_out = tail - head;
    format!(
        "{}\n[... {left_out} bytes left out ...]\n{}",
        &text[..head],
        &text[tail..]
    )
}
