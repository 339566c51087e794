//! Several Sharers: each reads the prompt in its own tokens, and the Receiver answers on a cache that all have changed.

use std::time::Instant;

use c2c_fuser::{FuserError, FusionOrder, PairBatch, Several, SeveralBatch};
use c2c_kernels::KernelBackend;
use c2c_lm::{DecodeOptions, Lm, LogitsWanted};
use c2c_text::Prompt;

use super::rows::{Stopwatch, milliseconds_since};
use super::{Answered, Answerer, in_shares, options};
use crate::input::Input;
use crate::several::Joined;
use crate::times::Phases;

/// A Receiver with all Sharers that are fused, ready to answer.
pub(super) struct Together<B: KernelBackend> {
    models: Several<B>,
    /// What each Sharer's rows are padded with.
    pads: Vec<u32>,
}

impl<B: KernelBackend> Together<B> {
    pub(super) fn new(receiver: &Lm<B>, joined: Vec<Joined<'_, B>>, order: FusionOrder) -> Result<Self, FuserError> {
        let pads = joined.iter().map(|one| options(&one.link.sharer, one.text.sharer(), 0).pad).collect();
        let links = joined.into_iter().map(|one| one.ready(receiver.dtype())).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { models: Several::new(receiver.clone(), links, order)?, pads })
    }

    /// The Sharers in the order of their prompts.
    pub(super) fn sharers(&self) -> impl Iterator<Item = &Lm<B>> {
        self.models.links().iter().map(|link| &link.sharer)
    }

    /// One batch a Sharer.
    fn batch(&self, inputs: &[&Input], receiver_pad: u32) -> Result<SeveralBatch, FuserError> {
        let of = |(place, pad): (usize, &u32)| {
            let prompts: Vec<Prompt> = inputs.iter().filter_map(|input| input.prompts().get(place).cloned()).collect();
            PairBatch::collate(&prompts, receiver_pad, *pad)
        };
        SeveralBatch::new(self.pads.iter().enumerate().map(of).collect::<Result<_, _>>()?)
    }
}

impl<B: KernelBackend> Answerer<'_, B> {
    /// Answers prompts of several Sharers.
    pub(super) fn together(
        &self,
        together: &Together<B>,
        inputs: &[&Input],
        options: &DecodeOptions,
    ) -> Result<Answered, FuserError> {
        let start = Instant::now();
        let batch = together.batch(inputs, self.options.pad)?;
        let mut watch = Stopwatch::<B>::start(self.receiver);
        let mut phases = Phases::default();
        let prefilled = together.models.prefill_observed(&batch, LogitsWanted::Last, &mut |phase| {
            *phases.of(phase) += watch.lap();
        })?;
        let (mut cache, logits) = (prefilled.cache, prefilled.logits);
        let tokens = batch.first().receiver_prompts();
        let tokens: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
        let next = batch.first().next_positions();
        let written = self.decode(self.receiver, &mut cache, logits, &tokens, &next, options)?;
        phases.decode = watch.lap();
        Ok(in_shares(written, milliseconds_since(start), phases, None))
    }
}
