//! What the models read for a question.

use c2c_text::Prompt;
use sha2::{Digest, Sha256};

/// What is read for one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// By one model alone: its own chat template in its own tokens, without padding.
    Alone(Vec<u32>),
    /// By receiver and sharer in step.
    Pair(Prompt),
}

impl Input {
    /// Slots in the cache of the model that answers.
    pub(crate) fn slots(&self) -> usize {
        match self {
            Self::Alone(ids) => ids.len(),
            Self::Pair(prompt) => prompt.len(),
        }
    }

    /// Slots that the sharer reads: up to the last fused section.
    pub(crate) fn sharer_slots(&self) -> usize {
        let Self::Pair(prompt) = self else { return 0 };
        let fused = prompt.sections.iter().rposition(|section| section.fuse).map_or(0, |last| last + 1);
        prompt.sections[..fused].iter().map(|section| section.len()).sum()
    }

    /// Which sections are fused. Only inputs that agree here can be read in one batch.
    pub(crate) fn shape(&self) -> Vec<bool> {
        match self {
            Self::Alone(_) => Vec::new(),
            Self::Pair(prompt) => prompt.sections.iter().map(|section| section.fuse).collect(),
        }
    }

    /// Tokens of the model that answers, without padding.
    pub(crate) fn tokens(&self) -> usize {
        match self {
            Self::Alone(ids) => ids.len(),
            Self::Pair(prompt) => prompt.receiver_tokens().len(),
        }
    }

    /// The hash described at [`Record::prompt_sha256`](crate::Record::prompt_sha256).
    pub(crate) fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |ids: &[u32]| {
            hash.update((ids.len() as u64).to_le_bytes());
            ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
        };
        match self {
            Self::Alone(ids) => add(ids),
            Self::Pair(prompt) => {
                add(&prompt.receiver_tokens());
                add(&sharer_tokens(prompt));
            }
        }
        crate::hex(&hash.finalize())
    }
}

fn sharer_tokens(prompt: &Prompt) -> Vec<u32> {
    let slots = prompt.sections.iter().flat_map(|section| section.sharer.iter().zip(&section.sharer_mask));
    slots.filter_map(|(id, real)| real.then_some(*id)).collect()
}
