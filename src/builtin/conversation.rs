//! What was said so far: linear, and only ever added to, so that the service's cache holds.
//!
//! The one exception is [`Conversation::make_room`]. Sends nothing.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::messages;

/// What a tool's result becomes to make room.
const LEFT_OUT: &str = "[left out to make room]";
/// What is shorter, in bytes, is not shortened any more.
const SHORT: usize = 1_000;
/// The most that is read of a conversation that was kept, in bytes.
const KEPT: u64 = 64 * 1024 * 1024;

#[derive(Debug, Serialize, Deserialize)]
pub struct Conversation {
    /// Its name, by which records can be found.
    pub id: String,
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
            messages: Vec::new(),
        }
    }

    /// The conversation in a file; a new one where there is none. The file lies where the agent's
    /// tools can reach it, so what is no conversation is not one any more, and no reason to fail.
    pub fn load(file: &Path) -> Self {
        match read(file) {
            Ok(kept) => kept.unwrap_or_else(Self::new),
            Err(error) => {
                let file = file.display();
                tracing::warn!(
                    "the conversation in {file} cannot be read, so it begins anew: {error}"
                );
                Self::new()
            }
        }
    }

    /// Keeps it for the next round: in a new file that takes the old one's place, because a tool may
    /// have put something there that must not be written to.
    pub fn save(&self, file: &Path) -> io::Result<()> {
        let dir = file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let mut new = NamedTempFile::new_in(dir)?;
        new.write_all(&serde_json::to_vec(self)?)?;
        new.persist(file).map(drop).map_err(|error| error.error)
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

    /// Leaves out the older half of what tools have said, and where the model has read none of it
    /// yet, half of each; false where nothing is left to leave out.
    pub fn make_room(&mut self) -> bool {
        let last = self.messages.len().saturating_sub(1);
        let (read, unread) = self.messages.split_at_mut(last);
        if !leave_out(read) && !shorten(unread) {
            return false;
        }
        // A thought is bound to everything before it, and refused where that has changed.
        for message in &mut self.messages {
            message.content.retain(|block| !messages::is_thought(block));
        }
        self.messages.retain(|message| !message.content.is_empty());
        true
    }
}

/// The results of tools in some messages.
fn results(messages: &mut [Message]) -> impl Iterator<Item = &mut Value> {
    let blocks = messages.iter_mut().flat_map(|message| &mut message.content);
    blocks.filter(|block| block["type"] == "tool_result")
}

/// Leaves out the older half; false where there is nothing.
fn leave_out(messages: &mut [Message]) -> bool {
    let mut results: Vec<&mut Value> = results(messages)
        .filter(|block| size(block) > LEFT_OUT.len())
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

/// Leaves out the second half of each; false where all of them are short.
fn shorten(messages: &mut [Message]) -> bool {
    let mut shortened = false;
    for block in results(messages) {
        if size(block) > SHORT
            && let Some(text) = block["content"].as_str()
        {
            let half: String = text.chars().take(text.chars().count() / 2).collect();
            block["content"] = format!("{half}\n{LEFT_OUT}").into();
            shortened = true;
        }
    }
    shortened
}

/// What a file holds; nothing where there is no file.
fn read(file: &Path) -> io::Result<Option<Conversation>> {
    let found = match fs::symlink_metadata(file) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !found.is_file() || found.len() > KEPT {
        return Err(io::Error::other("it is not a file of a sensible size"));
    }
    let kept: Conversation = serde_json::from_slice(&fs::read(file)?)?;
    let is_block = |block: &Value| block["type"].is_string();
    let is_message =
        |message: &Message| !message.content.is_empty() && message.content.iter().all(is_block);
    if !kept.messages.iter().all(is_message) {
        return Err(io::Error::other("it holds what is no message"));
    }
    Ok(Some(kept))
}

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
    fn what_has_not_been_read_yet_is_shortened_where_nothing_else_is_left() {
        let mut conversation = Conversation::new();
        conversation.ask("do it");
        conversation.reply(vec![result(&"x".repeat(5000)), result("short")]);
        assert!(conversation.make_room());
        let sent = conversation.to_send()[1].to_string();
        assert!(
            sent.contains("x\\n[left out to make room]") && sent.len() < 3000,
            "{sent}"
        );
        while conversation.make_room() {}
        assert!(conversation.to_send()[1].to_string().contains("short"));
    }

    #[test]
    fn thoughts_go_when_what_they_were_about_is_changed() {
        let mut conversation = long();
        let thought = json!({ "type": "thinking", "thinking": "", "signature": "s" });
        conversation.answered(vec![thought.clone(), messages::text("hm")]);
        conversation.answered(vec![thought]);
        conversation.ask("more");
        assert!(conversation.make_room());
        let sent = format!("{:?}", conversation.to_send());
        assert!(!sent.contains("thinking"), "{sent}");
        assert!(
            conversation
                .to_send()
                .iter()
                .all(|message| message["content"] != json!([]))
        );
    }

    #[test]
    fn a_conversation_that_was_kept_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gone/conversation.json");
        let mut conversation = Conversation::load(&file);
        conversation.ask("first");
        conversation.answered(vec![messages::text("done")]);
        conversation.answered(vec![]);
        conversation.save(&file).unwrap();
        let mut again = Conversation::load(&file);
        again.ask("second");
        assert_eq!(again.id, conversation.id);
        assert_eq!(again.to_send().len(), 3);
    }

    #[test]
    fn what_is_no_conversation_begins_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("conversation.json");
        for text in [
            "{",
            r#"{"id":"x","messages":[{"role":"user","content":["text"]}]}"#,
            r#"{"id":"x","messages":[{"role":"user","content":[]}]}"#,
        ] {
            fs::write(&file, text).unwrap();
            assert!(Conversation::load(&file).to_send().is_empty(), "{text}");
        }
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(Conversation::load(&file).to_send().is_empty());
    }
}
