//! From examples to the batches of a run.
//!
//! Invariant: every prompt collates alone, which is tried once; so prompts collate together.

use std::sync::Arc;

use c2c_fuser::{HostContexts, PairBatch};
use c2c_text::Prompt;

use crate::data::digest;
use crate::prepared::Prepared;
use crate::{TrainError, TrainExample};

/// Collates examples by their index, and reads their prepared caches if there are any.
pub(crate) struct Batcher {
    prompts: Vec<Arc<Prompt>>,
    receiver_pad: u32,
    sharer_pad: u32,
    prepared: Option<(Arc<Prepared>, Vec<String>)>,
}

impl Batcher {
    /// Batches of these examples.
    ///
    /// # Errors
    /// An example that doesn't collate, or isn't among the prepared ones: told before a run begins, not in the middle of it.
    pub fn new(
        examples: &[TrainExample],
        (receiver_pad, sharer_pad): (u32, u32),
        prepared: Option<Arc<Prepared>>,
    ) -> Result<Self, TrainError> {
        let prompts: Vec<Arc<Prompt>> = examples.iter().map(|example| example.prompt.clone()).collect();
        for prompt in &prompts {
            PairBatch::collate(std::slice::from_ref(prompt), receiver_pad, sharer_pad)?;
        }
        let prepared = match prepared {
            None => None,
            Some(prepared) => {
                let digests: Vec<String> = prompts.iter().map(|prompt| digest([&**prompt])).collect();
                prepared.check_examples(&examples.iter().collect::<Vec<_>>(), &digests)?;
                Some((prepared, digests))
            }
        };
        Ok(Self { prompts, receiver_pad, sharer_pad, prepared })
    }

    /// The batch of these examples, with what was prepared of it.
    ///
    /// # Errors
    /// No example; a damaged chunk.
    pub fn batch(&self, indexes: &[usize]) -> Result<(Arc<PairBatch>, Option<Arc<HostContexts>>), TrainError> {
        let rows: Vec<&Prompt> = indexes.iter().map(|index| &*self.prompts[*index]).collect();
        let batch = PairBatch::collate(&rows, self.receiver_pad, self.sharer_pad)?;
        let contexts = match &self.prepared {
            None => None,
            Some((prepared, digests)) => {
                let records = indexes.iter().map(|index| prepared.record(&digests[*index]));
                let records = records.collect::<Result<Vec<_>, _>>()?;
                Some(Arc::new(HostContexts::assemble(&batch, prepared.shape(), &records)?))
            }
        };
        Ok((Arc::new(batch), contexts))
    }
}
