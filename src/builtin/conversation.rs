//! What was said so far: linear, and only ever added to, so that the service's cache holds.
//!
//! The one exception is [`Conversation::make_room`]. Sends nothing.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use eyre::WrapErr;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::messages::{self, Usage};

/// What a tool's result becomes to make room.
const LEFT_OUT: &str = "[left out to make room]";

#[derive(Debug, Serialize, Deserialize)]
pub struct Conversation {
    /// Its name, by which records can be found.
    pub id: String,
    /// All that it took so far.
    pub usage: Usage,
    messages: Vec<Message>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Message {
    role: Role,
    content: Vec<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    User,
    Assistant,
}

impl Conversation {
    pub fn new() -> Self {
        let random = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
        Self {
            id: format!("{random:016x}"),
            usage: Usage::default(),
            messages: Vec::new(),
        }
    }

    /// The conversation in a file; a new one where there is no file yet.
    pub fn load(file: &Path) -> eyre::Result<Self> {
        let kept = match fs::read(file) {
            Ok(kept) => kept,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::new()),
            Err(error) => return Err(error).wrap_err_with(|| unreadable(file)),
        };
        serde_json::from_slice(&kept).wrap_err_with(|| unreadable(file))
    }

    pub fn save(&self, file: &Path) -> eyre::Result<()> {
        fs::write(file, serde_json::to_vec(self)?)
            .wrap_err_with(|| format!("the conversation cannot be kept in {}", file.display()))
    }

    /// Something for the model to do.
    pub fn ask(&mut self, prompt: &str) {
        self.reply(vec![messages::text(prompt)]);
    }

    /// What the model gets to read next.
    pub fn reply(&mut self, content: Vec<Value>) {
        self.messages.push(Message {
            role: Role::User,
            content,
        });
    }

    /// What the model answered.
    pub fn answered(&mut self, content: Vec<Value>) {
        // The API takes no message without content.
        if !content.is_empty() {
            self.messages.push(Message {
                role: Role::Assistant,
                content,
            });
        }
    }

    /// The messages as they are sent. The last two of ours say that everything up to them is worth
    /// caching: the earlier is where the cache was left, the later is where it goes on.
    pub fn to_send(&self) -> Vec<Value> {
        let ours =
            |(index, message): (usize, &Message)| (message.role == Role::User).then_some(index);
        let ours = self.messages.iter().enumerate().filter_map(ours);
        let marked: Vec<usize> = ours.rev().take(2).collect();
        let message = |(index, message): (usize, &Message)| {
            let mut content = message.content.clone();
            if let (true, Some(last)) = (marked.contains(&index), content.last_mut()) {
                last["cache_control"] = json!({ "type": "ephemeral" });
            }
            json!({ "role": message.role, "content": content })
        };
        self.messages.iter().enumerate().map(message).collect()
    }

    /// Leaves out the older half of what tools have said, but never what the model has not read
    /// yet; false where nothing is left to leave out.
    pub fn make_room(&mut self) -> bool {
        let last = self.messages.len().saturating_sub(1);
        let results = self.messages[..last].iter_mut();
        let results = results.flat_map(|message| &mut message.content);
        let mut results: Vec<&mut Value> = results
            .filter(|block| block["type"] == "tool_result" && size(block) > LEFT_OUT.len())
            .collect();
        let total: usize = results.iter().map(|block| size(block)).sum();
        let mut left_out = 0;
        for block in &mut results {
            if left_out * 2 >= total {
                break;
            }
            left_out += size(block);
            block["content"] = LEFT_OUT.into();
        }
        left_out > 0
    }
}

fn size(result: &Value) -> usize {
    match &result["content"] {
        Value::String(text) => text.len(),
        other => other.to_string().len(),
    }
}

fn unreadable(file: &Path) -> String {
    format!("the conversation in {} cannot be read", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(content: &str) -> Value {
        json!({ "type": "tool_result", "tool_use_id": "t", "content": content })
    }

    fn long() -> Conversation {
        let mut conversation = Conversation::new();
        conversation.ask("do it");
        for content in ["1", "2", "3", "4"] {
            conversation.answered(vec![messages::text("hm")]);
            conversation.reply(vec![result(&content.repeat(1000))]);
        }
        conversation
    }

    fn contents(conversation: &Conversation) -> Vec<String> {
        let blocks = conversation
            .messages
            .iter()
            .flat_map(|message| &message.content);
        let results = blocks.filter_map(|block| block["content"].as_str());
        results
            .map(|content| content.chars().take(9).collect())
            .collect()
    }

    #[test]
    fn room_is_made_of_the_oldest_results_and_never_of_the_last() {
        let mut conversation = long();
        assert!(conversation.make_room());
        let (gone, three, four) = ("[left out", "333333333", "444444444");
        assert_eq!(contents(&conversation), [gone, gone, three, four]);
        assert!(conversation.make_room());
        assert_eq!(contents(&conversation), [gone, gone, gone, four]);
        assert!(!conversation.make_room());
    }

    #[test]
    fn the_last_two_of_ours_are_marked_for_the_cache_and_nothing_else_is() {
        let sent = long().to_send();
        let marked: Vec<usize> = (0..sent.len())
            .filter(|at| sent[*at].to_string().contains("cache_control"))
            .collect();
        assert_eq!(marked, [6, 8]);
        let again = long();
        again.to_send();
        assert!(!format!("{again:?}").contains("cache_control"));
    }

    #[test]
    fn a_conversation_that_was_kept_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("conversation.json");
        let mut conversation = Conversation::load(&file).unwrap();
        conversation.ask("first");
        conversation.answered(vec![messages::text("done")]);
        conversation.answered(vec![]);
        conversation.save(&file).unwrap();
        let mut again = Conversation::load(&file).unwrap();
        again.ask("second");
        assert_eq!(again.id, conversation.id);
        assert_eq!(again.to_send().len(), 3);
        fs::write(&file, "{").unwrap();
        let error = Conversation::load(&file).unwrap_err().to_string();
        assert!(
            error.contains("conversation.json cannot be read"),
            "{error}"
        );
    }
}
