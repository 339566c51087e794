//! What has been said.

use c2c_text::Message;

/// A system prompt and the turns so far, each a message of the user and the reply to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conversation {
    system: Option<String>,
    /// User and assistant take turns.
    said: Vec<Message>,
}

impl Conversation {
    /// A conversation without turns.
    pub fn new(system: Option<String>) -> Self {
        Self { system, said: Vec::new() }
    }

    /// The system prompt.
    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// Another system prompt, or none, for what is still to be said; the turns so far stay.
    pub fn set_system(&mut self, system: Option<String>) {
        self.system = system;
    }

    /// Turns so far.
    pub fn turns(&self) -> usize {
        self.said.len() / 2
    }

    /// All messages with one more of the user, which is to be answered.
    pub fn with(&self, text: &str) -> Vec<Message> {
        let system = self.system.iter().map(Message::system);
        system.chain(self.said.iter().cloned()).chain([Message::user(text)]).collect()
    }

    /// Keeps a message and its reply as a turn.
    pub fn remember(&mut self, text: &str, reply: &str) {
        self.said.extend([Message::user(text), Message::assistant(reply)]);
    }

    /// Forgets the turns, not the system prompt.
    pub fn forget(&mut self) {
        self.said.clear();
    }
}
