//! The messages of a conversation so far. Messages are only appended, so that the service can use its prompt cache. The
//! only exception is [`Conversation::make_room`].

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::messages;
use crate::atomic_file;

/// Replaces a tool's result that was removed to make room.
const REMOVED_NOTE: &str = "[left out to make room]";
/// Results of at most this size, in bytes, are not shortened.
const MAX_UNSHORTENED_SIZE: usize = 1_000;
/// The largest saved conversation that is loaded, in bytes: about twice as large as the service accepts.
const MAX_FILE_SIZE: u64 = 16 * 1024 * 1024;

/// The conversation of one session.
#[derive(Debug, Serialize, Deserialize)]
pub struct Conversation {
    /// The session id, which is in the agent's output.
    pub id: String,
    messages: Vec<Message>,
}

/// A message, in the format of the API.
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
    /// An empty conversation with a random id.
    pub fn new() -> Self {
        let random = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
        Self {
            id: format!("{random:016x}"),
            messages: Vec::new(),
        }
    }

    /// Loads a saved conversation. A missing or unreadable file starts a new conversation: the agent's tools can write
    /// to the file, and the run can go on without it.
    pub fn load(file: &Path) -> Self {
        match read(file) {
            Ok(saved) => saved.unwrap_or_else(Self::new),
            Err(error) => {
                let file = file.display();
                tracing::warn!(
                    "the conversation in {file} cannot be read; starting a new one: {error}"
                );
                Self::new()
            }
        }
    }

    /// Saves the conversation for the next round. The file is replaced and not overwritten, because
    /// a tool may have replaced it by a link or a pipe.
    pub fn save(&self, file: &Path) -> io::Result<()> {
        let dir = file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let private = Permissions::from_mode(0o600);
        atomic_file::replace(file, &serde_json::to_vec(self)?, Some(private))
    }

    /// Adds a prompt.
    pub fn add_prompt(&mut self, prompt: &str) {
        self.add_user_message(vec![messages::text_block(prompt)]);
    }

    /// Adds a message of the user: prompts and results of tools.
    pub fn add_user_message(&mut self, content: Vec<Value>) {
        self.messages.push(Message {
            role: Role::User,
            content,
        });
    }

    /// Adds an answer of the model.
    pub fn add_answer(&mut self, content: Vec<Value>) {
        // The API rejects messages without content.
        if !content.is_empty() {
            self.messages.push(Message {
                role: Role::Assistant,
                content,
            });
        }
    }

    /// The messages of a request. The last two messages of the user are cache breakpoints: the service
    /// wrote its cache at the earlier one during the previous request, and writes it at the later one
    /// for the next request.
    pub fn to_request(&self) -> Vec<Value> {
        let user_index =
            |(index, message): (usize, &Message)| (message.role == Role::User).then_some(index);
        let user_messages = self.messages.iter().enumerate().filter_map(user_index);
        let breakpoints: Vec<usize> = user_messages.rev().take(2).collect();
        let message = |(index, message): (usize, &Message)| {
            let mut content = message.content.clone();
            if let (true, Some(last)) = (breakpoints.contains(&index), content.last_mut()) {
                last["cache_control"] = json!({ "type": "ephemeral" });
            }
            json!({ "role": message.role, "content": content })
        };
        self.messages.iter().enumerate().map(message).collect()
    }

    /// Makes the conversation shorter: removes the older half of the tools' results that the model has read. If there
    /// are none, shortens the results that the model has not read. Returns false if there is nothing left to shorten.
    pub fn make_room(&mut self) -> bool {
        let last = self.messages.len().saturating_sub(1);
        // The model has not read the last message yet.
        let (read, unread) = self.messages.split_at_mut(last);
        if !remove_older_half(read) && !shorten(unread) {
            return false;
        }
        // The API rejects a thinking block if anything before it has changed.
        for message in &mut self.messages {
            message
                .content
                .retain(|block| !messages::is_thinking(block));
        }
        self.messages.retain(|message| !message.content.is_empty());
        true
    }
}

/// All results of tools in these messages.
fn tool_results(messages: &mut [Message]) -> impl Iterator<Item = &mut Value> {
    let blocks = messages.iter_mut().flat_map(|message| &mut message.content);
    blocks.filter(|block| block["type"] == "tool_result")
}

/// Removes the older half of the results; returns false if there are none.
fn remove_older_half(messages: &mut [Message]) -> bool {
    let mut results: Vec<&mut Value> = tool_results(messages)
        .filter(|block| size(block) > REMOVED_NOTE.len())
        .collect();
    let total: usize = results.iter().map(|block| size(block)).sum();
    let mut removed = 0;
    for block in &mut results {
        if removed * 2 >= total {
            break;
        }
        removed += size(block);
        block["content"] = REMOVED_NOTE.into();
    }
    removed > 0
}

/// Removes the second half of each long result; returns false if all of them are short.
fn shorten(messages: &mut [Message]) -> bool {
    let mut shortened = false;
    for block in tool_results(messages) {
        if size(block) > MAX_UNSHORTENED_SIZE
            && let Some(text) = block["content"].as_str()
        {
            let half: String = text.chars().take(text.chars().count() / 2).collect();
            block["content"] = format!("{half}\n{REMOVED_NOTE}").into();
            shortened = true;
        }
    }
    shortened
}

/// Reads a saved conversation; `None` if there is no file.
fn read(file: &Path) -> io::Result<Option<Conversation>> {
    let metadata = match fs::symlink_metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !metadata.is_file() || metadata.len() > MAX_FILE_SIZE {
        return Err(io::Error::other(format!(
            "it is not a regular file of at most {MAX_FILE_SIZE} bytes"
        )));
    }
    let saved: Conversation = serde_json::from_slice(&fs::read(file)?)?;
    let is_block = |block: &Value| block["type"].is_string();
    let is_message =
        |message: &Message| !message.content.is_empty() && message.content.iter().all(is_block);
    if !saved.messages.iter().all(is_message) {
        return Err(io::Error::other(
            "a message in it is empty, or has a content block without a type",
        ));
    }
    Ok(Some(saved))
}

/// The size of a result's content, in bytes.
fn size(result: &Value) -> usize {
    match &result["content"] {
        Value::String(text) => text.len(),
        other => other.to_string().len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(content: &str) -> Value {
        json!({ "type": "tool_result", "tool_use_id": "t", "content": content })
    }

    fn long_conversation() -> Conversation {
        let mut conversation = Conversation::new();
        conversation.add_prompt("do it");
        for content in ["1", "2", "3", "4"] {
            conversation.add_answer(vec![messages::text_block("hm")]);
            conversation.add_user_message(vec![result(&content.repeat(1000))]);
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
    fn make_room_removes_the_oldest_results_and_never_the_last_one() {
        let mut conversation = long_conversation();
        assert!(conversation.make_room());
        let (removed, three, four) = ("[left out", "333333333", "444444444");
        assert_eq!(contents(&conversation), [removed, removed, three, four]);
        assert!(conversation.make_room());
        assert_eq!(contents(&conversation), [removed, removed, removed, four]);
        assert!(!conversation.make_room());
    }

    #[test]
    fn only_the_last_two_user_messages_are_cache_breakpoints() {
        let sent = long_conversation().to_request();
        let marked: Vec<usize> = (0..sent.len())
            .filter(|at| sent[*at].to_string().contains("cache_control"))
            .collect();
        assert_eq!(marked, [6, 8]);
        let conversation = long_conversation();
        conversation.to_request();
        assert!(!format!("{conversation:?}").contains("cache_control"));
    }

    #[test]
    fn make_room_shortens_unread_results_if_there_are_no_others() {
        let mut conversation = Conversation::new();
        conversation.add_prompt("do it");
        conversation.add_user_message(vec![result(&"x".repeat(5000)), result("short")]);
        assert!(conversation.make_room());
        let sent = conversation.to_request()[1].to_string();
        assert!(
            sent.contains("x\\n[left out to make room]") && sent.len() < 3000,
            "{sent}"
        );
        while conversation.make_room() {}
        assert!(conversation.to_request()[1].to_string().contains("short"));
    }

    #[test]
    fn make_room_removes_thinking_blocks() {
        let mut conversation = long_conversation();
        let thinking = json!({ "type": "thinking", "thinking": "", "signature": "s" });
        conversation.add_answer(vec![thinking.clone(), messages::text_block("hm")]);
        conversation.add_answer(vec![thinking]);
        conversation.add_prompt("more");
        assert!(conversation.make_room());
        let sent = format!("{:?}", conversation.to_request());
        assert!(!sent.contains("thinking"), "{sent}");
        assert!(
            conversation
                .to_request()
                .iter()
                .all(|message| message["content"] != json!([]))
        );
    }

    #[test]
    fn a_saved_conversation_can_be_continued() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("missing/conversation.json");
        let mut conversation = Conversation::load(&file);
        conversation.add_prompt("first");
        conversation.add_answer(vec![messages::text_block("done")]);
        conversation.add_answer(vec![]);
        conversation.save(&file).unwrap();
        let mut loaded = Conversation::load(&file);
        loaded.add_prompt("second");
        assert_eq!(loaded.id, conversation.id);
        assert_eq!(loaded.to_request().len(), 3);
    }

    #[test]
    fn an_invalid_file_starts_a_new_conversation() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("conversation.json");
        for text in [
            "{",
            r#"{"id":"x","messages":[{"role":"user","content":["text"]}]}"#,
            r#"{"id":"x","messages":[{"role":"user","content":[]}]}"#,
        ] {
            fs::write(&file, text).unwrap();
            assert!(Conversation::load(&file).to_request().is_empty(), "{text}");
        }
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(Conversation::load(&file).to_request().is_empty());
    }
}
