//! Conversations for supervised training.
//!
//! Three row shapes, which may be mixed in a file:
//! - `{"messages": [{"role", "content"}, ...]}`;
//! - ShareGPT's `{"conversations": [{"from", "value"}, ...]}` with `human`, `gpt` and `system`;
//! - `{"prompt", "response"}`.
//!
//! Roles are normalised to `system`, `user` and `assistant`. The loss is on the assistant's words, so a conversation
//! that does not end with the assistant is an error rather than a row that trains nothing.

use crate::DataError;
use crate::jsonl::{self, Loaded, Row, describe};
use c2c_text::Message;
use serde_json::Value;
use std::path::Path;

/// Reads conversations from a `.jsonl` or `.jsonl.gz` file, at most `limit` of them.
///
/// # Errors
///
/// Fails when the file cannot be read or has no rows, and at the first row that is none of the three shapes, names an
/// unknown role, or does not end with a message of the assistant. The error names file, line and field.
pub fn load_conversations(path: impl AsRef<Path>, limit: Option<usize>) -> Result<Loaded<Vec<Message>>, DataError> {
    jsonl::read(path.as_ref(), limit, parse)
}

fn parse(row: &Row<'_>) -> Result<Vec<Message>, DataError> {
    if let Some(list) = row.get("messages") {
        return turns(row, "messages", list, "role", "content");
    }
    if let Some(list) = row.get("conversations") {
        return turns(row, "conversations", list, "from", "value");
    }
    if row.get("prompt").is_none() {
        return Err(row.error(
            "messages`, `conversations` or `prompt",
            "a conversation in one of these fields",
            "nothing",
        ));
    }
    Ok(vec![Message::user(row.text(&["prompt"])?), Message::assistant(row.text(&["response"])?)])
}

fn turns(
    row: &Row<'_>,
    field: &str,
    list: &Value,
    role_key: &str,
    content_key: &str,
) -> Result<Vec<Message>, DataError> {
    let list = row.as_list(field, list)?;
    let mut messages = Vec::with_capacity(list.len());
    for (index, turn) in list.iter().enumerate() {
        let text = |key: &str| {
            let name = format!("{field}[{index}].{key}");
            row.as_text(&name, turn.get(key).unwrap_or(&Value::Null))
        };
        let name = text(role_key)?;
        let role = normal_role(name).ok_or_else(|| {
            row.error(
                &format!("{field}[{index}].{role_key}"),
                "system, user (human) or assistant (gpt)",
                &describe(&Value::from(name)),
            )
        })?;
        messages.push(Message { role: role.to_owned(), content: text(content_key)?.to_owned() });
    }
    match messages.last().map(|message| message.role.as_str()) {
        Some("assistant") => Ok(messages),
        last => Err(row.error(
            field,
            "a conversation whose last message is the assistant's",
            &format!("{} as the last", last.unwrap_or("no message")),
        )),
    }
}

fn normal_role(name: &str) -> Option<&'static str> {
    match name {
        "system" => Some("system"),
        "user" | "human" => Some("user"),
        "assistant" | "gpt" => Some("assistant"),
        _ => None,
    }
}
