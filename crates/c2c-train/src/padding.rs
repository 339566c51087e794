//! How much of an epoch is padding, without training it.

use c2c_fuser::PairBatch;
use c2c_text::Prompt;

use crate::{Order, TrainError, TrainExample};

/// The Receiver's slots of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct EpochSlots {
    /// Batches.
    pub batches: usize,
    /// Slots that hold a token.
    pub tokens: usize,
    /// All slots: rows times the width of each section.
    pub slots: usize,
}

impl EpochSlots {
    /// Share of padding.
    pub fn padding(&self) -> f64 {
        1.0 - self.tokens as f64 / self.slots.max(1) as f64
    }
}

/// Collates the batches of an order's first epoch and counts their slots, as a run's metric `padding` does.
///
/// # Errors
/// An example that doesn't collate.
pub fn epoch_slots(
    examples: &[TrainExample],
    order: &Order,
    batch_size: usize,
    (receiver_pad, sharer_pad): (u32, u32),
) -> Result<EpochSlots, TrainError> {
    let mut counted = EpochSlots::default();
    for indexes in order.epoch(examples.len(), 0).chunks(batch_size.max(1)) {
        let prompts: Vec<&Prompt> = indexes.iter().map(|index| &*examples[*index].prompt).collect();
        let (tokens, slots) = PairBatch::collate(&prompts, receiver_pad, sharer_pad)?.padding();
        counted.batches += 1;
        counted.tokens += tokens;
        counted.slots += slots;
    }
    Ok(counted)
}
