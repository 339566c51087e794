//! One turn of a chat, as chat templates read it.

use serde::{Deserialize, Serialize};

/// One turn of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or any other role that the chat template knows.
    pub role: String,
    /// The text of the turn.
    pub content: String,
}

impl Message {
    /// A turn of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".to_string(), content: content.into() }
    }

    /// A turn of the assistant.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: "assistant".to_string(), content: content.into() }
    }

    /// The system prompt.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: "system".to_string(), content: content.into() }
    }

    /// Whether the content holds nothing but whitespace. Templates may trim such a content away, so it is never a
    /// message section of its own.
    pub(crate) fn is_blank(&self) -> bool {
        self.content.trim().is_empty()
    }
}
