//! What came of a turn.

use c2c_fuser::FuserError;
use c2c_lm::Finish;
use c2c_text::TextError;
use serde::{Deserialize, Serialize};

use super::Speaker;
use crate::times::Phases;

/// A reply, and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatReply {
    /// Who answered.
    pub speaker: Speaker,
    /// The text, without special tokens.
    pub text: String,
    /// Its ids, without the end token.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: End,
    /// Tokens of the prompt that the Receiver read, if it did.
    pub receiver_tokens: Option<usize>,
    /// Tokens that each Sharer read, which with fusion is the prompt up to its last fused section; of a Sharer that
    /// answers alone its own.
    pub sharer_tokens: Vec<usize>,
    /// What was fused; nothing where a model answers alone.
    pub fused: FusedSlots,
    /// Milliseconds by what was done.
    pub phases: Phases,
    /// Milliseconds from the conversation to the end of the reply.
    pub milliseconds: f64,
}

impl ChatReply {
    /// Tokens that were decoded in a second; none if there was no token.
    pub fn tokens_per_second(&self) -> Option<f64> {
        (!self.ids.is_empty() && self.phases.decode > 0.0).then(|| self.ids.len() as f64 * 1e3 / self.phases.decode)
    }
}

/// The part of the Receiver's cache that was fused, as the first Sharer's alignment lays it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FusedSlots {
    /// Sections, each fused as a whole.
    pub sections: usize,
    /// Slots of these sections.
    pub slots: usize,
    /// Slots that hold a token of the Receiver; the others are padding to it.
    pub tokens: usize,
}

/// Why a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The model ended it.
    Eos,
    /// It was as long as it may be.
    Length,
    /// It was as long as the model's context allows, and might have been longer.
    Context,
    /// Whoever watched it made an end.
    Stopped,
}

impl End {
    /// `cut`: the context allowed less than was asked for.
    pub(super) fn of(finish: Finish, cut: bool) -> Self {
        match finish {
            Finish::Eos => Self::Eos,
            Finish::Length if cut => Self::Context,
            Finish::Length => Self::Length,
            Finish::Stopped => Self::Stopped,
        }
    }
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The conversation is too long.
    #[error(
        "the conversation has {found} tokens for the {}, more than its context of {limit} (max_position_embeddings): \
         shorten the message or begin a new conversation",
        whose(.speaker)
    )]
    Context {
        /// Who reads it; [`Speaker::C2c`] is the Receiver.
        speaker: Speaker,
        /// Tokens of the prompt.
        found: usize,
        /// The most that the model can read.
        limit: usize,
    },
    /// A Sharer that isn't there.
    #[error("sharer {asked} was asked, but there {}", there_are(.sharers))]
    NoSharer {
        /// Counted from 1.
        asked: usize,
        /// How many there are.
        sharers: usize,
    },
    /// A text that can't be put to the models, or a reply that can't be read.
    #[error(transparent)]
    Text(#[from] TextError),
    /// What the models refuse.
    #[error(transparent)]
    Fuser(#[from] FuserError),
}

fn whose(speaker: &Speaker) -> String {
    match speaker {
        Speaker::C2c | Speaker::Receiver => "receiver".to_owned(),
        Speaker::Sharer(0) => "sharer".to_owned(),
        Speaker::Sharer(place) => format!("sharer {}", place + 1),
    }
}

fn there_are(sharers: &usize) -> String {
    if *sharers == 1 { "is one".to_owned() } else { format!("are {sharers}") }
}
