//! The loss of a transformation: how far mapped caches are from the Receiver's own.

use burn::tensor::Tensor;
use c2c_fuser::{CachePairs, Fuser, FuserMode, GateDraw, PairBatch, PairModels};
use c2c_kernels::{KernelBackend, TrainBackend};
use c2c_lm::to_f32;

use crate::TrainError;
use crate::fit::{Micro, Task};
use crate::loss::scalar;
use crate::material::PairMaterial;

/// No Gate, so no temperature; dropout draws from the device's generator, which each micro-batch seeds.
pub(crate) const TRAINING: FuserMode = FuserMode::Train { temperature: 1.0, draw: GateDraw::Random };

/// Two frozen models and what they read.
pub(crate) struct Mapping<'a, B: TrainBackend> {
    pub(crate) pair: &'a PairModels<B::InnerBackend>,
    pub(crate) material: &'a PairMaterial,
    pub(crate) batch_size: usize,
}

impl<B: TrainBackend> Mapping<'_, B> {
    fn caches(&self, depth: usize, batch: &PairBatch) -> Result<Option<CachePairs<B::InnerBackend>>, TrainError> {
        Ok(CachePairs::compute(&self.pair.receiver, &self.pair.sharer, depth, batch)?)
    }
}

impl<B: TrainBackend> Task<B> for Mapping<'_, B> {
    type Module = Fuser<B>;

    fn loss(&self, module: &Fuser<B>, examples: &[usize]) -> Result<Micro<B>, TrainError> {
        let (batch, _) = self.material.training.batch(examples)?;
        let Some(caches) = self.caches(module.config().sharer_depth(), &batch)? else {
            let reason = "a batch whose prompts have no token that is fused; check alignment and data.sources";
            return Err(TrainError::Stopped(reason.into()));
        };
        Ok(Micro {
            loss: mean_squared_error(module, &caches.map(Tensor::from_inner), TRAINING)?,
            slots: batch.padding(),
        })
    }

    fn validation(&self, module: &Fuser<B::InnerBackend>) -> Result<Option<f64>, TrainError> {
        let (mut sum, mut tokens) = (0.0, 0);
        let all: Vec<usize> = (0..self.material.material.validation.len()).collect();
        for examples in all.chunks(self.batch_size) {
            let (batch, _) = self.material.validation.batch(examples)?;
            let Some(caches) = self.caches(module.config().sharer_depth(), &batch)? else { continue };
            sum += scalar(mean_squared_error(module, &caches, FuserMode::Infer)?) * caches.tokens() as f64;
            tokens += caches.tokens();
        }
        Ok((tokens > 0).then(|| sum / tokens as f64))
    }
}

/// The mean squared error over all layers, keys and values alike, `[1]`, f32.
pub(crate) fn mean_squared_error<B: KernelBackend>(
    fuser: &Fuser<B>,
    caches: &CachePairs<B>,
    mode: FuserMode,
) -> Result<Tensor<B, 1>, TrainError> {
    let mapped = fuser.fuse(&caches.sharer, &caches.receiver, mode)?;
    let apart = |mapped: Tensor<B, 4>, own: &Tensor<B, 4>| {
        let difference = to_f32(mapped) - to_f32(own.clone());
        (difference.clone() * difference).mean()
    };
    let layers = mapped.into_iter().zip(&caches.receiver);
    let errors: Vec<Tensor<B, 1>> =
        layers.flat_map(|(mapped, own)| [apart(mapped.key, &own.key), apart(mapped.value, &own.value)]).collect();
    Ok(Tensor::cat(errors, 0).mean())
}
