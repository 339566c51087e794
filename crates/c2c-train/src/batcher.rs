//! From examples to the batches of a run.
//!
//! Invariant: every prompt collates alone, which is tried once; so prompts collate together.

use c2c_fuser::PairBatch;
use c2c_text::Prompt;

use crate::{TrainError, TrainExample};

/// Collates examples by their index.
pub(crate) struct Batcher {
    prompts: Vec<Prompt>,
    receiver_pad: u32,
    sharer_pad: u32,
}

impl Batcher {
    /// Batches of these examples.
    ///
    /// # Errors
    /// An example that doesn't collate: told before a run begins, not in the middle of it.
    pub fn new(examples: &[TrainExample], (receiver_pad, sharer_pad): (u32, u32)) -> Result<Self, TrainError> {
        let prompts: Vec<Prompt> = examples.iter().map(|example| example.prompt.clone()).collect();
        for prompt in &prompts {
            PairBatch::collate(std::slice::from_ref(prompt), receiver_pad, sharer_pad)?;
        }
        Ok(Self { prompts, receiver_pad, sharer_pad })
    }

    /// The batch of these examples.
    ///
    /// # Errors
    /// No example.
    pub fn batch(&self, indexes: &[usize]) -> Result<PairBatch, TrainError> {
        let rows: Vec<Prompt> = indexes.iter().map(|index| self.prompts[*index].clone()).collect();
        Ok(PairBatch::collate(&rows, self.receiver_pad, self.sharer_pad)?)
    }
}
