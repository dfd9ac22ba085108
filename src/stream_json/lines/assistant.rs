//! `assistant` lines: the messages of the model.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::fields::{RawField, fields, value};
use super::tokens::read_usage;
use crate::model::Usage;

/// How many content blocks of one message are read.
const MAX_BLOCKS: usize = 1_000;
/// The name of the model in messages that Claude Code writes itself.
const SYNTHETIC_MODEL: &str = "<synthetic>";

/// An `assistant` line: a message of the model, or a part of one.
#[derive(Debug, Default)]
pub struct AssistantLine {
    pub blocks: Vec<Block>,
    pub usage: Option<MessageUsage>,
}

/// The usage of a message.
#[derive(Debug)]
pub struct MessageUsage {
    pub message_id: String,
    pub usage: Usage,
    /// Whether the message is the agent's and not a subagent's.
    pub is_turn: bool,
}

impl AssistantLine {
    pub fn of(json: &[u8]) -> Self {
        #[derive(Deserialize, Default)]
        struct Fields<'a> {
            #[serde(borrow, default)]
            message: RawField<'a>,
            #[serde(borrow, default)]
            parent_tool_use_id: RawField<'a>,
        }
        #[derive(Deserialize, Default)]
        struct Message<'a> {
            #[serde(borrow, default)]
            id: RawField<'a>,
            #[serde(borrow, default)]
            model: RawField<'a>,
            #[serde(borrow, default)]
            content: RawField<'a>,
            #[serde(borrow, default)]
            usage: RawField<'a>,
        }
        let line: Fields<'_> = fields(json);
        let Some(message) = line.message else {
            return Self::default();
        };
        let message: Message<'_> = fields(message.get().as_bytes());
        let content = message.content.map_or("[]", RawValue::get);
        let blocks: Blocks<'_> = serde_json::from_str(content).unwrap_or(Blocks(Vec::new()));
        let is_synthetic = value::<String>(message.model).as_deref() == Some(SYNTHETIC_MODEL);
        let is_turn = value::<String>(line.parent_tool_use_id).is_none();
        let usage = match (value(message.id), read_usage(message.usage)) {
            (Some(message_id), Some(usage)) if !is_synthetic => Some(MessageUsage {
                message_id,
                usage,
                is_turn,
            }),
            _ => None,
        };
        Self {
            blocks: blocks.0.into_iter().filter_map(shown_block).collect(),
            usage,
        }
    }
}

/// A part of a message that the log shows.
#[derive(Debug)]
pub enum Block {
    Text(String),
    /// A thinking block of the model.
    Thought(String),
    ToolCall(ToolCall),
}

/// The model calls a tool.
#[derive(Debug)]
pub struct ToolCall {
    /// The id that the call shares with its result; empty if the agent does not report an id.
    pub id: String,
    /// The name of the tool, as the agent writes it.
    pub name: String,
    /// The tool's name and its most important argument, from [`describe_call`].
    pub description: String,
}

/// The first [`MAX_BLOCKS`] content blocks of a message.
pub(super) struct Blocks<'a>(pub(super) Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Blocks<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FirstBlocks;
        impl<'de> Visitor<'de> for FirstBlocks {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of blocks")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut blocks = Vec::new();
                while let Some(block) = list.next_element()? {
                    if blocks.len() < MAX_BLOCKS {
                        blocks.push(block);
                    }
                }
                Ok(blocks)
            }
        }
        deserializer.deserialize_seq(FirstBlocks).map(Self)
    }
}

/// The part of a block that the log shows.
fn shown_block(block: &RawValue) -> Option<Block> {
    #[derive(Deserialize, Default)]
    struct Fields<'a> {
        #[serde(borrow, default, rename = "type")]
        kind: RawField<'a>,
        #[serde(borrow, default)]
        text: RawField<'a>,
        #[serde(borrow, default)]
        thinking: RawField<'a>,
        #[serde(borrow, default)]
        id: RawField<'a>,
        #[serde(borrow, default)]
        name: RawField<'a>,
        #[serde(borrow, default)]
        input: RawField<'a>,
    }
    let block: Fields<'_> = fields(block.get().as_bytes());
    match value::<String>(block.kind)?.as_str() {
        "text" => value(block.text).map(Block::Text),
        "thinking" => value(block.thinking).map(Block::Thought),
        "tool_use" => {
            let name = value::<String>(block.name).unwrap_or_default();
            Some(Block::ToolCall(ToolCall {
                id: value(block.id).unwrap_or_default(),
                description: describe_call(&name.to_lowercase(), block.input),
                name,
            }))
        }
        _ => None,
    }
}

/// A description of a tool call: `bash cargo test`. Not shortened: secrets must be masked first, and a
/// part of a secret would not be recognised.
fn describe_call(name: &str, input: RawField<'_>) -> String {
    #[derive(Deserialize, Default)]
    struct Fields<'a> {
        #[serde(borrow, default)]
        command: RawField<'a>,
        #[serde(borrow, default)]
        path: RawField<'a>,
        #[serde(borrow, default)]
        file_path: RawField<'a>,
        #[serde(borrow, default)]
        notebook_path: RawField<'a>,
        #[serde(borrow, default)]
        pattern: RawField<'a>,
        #[serde(borrow, default)]
        url: RawField<'a>,
        #[serde(borrow, default)]
        query: RawField<'a>,
        #[serde(borrow, default)]
        description: RawField<'a>,
    }
    let Some(raw) = input else {
        return name.to_owned();
    };
    let input: Fields<'_> = fields(raw.get().as_bytes());
    let (command, path) = (value::<String>(input.command), value::<String>(input.path));
    // The command of the editor tool is one word, so the path is shown too.
    if let (Some(command), Some(path)) = (&command, &path) {
        return format!("{name} {command} {path}");
    }
    // The argument that says most about the call comes first.
    let others = [
        input.file_path,
        input.notebook_path,
        input.pattern,
        input.url,
        input.query,
        input.description,
    ];
    let other = || others.into_iter().find_map(value::<String>);
    match command.or(path).or_else(other) {
        Some(argument) => format!("{name} {argument}"),
        None if raw.get() == "{}" => name.to_owned(),
        None => format!("{name} {}", raw.get()),
    }
}
