//! A training step whose way back through the frozen receiver goes by kernels of our own.
//!
//! Autodiff only sees the fuser. The receiver runs without gradients on what the fuser made, and its way back
//! ([`Lm::cache_gradient`]) gives the loss's gradient in the fused slots. The sum of the fuser's result times that gradient, held
//! constant, then has the same gradients in the fuser's parameters as the loss has.

use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use c2c_kernels::TrainBackend;
use c2c_lm::{LayerKv, Lm, to_dtype};

use crate::in_place::joined_caches;
use crate::{Contexts, Fuser, FuserError, FuserMode, FuserParts, PairBatch};

/// A loss and its gradient in the hidden states that it was computed from, `[batch, tokens, hidden]`.
#[derive(Clone, Debug)]
pub struct LossGradient<B: burn::tensor::backend::Backend> {
    /// The loss, `[1]`.
    pub loss: Tensor<B, 1>,
    /// Its gradient.
    pub hidden: Tensor<B, 3>,
}

/// A loss and something to call `backward` on in its place.
#[derive(Debug)]
pub struct TracedLoss<B: AutodiffBackend> {
    /// The loss, `[1]`.
    pub loss: Tensor<B::InnerBackend, 1>,
    /// Its gradients in the fuser's parameters are those of the loss; its value means nothing.
    pub surrogate: Tensor<B, 1>,
}

impl<B: TrainBackend> Fuser<B> {
    /// True if [`Fuser::train_traced`] can be called: the receiver [traces](Lm::traces), all of the fuser's branches are trained,
    /// it is no ablation, and only the section before the last one is fused.
    pub fn traces(&self, receiver: &Lm<B::InnerBackend>, batch: &PairBatch) -> bool {
        let sections = batch.sections();
        let last_fused = sections.len().checked_sub(2);
        let fused = sections.iter().enumerate().filter(|(_, section)| section.fuse).map(|(index, _)| index);
        receiver.traces()
            && self.config().parts == FuserParts::default()
            && self.paper().is_some()
            && self.open_branches().is_none()
            && last_fused.is_some_and(|last| fused.eq([last]))
    }

    /// Fuses contexts, runs the last section of the batch on them, and finds the gradients of what `loss` makes of its hidden
    /// states; `None` if `loss` does.
    ///
    /// # Errors
    /// What the receiver refuses.
    ///
    /// # Panics
    /// Where [`Fuser::traces`] is false.
    pub fn train_traced(
        &self,
        contexts: Contexts<B::InnerBackend>,
        receiver: &Lm<B::InnerBackend>,
        batch: &PairBatch,
        mode: FuserMode,
        loss: impl FnOnce(Tensor<B::InnerBackend, 3>) -> Option<LossGradient<B::InnerBackend>>,
    ) -> Result<Option<TracedLoss<B>>, FuserError> {
        let Contexts { receiver: mut cache, done, sharer } = contexts;
        let sections = batch.sections();
        let tokens = sections[done - 1].receiver.tokens();
        let slots = cache.len() - tokens..cache.len();
        self.check_slots(&sharer, &cache, slots.end)?;
        let c = self.config();
        let Some(network) = self.paper() else {
            let (found, expected) =
                ("an all-in-one network".into(), "the paper's network, which alone is traced".into());
            return Err(FuserError::Config { key: "all_in_one", found, expected });
        };
        let branches: Vec<usize> = (0..c.branches()).collect();
        let Some(joined) = joined_caches(c, &branches, &sharer, &cache, &slots) else { return Ok(None) };
        drop(sharer);
        let (heads, head_dim) = (c.receiver_heads, c.receiver_head_dim);
        let (rows, width) = (cache.rows() * tokens, heads * head_dim);
        let own = joined.clone().narrow(2, c.sharer_width(), width);
        let joined = Tensor::<B, 3>::from_inner(joined);
        let scaled = {
            let _drawing = mode.drawing::<B>(&joined.device());
            network.scaled(c, joined, mode)
        };

        let dtype = receiver.dtype();
        let split = [c.branches() * cache.rows(), tokens, heads, head_dim];
        let fused = to_dtype(own + scaled.clone().inner(), dtype).reshape(split).swap_dims(1, 2);
        let rows_of = |branch: usize| fused.clone().narrow(0, branch * cache.rows(), cache.rows());
        let layers: Vec<_> =
            (0..c.layers()).map(|layer| LayerKv { key: rows_of(layer), value: rows_of(c.layers() + layer) }).collect();
        drop(fused);
        for (layer, fused) in layers.into_iter().enumerate() {
            cache.replace(layer, slots.start, fused)?;
        }

        let (hidden, trace) = receiver.hidden_traced(&batch.last().receiver, &mut cache)?;
        let Some(LossGradient { loss, hidden }) = loss(hidden) else { return Ok(None) };
        let (keys, values): (Vec<_>, Vec<_>) = receiver
            .cache_gradient(trace, &cache, hidden, slots)
            .into_iter()
            .map(|LayerKv { key, value }| (key, value))
            .unzip();
        drop(cache);
        let gradient = Tensor::cat([keys, values].concat(), 0).swap_dims(1, 2).reshape([c.branches(), rows, width]);
        let gradient = to_dtype(gradient, scaled.dtype());
        Ok(Some(TracedLoss { loss, surrogate: (scaled * Tensor::from_inner(gradient)).sum() }))
    }
}
