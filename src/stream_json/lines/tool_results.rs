//! `user` lines: the results of tool calls. The output of the tools is not read.

use serde::Deserialize;

use super::assistant::Blocks;
use super::fields::{RawField, fields, value};

/// The end of a tool call.
#[derive(Debug)]
pub struct ToolResult {
    pub call_id: String,
    pub is_error: bool,
}

/// The tool calls that a `user` line says have ended.
pub fn tool_results(json: &[u8]) -> Vec<ToolResult> {
    #[derive(Deserialize, Default)]
    struct Fields<'a> {
        #[serde(borrow, default)]
        message: RawField<'a>,
    }
    #[derive(Deserialize, Default)]
    struct Message<'a> {
        #[serde(borrow, default)]
        content: RawField<'a>,
    }
    #[derive(Deserialize, Default)]
    struct Block<'a> {
        #[serde(borrow, default, rename = "type")]
        kind: RawField<'a>,
        #[serde(borrow, default)]
        tool_use_id: RawField<'a>,
        #[serde(borrow, default)]
        is_error: RawField<'a>,
    }
    let Some(message) = fields::<Fields<'_>>(json).message else {
        return Vec::new();
    };
    let message: Message<'_> = fields(message.get().as_bytes());
    let Some(content) = message.content else {
        return Vec::new();
    };
    let Ok(Blocks(blocks)) = serde_json::from_str(content.get()) else {
        return Vec::new();
    };
    let result = |block: Block<'_>| {
        let is_result = value::<String>(block.kind).as_deref() == Some("tool_result");
        Some(ToolResult {
            call_id: value(block.tool_use_id).filter(|_| is_result)?,
            is_error: value(block.is_error).unwrap_or(false),
        })
    };
    let blocks = blocks.into_iter();
    blocks
        .filter_map(|block| result(fields(block.get().as_bytes())))
        .collect()
}
