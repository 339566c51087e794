//! Conversations for supervised training.
//!
//! Four row shapes, which may be mixed in a file:
//! - `{"messages": [{"role", "content"}, ...]}`;
//! - ShareGPT's `{"conversations": [{"from", "value"}, ...]}` with `human`, `gpt` and `system`;
//! - `{"prompt", "response"}`;
//! - for answers that a model has generated, `{"input_text", "model_response"}`.
//!
//! Roles are normalised to `system`, `user` and `assistant`. The loss is on the assistant's words, so a conversation
//! that does not end with the assistant is an error rather than a row that trains nothing.

use crate::row::{Row, describe};
use crate::{DataError, Loaded};
use c2c_text::Message;
use serde_json::Value;
use std::path::Path;

/// Reads conversations from one file of any format, at most `limit` of them.
///
/// # Errors
///
/// Fails when the file cannot be read or has no rows, and at the first row that is none of the three shapes, names an
/// unknown role, or does not end with a message of the assistant. The error names file, line and field.
pub fn load_conversations(path: impl AsRef<Path>, limit: Option<usize>) -> Result<Loaded<Vec<Message>>, DataError> {
    crate::load::strict(path.as_ref(), limit, parse)
}

/// Any of the shapes but the generated one.
pub(crate) fn parse(row: &Row<'_>) -> Result<Vec<Message>, DataError> {
    any_shape(row, false)
}

/// `without_system`: what the system says is passed over, whatever it is.
fn any_shape(row: &Row<'_>, without_system: bool) -> Result<Vec<Message>, DataError> {
    if let Some(list) = row.get("messages") {
        return turns(row, list, ("messages", "role", "content"), without_system);
    }
    if let Some(list) = row.get("conversations") {
        return turns(row, list, ("conversations", "from", "value"), without_system);
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

/// OpenHermes-2.5 as the reference implementation (thu-nics/C2C) reads it: without the system's messages, the user's
/// trimmed.
pub(crate) fn open_hermes(row: &Row<'_>) -> Result<Vec<Message>, DataError> {
    let mut messages = any_shape(row, true)?;
    for message in messages.iter_mut().filter(|message| message.role == "user") {
        message.content = message.content.trim().to_owned();
    }
    Ok(messages)
}

/// What another model has answered.
pub(crate) fn generated(row: &Row<'_>) -> Result<Vec<Message>, DataError> {
    let prompt = row.text(&["input_text"])?.trim();
    Ok(vec![Message::user(prompt), Message::assistant(row.text(&["model_response"])?)])
}

/// A question and the chain of thought that answers it.
pub(crate) fn chain_of_thought(row: &Row<'_>) -> Result<Vec<Message>, DataError> {
    let reply = row.text(&["chain_of_thoughts", "chain_of_thought"])?;
    Ok(vec![Message::user(row.text(&["question"])?), Message::assistant(reply)])
}

fn turns(
    row: &Row<'_>,
    list: &Value,
    (field, role_key, content_key): (&str, &str, &str),
    without_system: bool,
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
        // Many rows of OpenHermes have an empty one: what isn't read can't be bad.
        if without_system && role == "system" {
            continue;
        }
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
